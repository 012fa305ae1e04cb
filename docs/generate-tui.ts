/**
 * Writes what docs/tui.md takes from the program: the key table, and captured screens of the real program, run in a
 * terminal (tmux) with a collection, a bundle and a gate of its own. Run it after a build: node docs/generate-tui.ts
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { keyTable } from '../cli/tui/keys.ts';
import { programFile } from '../fixtures/cli.ts';
import { makeLayout, multiArchImage, signedImage, singleImage } from '../fixtures/images.ts';
import { makeWalk, PASSPHRASE } from '../fixtures/walk.ts';
import { intoDocument } from './into-document.ts';

const FILE = path.join(import.meta.dirname, 'tui.md');
const SCREENS = path.join(import.meta.dirname, 'screens');
const SOCKET = `sealift-screens-${process.pid}`;

const walk = makeWalk();
const { sandbox } = walk;
const tmux = (...args: string[]): string =>
  execFileSync('tmux', ['-L', SOCKET, '-f', '/dev/null', ...args]).toString();
const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

async function waitFor(text: string): Promise<string> {
  for (let tries = 0; tries < 100; tries += 1) {
    const screen = tmux('capture-pane', '-p');
    if (screen.includes(text)) return screen;
    await pause(100);
  }
  throw new Error(`"${text}" did not come:\n${tmux('capture-pane', '-p')}`);
}
async function capture(name: string, wanted: string): Promise<void> {
  const screen = await waitFor(wanted);
  // Where the example lives on this machine says nothing to anybody.
  const text = screen
    .split('\n')
    .map((line) => line.replaceAll(sandbox.directory, '/home/me').trimEnd())
    .join('\n')
    .trimEnd();
  writeFileSync(path.join(SCREENS, `${name}.txt`), `${text}\n`);
}
const type = (...keys: string[]): string => tmux('send-keys', ...keys);

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
  mkdirSync(sandbox.path('work'));
  tmux(
    'new-session',
    '-d',
    ...['-x', '100', '-y', '28', '-c', sandbox.path('work')],
    ['env', '-i', ...env, 'TERM=tmux-256color', process.execPath, programFile()]
      .map((word) => `'${word}'`)
      .join(' '),
  );
  await capture('start', 'On this machine');
  type('j', 'Enter');
  await waitFor('Images to carry');
  type('-l', layout);
  type('Enter');
  await waitFor('0 of 3 chosen');
  type('a', 'c');
  await waitFor('3 images,');
  await pause(500);
  await capture('export-images', 'signed:2.1');
  type('c');
  await waitFor('Which platforms?');
  type('c');
  await waitFor('Where to');
  type('Enter', 'Enter');
  await capture('export-review', 'Sign and write');
  type('c');
  await waitFor('Passphrase for');
  type('-l', PASSPHRASE);
  type('Enter');
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
  type('j', 'Enter');
  await capture('image', 'layers, ');
  type('Escape');
  await waitFor('images chosen');
  type('c');
  await capture('import-confirm', 'Let 3 images');
  type('y');
  await capture('import-result', 'imported');
  let document = intoDocument(readFileSync(FILE, 'utf8'), 'keys', keyTable());
  for (const name of [
    'start',
    'import-pin',
    'import-verdicts',
    'image',
    'import-result',
    'export-images',
    'export-review',
  ]) {
    const screen = readFileSync(path.join(SCREENS, `${name}.txt`), 'utf8').trimEnd();
    document = intoDocument(document, name, `\`\`\`text\n${screen}\n\`\`\``);
  }
  writeFileSync(FILE, document);
} finally {
  try {
    tmux('kill-server');
  } catch {
    // It ended with the program.
  }
  sandbox.remove();
}
