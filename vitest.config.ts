import { defineConfig } from 'vitest/config';
import SkippedReporter from './fixtures/skipped-reporter.ts';

/** Tests that run the built program; the others do without a build. */
const program = ['test/e2e/**/*.test.ts', 'test/interop/**/*.test.ts', 'test/cli/**/*.test.{ts,tsx}'];

/** Pages on a terminal without a window. */
const screens = ['test/tui/**/*.test.ts'];

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
    reporters: ['default', new SkippedReporter()],
    projects: [
      {
        extends: true,
        test: { name: 'library', include: ['test/**/*.test.{ts,tsx}'], exclude: [...program, ...screens] },
      },
      { extends: true, test: { name: 'screens', include: screens } },
      {
        extends: true,
        test: { name: 'program', include: program, globalSetup: ['fixtures/global-setup.ts'] },
      },
    ],
  },
});
