/** kill -9 at 40 points of an export into volumes and 40 of an import from them; the suite itself tries ten of each. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const root = path.join(import.meta.dirname, '../..');
const { status } = spawnSync(
  process.execPath,
  [
    path.join(root, 'node_modules/vitest/vitest.mjs'),
    'run',
    '--project',
    'program',
    'test/e2e/kill-volumes.test.ts',
  ],
  {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, SEALIFT_KILL_POINTS: process.env['SEALIFT_KILL_POINTS'] ?? '40' },
  },
);
process.exitCode = status ?? 1;
