/**
 * Writes what docs/tui.md takes from the program: the key table, and captured screens of the real program, run in a
 * terminal (tmux) with a collection, a bundle and a gate of its own. Run it after a build: node docs/generate-tui.ts
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { keyTable } from '../cli/tui/keys.ts';
import { programFile } from '../fixtures/cli.ts';
import {
  largeImage,
  makeLayout,
  multiArchImage,
  pushImage,
  signedImage,
  singleImage,
} from '../fixtures/images.ts';
import { startOciRegistry } from '../fixtures/oci-registry.ts';
import { makeWalk, PASSPHRASE } from '../fixtures/walk.ts';
import { flip, layerNames } from '../fixtures/world.ts';
import { intoDocument } from './into-document.ts';

const FILE = path.join(import.meta.dirname, 'tui.md');
const SCREENS = path.join(import.meta.dirname, 'screens');
const SOCKET = `sealift-screens-${process.pid}`;

/** Screens that stand in docs/tui.md. */
const SHOWN = [
  'start',
  'import-pin',
  'import-verdicts',
  'image',
  'import-result',
  'refusal',
  'gate',
  'export-names',
  'export-images',
  'export-settings',
  'export-review',
  'transfer',
];

const walk = makeWalk();
const { sandbox } = walk;
const tmux = (...args: string[]): string =>
  execFileSync('tmux', ['-L', SOCKET, '-f', '/dev/null', ...args]).toString();
const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

async function waitFor(text: string | RegExp): Promise<string> {
  for (let tries = 0; tries < 300; tries += 1) {
    const screen = tmux('capture-pane', '-p');
    if (typeof text === 'string' ? screen.includes(text) : text.test(screen)) return screen;
    await pause(100);
  }
  throw new Error(`"${String(text)}" did not come:\n${tmux('capture-pane', '-p')}`);
}
async function capture(name: string, wanted: string): Promise<void> {
  const screen = await waitFor(wanted);
  // Where the example lives on this machine says nothing to anybody.
  const text = screen
    .split('\n')
    .map((line) =>
      line.replaceAll(sandbox.directory, '/home/me').replaceAll(slow.host, 'registry.example').trimEnd(),
    )
    .join('\n')
    .trimEnd();
  writeFileSync(path.join(SCREENS, `${name}.txt`), `${text}\n`);
}
const type = (...keys: string[]): string => tmux('send-keys', ...keys);

/** A registry whose large blobs come half and then wait, so that a transfer can be looked at. */
async function startSlowRegistry(): Promise<{ host: string; release(): void; stop(): Promise<void> }> {
  const registry = await startOciRegistry();
  await pushImage(registry.url, 'acme/data', '1', largeImage(5, 3_000_000));
  const waiting: (() => void)[] = [];
  let held = true;
  const server = http.createServer((request, response) => {
    const question = http.request(
      `${registry.url}${request.url ?? ''}`,
      { method: request.method ?? 'GET', headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        let sent = 0;
        answer.on('data', (part: Buffer) => {
          response.write(part);
          sent += part.length;
          if (!held || sent < 700_000 + waiting.length * 400_000) return;
          answer.pause();
          waiting.push(() => answer.resume());
        });
        answer.on('end', () => response.end());
      },
    );
    request.pipe(question);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    release: () => {
      held = false;
      for (const go of waiting) go();
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await registry.stop();
    },
  };
}

const slow = await startSlowRegistry();
try {
  mkdirSync(SCREENS, { recursive: true });
  await walk.init();
  const layout = sandbox.path('layout');
  makeLayout(layout, [
    { name: 'docker.io/acme/web:1.0', root: multiArchImage() },
    { name: 'docker.io/acme/signed:2.1', root: signedImage() },
    { name: 'docker.io/acme/job:7', root: singleImage() },
  ]);
  const fingerprint = await walk.rootFingerprint();
  const env = Object.entries(sandbox.env).map(([name, value]) => `${name}=${value ?? ''}`);
  const work = sandbox.path('work');
  mkdirSync(work);
  tmux(
    'new-session',
    '-d',
    ...['-x', '100', '-y', '28', '-c', work],
    ['env', '-i', ...env, 'TERM=tmux-256color', process.execPath, programFile()]
      .map((word) => `'${word}'`)
      .join(' '),
  );
  await capture('start', 'On this machine');
  type('j', 'Enter');
  await waitFor('image: ');
  type('-l', layout);
  type('Enter');
  await capture('export-names', '0 of 3 chosen');
  type('a', 'c');
  await waitFor('3 of 3 images');
  type('p', 'n');
  await waitFor('image: ');
  type('-l', `docker.io/acme/data:1=docker://${slow.host}/acme/data:1`);
  type('Enter');
  await waitFor('data:1  ');
  type('Escape');
  await waitFor('add image');
  type('k', 'k');
  await pause(1000);
  await capture('export-images', 'evidence: ');
  type('c');
  await waitFor('Which platforms?');
  type('c');
  await capture('export-settings', 'Where to');
  type('Enter');
  await capture('export-review', 'Sign and write');
  type('c');
  await waitFor('Passphrase for');
  type('-l', PASSPHRASE);
  type('Enter');
  await waitFor(/[1-9]\d* of \d+ blobs/);
  await pause(3000);
  await capture('transfer', ' blobs');
  slow.release();
  await waitFor('to the start');
  type('G');
  await capture('export-result', 'On the sealed side');
  type('Enter');
  await waitFor('images.tar');
  type('g', 'Enter');
  await waitFor('Which bundle?');
  type('Enter');
  await capture('import-pin', 'by telephone');
  type('-l', fingerprint.slice(-8));
  type('Enter');
  await capture('import-verdicts', 'every check passed');
  type('G', 'Enter');
  await waitFor('layers, ');
  type('Escape');
  await waitFor('images chosen');
  type('k', 'Enter');
  await capture('image', 'layers, ');
  type('Escape');
  await waitFor('images chosen');
  type('c');
  await capture('import-confirm', 'Let 4 images');
  type('y');
  await capture('import-result', 'to the start');
  type('Enter');
  await waitFor(/store, 4 images/);
  // The pointer is on the first line; the line of the gate is found by its name.
  type('/', 'g', 'a', 't', 'e', 'Enter');
  await pause(500);
  type('Enter');
  await capture('gate', 'pinned');
  type('Escape');
  await waitFor('filter: ');
  type('Escape');
  const good = path.join(work, 'images.tar');
  flip(good, path.join(work, 'damaged.tar'), layerNames(good)[0] ?? '', 3);
  // Another store, or the damaged layer would not be read: it is there already.
  type('g', 'Enter');
  await waitFor('Which bundle?');
  type('Enter');
  await waitFor('every check passed');
  type('o');
  await waitFor('Into which store?');
  type('C-u');
  type('-l', sandbox.path('other'));
  type('Enter');
  await waitFor('/other');
  type('c');
  await waitFor('Let 4 images');
  type('y');
  await capture('refusal', 'refused: it is damaged');
  let document = intoDocument(readFileSync(FILE, 'utf8'), 'keys', keyTable());
  for (const name of SHOWN) {
    const screen = readFileSync(path.join(SCREENS, `${name}.txt`), 'utf8').trimEnd();
    document = intoDocument(document, name, `\`\`\`text\n${screen}\n\`\`\``);
  }
  writeFileSync(FILE, document);
  const readme = path.join(import.meta.dirname, '..', 'README.md');
  const short = readFileSync(path.join(SCREENS, 'import-verdicts.txt'), 'utf8').split('\n');
  // Blank lines of a terminal that is larger than it needs to be say nothing in a README.
  const compact = short
    .filter((line, at) => line !== '' || short[at - 1] !== '')
    .join('\n')
    .trimEnd();
  writeFileSync(
    readme,
    intoDocument(readFileSync(readme, 'utf8'), 'import-verdicts', `\`\`\`text\n${compact}\n\`\`\``),
  );
} finally {
  try {
    tmux('kill-server');
  } catch {
    // It ended with the program.
  }
  sandbox.remove();
  await slow.stop();
}
