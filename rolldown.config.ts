import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { defineConfig, type Plugin } from 'rolldown';

/** The folder of the package a module belongs to; undefined for the project's own modules. */
function packageOf(id: string): string | undefined {
  const match = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id);
  return match?.[1];
}

/** Licences of everything that was bundled, in one file beside it. */
function licences(): Plugin {
  return {
    name: 'licences',
    generateBundle(_options, bundle) {
      const folders = new Set<string>();
      for (const output of Object.values(bundle)) {
        if (output.type !== 'chunk') continue;
        for (const id of output.moduleIds) {
          const folder = packageOf(id);
          if (folder !== undefined) folders.add(folder);
        }
      }
      const parts = [...folders].map((folder) => {
        const { name, version, license } = JSON.parse(
          readFileSync(path.join(folder, 'package.json'), 'utf8'),
        ) as Record<string, string>;
        const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
        const text = file === undefined ? '' : readFileSync(path.join(folder, file), 'utf8').trim();
        return `${name} ${version} (${license})\n\n${text}\n`;
      });
      this.emitFile({
        type: 'asset',
        fileName: 'THIRD-PARTY-LICENSES.txt',
        source: parts.sort().join(`\n${'-'.repeat(72)}\n\n`),
      });
    },
  };
}

/** Ink loads a debugger's client when it runs in development; there is none in the program. */
function withoutDevtools(): Plugin {
  return {
    name: 'without-devtools',
    resolveId: (id) => (id === 'react-devtools-core' ? '\0devtools' : null),
    load: (id) => (id === '\0devtools' ? 'export default {};' : null),
  };
}

/**
 * yargs renders its own help text at every run and throws it away: the program has its own (cli/help.ts). What it renders with
 * is slow to load, so it gets something that renders nothing.
 */
function withoutYargsHelp(): Plugin {
  const stubs = new Map([
    [
      'cliui',
      'export default () => ({ width: 80, div() {}, span() {}, resetOutput() {}, toString: () => "" });',
    ],
    ['string-width', 'export default (text) => text.length;'],
  ]);
  return {
    name: 'without-yargs-help',
    resolveId: (id, importer) =>
      stubs.has(id) && importer !== undefined && packageOf(importer)?.endsWith('/node_modules/yargs')
        ? `\0yargs-${id}`
        : null,
    load: (id) => (id.startsWith('\0yargs-') ? (stubs.get(id.slice('\0yargs-'.length)) ?? null) : null),
  };
}

/** The program: an entry that loads nothing, chunks that are loaded when needed, the hash worker beside them. */
export default defineConfig({
  input: {
    sealift: 'cli/main.ts',
    'hash-worker': 'core/pool/hash-worker.ts',
  },
  platform: 'node',
  plugins: [withoutDevtools(), withoutYargsHelp(), licences()],
  transform: { define: { 'process.env.NODE_ENV': '"production"', 'process.env.DEV': '"false"' } },
  output: {
    dir: 'dist/cli',
    format: 'esm',
    cleanDir: true,
    minify: true,
    comments: false,
    entryFileNames: '[name].js',
    chunkFileNames: '[name]-[hash].js',
  },
});
