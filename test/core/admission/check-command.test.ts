import { createReadStream, existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CheckCommand } from '../../../core/admission/check-command.ts';
import type { Context } from '../../../core/context.ts';
import { noteKept } from '../../../core/delta/kept.ts';
import { importBundle } from '../../../core/import.ts';
import { parseDigest } from '../../../core/oci/digest.ts';
import type { ImportResult } from '../../../core/results.ts';
import { openStore } from '../../../core/store/store.ts';
import { digestsOf, signedImage, singleImage } from '../../../fixtures/images.ts';
import { blobDigests } from '../../../fixtures/store.ts';
import { makeWorld, type World } from '../../../fixtures/world.ts';

const good = signedImage();
const bad = singleImage('bad');
const GOOD = 'a.example/good:1';
const BAD = 'a.example/bad:1';
let world: World;
let bundle: string;

beforeEach(async () => {
  world = await makeWorld();
  bundle = path.join(world.directory, 'bundle.tar');
  await world.export({ [GOOD]: good, [BAD]: bad }, { file: bundle });
  await world.pin(bundle);
});
afterEach(() => world.close());

function script(text: string): string {
  const file = path.join(world.directory, 'scanner');
  writeFileSync(file, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return file;
}

interface Options {
  readonly args?: readonly string[];
  readonly timeoutMs?: number;
  readonly admitPassing?: boolean;
  readonly streamed?: boolean;
  readonly signal?: AbortSignal;
}

function importChecked(program: string, options: Options = {}): Promise<ImportResult> {
  const { args = [], timeoutMs = 20_000, admitPassing, streamed, signal } = options;
  const checkCommand: CheckCommand = {
    command: [program, ...args],
    environment: { PATH: process.env['PATH'], DIRECTORY: world.directory },
    timeoutMs,
    kill: (group, name) => {
      try {
        process.kill(-group, name);
      } catch {
        // ended
      }
    },
  };
  const context: Context = { ...world.context(), ...(signal ? { signal } : {}) };
  return importBundle(
    {
      bundle: streamed
        ? { kind: 'stream', stream: createReadStream(bundle) }
        : { kind: 'file', path: bundle },
      gate: world.gate,
      store: world.store,
      only: [],
      admitPassing,
      checkCommand,
      overrides: { allowClockJump: false },
      concurrency: 2,
      pid: process.pid,
      actor: 'tester',
    },
    context,
  );
}

const REFUSE_BAD = `case "$SEALIFT_IMAGE" in *bad*) echo "FOUND: Eicar"; exit 1;; esac`;
const audit = (): string => readFileSync(path.join(world.gate, 'audit.log'), 'utf8');
const scanned = (): string[] =>
  readFileSync(path.join(world.directory, 'scanned'), 'utf8').trim().split('\n');

describe('the check command', () => {
  it.each([false, true])('sees each image as a layout before it is in (streamed: %s)', async (streamed) => {
    const program = script(
      `test -f "$1/oci-layout" || exit 9
       (cd "$1/blobs/sha256" && for blob in *; do echo "$blob  $blob"; done | sha256sum --check --quiet) || exit 8
       grep -q "$SEALIFT_DIGEST" "$1/index.json" || exit 7
       test -e "${world.store}/index.json" && grep -q example "${world.store}/index.json" && exit 6
       ls "$1/blobs/sha256" | sort > "$DIRECTORY/$(basename "$SEALIFT_IMAGE")"
       echo "$SEALIFT_IMAGE" >> "$DIRECTORY/scanned"`,
    );
    const result = await importChecked(program, { streamed });
    expect(result.imported).toEqual([BAD, GOOD]);
    expect(result.checked?.map(({ ended }) => ended)).toEqual(['exit 0', 'exit 0']);
    expect(scanned()).toEqual([BAD, GOOD]);
    const seen = readFileSync(path.join(world.directory, 'good:1'), 'utf8').trim().split('\n');
    expect(seen.map((hex) => `sha256:${hex}`)).toEqual(digestsOf(good));
    expect(existsSync(path.join(world.store, '.sealift', 'check'))).toBe(false);
  });

  it('keeps everything out where it refuses one image, and its blobs go', async () => {
    await expect(importChecked(script(REFUSE_BAD))).rejects.toMatchObject({
      code: 'check-refused',
      subject: BAD,
      message: expect.stringContaining('exit 1: FOUND: Eicar'),
    });
    const { images } = await (await openStore(world.store, { create: false })).list();
    expect(images).toEqual([]);
    expect(blobDigests(world.store)).toEqual([]);
    expect(audit()).toContain('FOUND: Eicar');
    expect(audit()).toContain('"check-refused"');
  });

  it('that refuses takes nothing away that a receipt has told the other side is here', async () => {
    await world.import(bundle);
    const layers = bad.blobs.map(({ digest }) => parseDigest(digest));
    const note = { collection: 'c'.repeat(64), receipt: 'a'.repeat(64), expires: '2027-01-01T00:00:00Z' };
    await noteKept(world.store, { ...note, layers });
    const store = await openStore(world.store, { create: false });
    const lock = await store.lock(process.pid);
    await store.admit([], { withdraw: [BAD] });
    await lock.release();
    await expect(importChecked(script('exit 1'))).rejects.toMatchObject({ code: 'check-refused' });
    expect(blobDigests(world.store)).toEqual(expect.arrayContaining(layers));
  });

  it('lets in what passes where that is asked for, and no blob of the other', async () => {
    const result = await importChecked(script(REFUSE_BAD), { admitPassing: true });
    expect(result.imported).toEqual([GOOD]);
    expect(result.images.find(({ name }) => name === BAD)).toMatchObject({
      admitted: false,
      verdict: 'invalid',
      reason: expect.stringContaining('check command refuses it'),
    });
    expect(blobDigests(world.store)).toEqual(digestsOf(good));
  });

  it('refuses all where it refuses all, whatever is asked for', async () => {
    await expect(importChecked(script('exit 3'), { admitPassing: true })).rejects.toMatchObject({
      code: 'check-refused',
    });
  });

  it('changes nothing in the store by changing what it looks at', async () => {
    await importChecked(
      script(`for blob in "$1"/blobs/sha256/*; do chmod u+w "$blob"; echo x > "$blob"; done`),
    );
    expect(blobDigests(world.store)).toEqual([...new Set([...digestsOf(good), ...digestsOf(bad)])].sort());
  });

  it('is ended with all that it started when it takes too long, and has not passed', async () => {
    const program = script(`sleep 1000 & echo $! >> "$DIRECTORY/children"; wait`);
    await expect(importChecked(program, { timeoutMs: 300 })).rejects.toMatchObject({
      code: 'check-refused',
      message: expect.stringContaining('no answer within'),
    });
    const children = readFileSync(path.join(world.directory, 'children'), 'utf8').trim().split('\n');
    expect(children.length).toBeGreaterThan(0);
    for (const pid of children) await expect.poll(() => isRunning(Number(pid))).toBe(false);
  });

  it('is not waited for where something it started has left its group and holds its output open', async () => {
    const program = script(
      'setsid sh -c \'echo $$ > "$DIRECTORY/daemon"; exec sleep 60\' &\nsleep 0.3\necho left; exit 0',
    );
    try {
      const { checked } = await importChecked(program);
      expect(checked?.map(({ passed, output }) => [passed, output])).toEqual([
        [true, 'left'],
        [true, 'left'],
      ]);
    } finally {
      process.kill(Number(readFileSync(path.join(world.directory, 'daemon'), 'utf8')), 'SIGKILL');
    }
  });

  it('is ended when the import is stopped', async () => {
    const controller = new AbortController();
    const program = script(`echo $$ > "$DIRECTORY/pid"; sleep 1000`);
    const importing = importChecked(program, { signal: controller.signal });
    const failed = expect(importing).rejects.toMatchObject({ code: 'cancelled' });
    await expect.poll(() => existsSync(path.join(world.directory, 'pid')), { timeout: 10_000 }).toBe(true);
    controller.abort();
    await failed;
    expect(existsSync(path.join(world.store, '.sealift', 'check'))).toBe(false);
    const pid = Number(readFileSync(path.join(world.directory, 'pid'), 'utf8'));
    await expect.poll(() => isRunning(pid)).toBe(false);
  });

  it('is told of with the end of what it prints, made inert', async () => {
    const program = script(`head -c 300000 /dev/zero | tr '\\0' a; printf 'end \\033[2J'`);
    const { checked } = await importChecked(program);
    expect(checked?.[0]?.output.length).toBeLessThan(17_000);
    expect(checked?.[0]?.output.endsWith('aend \\u{1b}[2J')).toBe(true);
    expect(audit()).not.toContain('\u001b');
  });

  it('takes the directory where {} stands', async () => {
    const program = script(`test "$1" = --deep && test -f "$2/oci-layout" && test "$3" = --quiet`);
    const { imported } = await importChecked(program, { args: ['--deep', '{}', '--quiet'] });
    expect(imported).toHaveLength(2);
  });

  it('that is not there is found out before anything is read', async () => {
    for (const program of ['/nowhere/scanner', 'no-such-scanner-anywhere'])
      await expect(importChecked(program)).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(existsSync(world.store)).toBe(false);
  });
});

function isRunning(pid: number): boolean {
  try {
    // A zombie that nobody has waited for has ended all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
