/** The interactive program in a real terminal, key by key. */
import { existsSync, mkdirSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import xterm from '@xterm/headless';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { programFile } from '../../fixtures/cli.ts';
import {
  blobsOf,
  type FixtureManifest,
  largeImage,
  multiArchImage,
  pushImage,
} from '../../fixtures/images.ts';
import { type RunningRegistry, startAnyRegistry } from '../../fixtures/registry.ts';
import { makeWalk, PASSPHRASE, type Walk } from '../../fixtures/walk.ts';
import { HAS_TERMINAL, runInTerminal, type TerminalRun } from '../cli/terminal.ts';

const ENTER = '\r';
const ESC = '\u001b';
const LEAVE = '\u001b[?1049l';

let walk: Walk;
let registry: RunningRegistry;
let work: string;
const web = multiArchImage();
const big = largeImage(1, 200_000);

type Step = readonly [waitFor: string, type: string];

function open(steps: readonly Step[], env: Record<string, string> = {}): Promise<TerminalRun> {
  return runInTerminal(
    [process.execPath, programFile()],
    { ...(walk.sandbox.env as Record<string, string>), TERM: 'xterm-256color', ...env },
    steps,
    work,
  );
}

/** What is on the screen after the program has ended. */
async function screenAfter(run: TerminalRun): Promise<string> {
  const terminal = new xterm.Terminal({ cols: 80, rows: 24, allowProposedApi: true });
  await new Promise<void>((resolve) => terminal.write(run.screen, resolve));
  const { active } = terminal.buffer;
  expect(active.type).toBe('normal');
  return Array.from(
    { length: active.length },
    (_, at) => active.getLine(at)?.translateToString(true) ?? '',
  ).join('\n');
}

function expectRestored(run: TerminalRun): void {
  expect(run.cooked).toBe(true);
  expect(run.same).toBe(true);
  expect(run.screen.lastIndexOf(LEAVE)).toBeGreaterThan(run.screen.lastIndexOf('\u001b[?1049h'));
  expect(run.screen.lastIndexOf('\u001b[?25h')).toBeGreaterThan(run.screen.lastIndexOf('\u001b[?25l'));
}

/** From the first page to the page that lists an image of a registry without TLS. */
const addImage = (reference: string): Step[] => [
  ['this machine', `j${ENTER}`],
  ['empty when done', ESC],
  ['add image', 'p'],
  ['without TLS', 'n'],
  ['empty when done', `${reference}${ENTER}`],
  ['sha256:', ESC],
  ['continue', 'c'],
];

/** Hands on what the registry says, but not the content of one blob until it is told to. */
async function stallBlob(
  target: string,
  { digest, size }: { readonly digest: string; readonly size: number },
): Promise<{ host: string; release(): void; stop(): void }> {
  let held = true;
  const server = http.createServer((request, response) => {
    if (held && request.method === 'GET' && request.url?.endsWith(digest) === true) {
      response.writeHead(200, { 'content-length': size });
      response.write(Buffer.alloc(1000));
      return;
    }
    request.pipe(
      http.request(
        `${target}${request.url ?? ''}`,
        { method: request.method ?? 'GET', headers: request.headers },
        (answer) => {
          response.writeHead(answer.statusCode ?? 500, answer.headers);
          answer.pipe(response);
        },
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    release: () => {
      held = false;
    },
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function largestBlob(image: FixtureManifest): { readonly digest: string; readonly size: number } {
  return [...blobsOf(image)].sort((a, b) => b.size - a.size)[0] ?? { digest: '', size: 0 };
}

describe.skipIf(!HAS_TERMINAL)('the interactive program', () => {
  beforeAll(async () => {
    walk = makeWalk();
    registry = await startAnyRegistry();
    await walk.init({ keys: 'native' });
    work = walk.sandbox.path('work');
    mkdirSync(work);
    await pushImage(registry.url, 'acme/web', '1.0', web);
    await pushImage(registry.url, 'acme/big', '1', big);
  });
  afterAll(async () => {
    await registry?.stop();
    walk?.sandbox.remove();
  });

  test('a whole export from a registry, then a whole import', async () => {
    const out = await open([
      ...addImage(`${registry.host}/acme/web:1.0`),
      ['platforms?', 'c'],
      ['for how long', ENTER],
      ['write 1 image', 'c'],
      ['for the key', `${PASSPHRASE}${ENTER}`],
      ['copy fingerprint', 'q'],
    ]);
    expect(out.left, out.screen).toBe(0);
    expect(out.code).toBe(0);
    expectRestored(out);
    expect(out.screen).not.toContain(PASSPHRASE);
    const exported = await screenAfter(out);
    expect(exported).toContain('On the sealed side');
    expect(exported).toContain('sealift import images.tar');

    const fingerprint = await walk.rootFingerprint();
    const back = await open([
      ['this machine', ENTER],
      ['bundle?', ENTER],
      ['by telephone', `${fingerprint.slice(-8)}${ENTER}`],
      ['on their way in', 'c'],
      ['into the store?', 'y'],
      ['copy audit head', 'q'],
    ]);
    expect(back.left, back.screen).toBe(0);
    expect(back.code).toBe(0);
    expectRestored(back);
    expect(await screenAfter(back)).toMatch(/imported +\S+\/acme\/web:1\.0/);
    const { images } = await walk.json<{ images: { name: string }[] }>([
      'inspect',
      walk.sandbox.path('store'),
    ]);
    expect(images.map(({ name }) => name)).toEqual([`${registry.host}/acme/web:1.0`]);
  });

  test.each([
    ['once', '\u0003'],
    ['twice', '\u0003\u0003'],
  ])('Ctrl-C %s in the middle of a transfer', async (times, keys) => {
    const slow = await stallBlob(registry.url, largestBlob(big));
    try {
      const run = await open([
        ...addImage(`${slow.host}/acme/big:1`),
        ['for how long', `\u0015${times}.tar${ENTER}`],
        ['write 1 image', 'c'],
        ['for the key', `${PASSPHRASE}${ENTER}`],
        ['of 1 blob', keys],
      ]);
      expect(run.left, run.screen).toBe(0);
      expect(run.code).toBe(130);
      expectRestored(run);
      expect(existsSync(`${work}/${times}.tar`)).toBe(false);
      const after = await screenAfter(run);
      if (times === 'once') {
        expect(after).toContain('stopped by SIGINT');
        expect(after.replace(/\s+/g, ' ')).toContain('goes on where this one stopped: sealift export');
      }
    } finally {
      slow.stop();
    }
  });

  test('resized in the middle of a transfer, too small and large again; then stopped', async () => {
    const slow = await stallBlob(registry.url, largestBlob(big));
    try {
      const run = await open([
        ...addImage(`${slow.host}/acme/big:1`),
        ['for how long', `\u0015resized.tar${ENTER}`],
        ['write 1 image', 'c'],
        ['for the key', `${PASSPHRASE}${ENTER}`],
        ['of 1 blob', '^SIZE 60 16'],
        ['of 1 blob', '^SIZE 50 10'],
        ['larger window', '^SIZE 120 40'],
        ['of 1 blob', '\u0003'],
      ]);
      expect(run.left, run.screen).toBe(0);
      expect(run.code).toBe(130);
      expectRestored(run);
    } finally {
      slow.stop();
    }
  });

  test('killed in the middle of a transfer: the same export goes on from there', async () => {
    const slow = await stallBlob(registry.url, largestBlob(big));
    try {
      const reference = `${slow.host}/acme/big:1`;
      const run = await open([
        ...addImage(reference),
        ['for how long', `\u0015killed.tar${ENTER}`],
        ['write 1 image', 'c'],
        ['for the key', `${PASSPHRASE}${ENTER}`],
        ['of 1 blob', '^SIGKILL'],
      ]);
      expect(run.code).toBe(-9);
      expect(existsSync(`${work}/killed.tar`)).toBe(false);
      slow.release();
      // Signed already: no passphrase is asked for.
      const again = await walk.tryExport([reference], `${work}/killed.tar`, { passphrase: false });
      expect(again.code, again.stderr).toBe(0);
      expect(again.stdout).toContain('resumed');
    } finally {
      slow.stop();
    }
  });

  test('SIGTERM in the middle of a transfer gives the terminal back: the same export goes on', async () => {
    const slow = await stallBlob(registry.url, largestBlob(big));
    try {
      const run = await open([
        ...addImage(`${slow.host}/acme/big:1`),
        ['for how long', `\u0015terminated.tar${ENTER}`],
        ['write 1 image', 'c'],
        ['for the key', `${PASSPHRASE}${ENTER}`],
        ['of 1 blob', '^SIGTERM'],
      ]);
      expect(run.left, run.screen).toBe(0);
      expect(run.code).toBe(143);
      expectRestored(run);
      expect(existsSync(`${work}/terminated.tar`)).toBe(false);
      expect(await screenAfter(run)).toContain('stopped by SIGTERM');
      // From what was written, not from the screen, where a long command is cut into lines.
      const left = run.screen.slice(run.screen.lastIndexOf(LEAVE));
      const [, told] = /goes on where this one stopped: sealift (export [^\r\n]+)/.exec(left) ?? [];
      expect(told, left).toBeDefined();
      slow.release();
      // As told, and signed already: no passphrase is asked for.
      const again = await walk.sandbox.run([...(told ?? '').split(' '), '--no-input'], { cwd: work });
      expect(again.code, again.stderr).toBe(0);
      expect(again.stdout).toContain('resumed');
      expect(existsSync(`${work}/terminated.tar`)).toBe(true);
    } finally {
      slow.stop();
    }
  });

  test('typed faster than pages come: nothing is lost, nothing is done twice', async () => {
    const image = `${registry.host}/acme/web:1.0`;
    const run = await open([
      ['this machine', `jjkk${'j'.repeat(9)}gj${ENTER}`],
      ['empty when done', ESC],
      ['add image', `pn${image}${ENTER}${image}${ENTER}`],
      ['of 1 image', ESC],
      ['add image', 'q'],
    ]);
    expect(run.left, run.screen).toBe(0);
    expect(run.code).toBe(0);
    expectRestored(run);
  });

  test.each([
    ['q', 'q', 0],
    ['Ctrl-C', '\u0003', 130],
    ['SIGTERM', '^SIGTERM', 143],
    ['SIGINT', '^SIGINT', 130],
  ])('%s on the first page gives the terminal back', async (_, typed, code) => {
    const run = await open([['this machine', typed]]);
    expect(run.left).toBe(0);
    expect(run.code).toBe(code);
    expectRestored(run);
    expect(await screenAfter(run)).not.toContain('What do you want');
  });

  test('NO_COLOR and a locale without UTF-8: no colours, ASCII only', async () => {
    const run = await open([['this machine', 'q']], { NO_COLOR: '1', LANG: 'C' });
    expect(run.code).toBe(0);
    expect(run.screen).not.toMatch(/\u001b\[[0-9;]*m/);
    expect(run.screen).toMatch(/^[\x00-\x7f]*$/);
  });

  test.each([{ TERM: 'dumb' }, { CI: 'true' }])('%j opens nothing: the commands, and exit 2', async (env) => {
    const run = await open([], env as Record<string, string>);
    expect(run.code).toBe(2);
    expect(run.screen).toContain('sealift export');
    expect(run.screen).not.toContain('\u001b[?1049h');
  });

  test('a pipe as standard input opens nothing: the commands, and exit 2', async () => {
    const result = await walk.sandbox.run([], { input: 'jjj\r' });
    expect(result.code).toBe(2);
    expect(result.stdout).toBe('');
    expect(result.stderr).toContain('sealift export');
  });
});
