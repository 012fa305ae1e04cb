/** Drivers: the example of the documentation, and what a hostile one can do. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endGroup } from '../../../../cli/options/end-group.ts';
import { parseLocation } from '../../../../core/transport/location.ts';
import { openSource, type Source, type SourceOptions } from '../../../../core/transport/source.ts';
import {
  exampleDriver,
  shellDriver,
  writeDirectoryImage,
  writeDriver,
} from '../../../../fixtures/drivers.ts';
import {
  blobsOf,
  digestOf,
  makeLayout,
  manifestsOf,
  multiArchImage,
  signedImage,
  singleImage,
} from '../../../../fixtures/images.ts';
import { findPeer, hasPeer } from '../../../../fixtures/peers.ts';
import { makeWorld, SOURCE_OPTIONS } from '../../../../fixtures/world.ts';
import { blobOf, collect, failureOf, surroundings, visible } from '../surroundings.ts';

const IMAGE = singleImage();
const NAME = 'quay.io/acme/app:1';
let home: string;
let bin: string;
let around: ReturnType<typeof surroundings>;

beforeEach(() => {
  home = mkdtempSync(path.join(os.tmpdir(), 'sealift-driver-'));
  bin = path.join(home, 'bin');
  around = surroundings({ manifest: 100_000 });
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const environment = (more: Record<string, string> = {}) => ({
  PATH: `${bin}:${process.env['PATH']}`,
  HOME: home,
  ...more,
});
function open(text: string, options: Partial<SourceOptions> = {}): Promise<Source> {
  const all = { ...SOURCE_OPTIONS, timeoutMs: 5000, environment: environment(), endGroup, ...options };
  return openSource(parseLocation(text).location, all, around.context);
}
/** A source whose driver is made of these answers. */
function openShell(answers: Record<string, string>, options: Partial<SourceOptions> = {}): Promise<Source> {
  writeDriver(bin, 'test', shellDriver(answers));
  return open('test://place', options);
}
const file = (name: string, bytes: Uint8Array | string): string => {
  const full = path.join(home, name);
  writeFileSync(full, bytes);
  return full;
};
const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // What has ended and is not waited for still has a number.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};
async function endsSoon(pidFile: string): Promise<void> {
  const pid = Number(readFileSync(pidFile, 'utf8'));
  for (let tries = 0; tries < 100 && isRunning(pid); tries += 1) await wait(50);
  expect(isRunning(pid)).toBe(false);
}

describe('the example of the documentation', () => {
  async function exported(directory: string) {
    writeDriver(bin, 'dir', exampleDriver());
    const world = await makeWorld();
    try {
      const { images } = await world.export(
        {},
        {
          images: [parseLocation(`${NAME}=dir:${directory}`)],
          file: path.join(world.directory, 'out.tar'),
          source: { ...SOURCE_OPTIONS, timeoutMs: 20_000, environment: environment(), endGroup },
        },
      );
      return images;
    } finally {
      await world.close();
    }
  }

  it('brings an image of several platforms into a bundle', async () => {
    const image = multiArchImage();
    writeDirectoryImage(path.join(home, 'image'), image);
    expect(await exported(path.join(home, 'image'))).toMatchObject([{ name: NAME, digest: image.digest }]);
  });

  it.runIf(hasPeer('skopeo'))('reads what skopeo writes', async () => {
    makeLayout(path.join(home, 'layout'), [{ name: 'x', root: IMAGE }]);
    const to = path.join(home, 'image');
    const copy = ['copy', '--quiet', '--all', `oci:${path.join(home, 'layout')}:x`, `dir:${to}`];
    execFileSync(findPeer('skopeo') ?? '', copy);
    expect(await exported(to)).toMatchObject([{ name: NAME, digest: IMAGE.digest }]);
  });

  it('says what is not there', async () => {
    writeDriver(bin, 'dir', exampleDriver());
    const source = await open(`dir:${home}`);
    expect(await failureOf(source.manifest(''))).toMatchObject({
      code: 'source-not-found',
      hint: `it says: no image in ${home}`,
    });
  });
});

describe('a driver', () => {
  /** Files by the hex of their digests, in a directory that only its own variable names. */
  function serve(...roots: Parameters<typeof manifestsOf>[0][]) {
    const files = path.join(home, 'files');
    mkdirSync(files, { recursive: true });
    for (const root of roots) {
      for (const { bytes } of manifestsOf(root))
        writeFileSync(path.join(files, digestOf(bytes).slice(7)), bytes);
      for (const { bytes } of blobsOf(root))
        writeFileSync(path.join(files, digestOf(bytes()).slice(7)), bytes());
    }
    const cat = `cat "$SEALIFT_TRANSPORT_TEST_FILES/$(printf %s "$question" | sed 's/.*"digest":"sha256:\\([0-9a-f]*\\)".*/\\1/')" || exit 3`;
    return {
      answers: { manifest: cat, blob: cat },
      options: { environment: environment({ SEALIFT_TRANSPORT_TEST_FILES: files }) },
    };
  }

  it('lists its images, resolves them, and has their evidence', async () => {
    const root = signedImage();
    const { answers, options } = serve(root, IMAGE);
    const referrers = root.referrers.map(({ mediaType, digest, size, artifactType }) => ({
      mediaType,
      digest,
      size,
      artifactType,
    }));
    const tag = `sha256-${root.digest.slice(7)}.sig`;
    const source = await openShell(
      {
        ...answers,
        capabilities: `echo '{"protocol":1,"actions":["list","referrers","tags","sing"]}'`,
        list: `echo '{"images":[{"name":"${NAME}","reference":"the one"},{"name":"quay.io/acme/b:2"}]}'`,
        resolve: `case "$question" in *'"the one"'*) echo '{"digest":"${root.digest}"}';; *${tag}*) echo '{"digest":"${IMAGE.digest}","mediaType":"${IMAGE.mediaType}"}';; *) exit 3;; esac`,
        referrers: `echo '${JSON.stringify({ manifests: [...referrers, ...referrers] })}'`,
      },
      options,
    );
    expect(await source.names?.()).toEqual([
      { name: NAME, reference: 'the one' },
      { name: 'quay.io/acme/b:2', reference: 'quay.io/acme/b:2' },
    ]);
    expect(await source.manifest('the one')).toMatchObject({ digest: root.digest, mediaType: '' });
    const digest = digestAs(root.digest);
    expect((await source.referrers(digest)).descriptors.map((one) => one.digest)).toEqual(
      root.referrers.map((one) => one.digest),
    );
    expect(await source.tagged?.(digest)).toMatchObject([
      { tag, manifest: { digest: IMAGE.digest, mediaType: IMAGE.mediaType } },
    ]);
    for (const blob of blobsOf(root, false))
      expect(digestOf(await collect(source, { ...blob, digest: digestAs(blob.digest) }))).toBe(blob.digest);
  });

  it('is told nothing on its command line, and no secrets of the environment', async () => {
    const told = path.join(home, 'told');
    await openShell(
      { capabilities: `{ echo "$# $1 $question"; env; } > '${told}'; echo '{"protocol":1}'` },
      {
        environment: environment({
          LC_ALL: 'C',
          AWS_SECRET_ACCESS_KEY: 'secret-1',
          HTTPS_PROXY: 'http://me:secret-2@proxy.example',
          REGISTRY_AUTH_FILE: 'secret-3',
          SEALIFT_PASSPHRASE_FILE: 'secret-4',
          SEALIFT_TRANSPORT_OTHER_KEY: 'secret-5',
          SEALIFT_TRANSPORT_TEST_KEY: 'for the driver',
          LD_PRELOAD_X: 'secret-6',
        }),
      },
    );
    const text = readFileSync(told, 'utf8');
    expect(text).toMatch(/^1 capabilities \{"protocol":1,"place":"\/\/place"\}\n/);
    expect(text).toContain('SEALIFT_TRANSPORT_TEST_KEY=for the driver\n');
    expect(text).not.toContain('secret');
  });

  it('marks a digest that it made', async () => {
    const { answers, options } = serve(IMAGE);
    const resolve = `echo '{"digest":"${IMAGE.digest}","digestMadeHere":true}'`;
    const source = await openShell({ ...answers, resolve }, options);
    expect(await source.manifest('')).toMatchObject({ digestMadeHere: true });
  });

  it('that says something beside its answer has it passed on, inert', async () => {
    await openShell({
      capabilities: `printf 'be\\033[31mware\\n' >&2; echo '{"protocol":1}'`,
    });
    expect(around.events).toContainEqual({
      type: 'notice',
      level: 'info',
      code: 'driver-says',
      message: 'sealift-transport-test: be\\u{1b}[31mware',
    });
  });

  it('that is not there is an unknown location, which names the known ones', async () => {
    const error = await failureOf(open('nowhere://x'));
    expect(error.code).toBe('unknown-location');
    expect(error.message).toContain('docker://REFERENCE, oci:DIRECTORY');
    expect(error.hint).toContain('sealift-transport-nowhere on the PATH');
  });

  it.each(['.', 'bin', ''])('is not looked for in %j, which is relative', async (directory) => {
    writeDriver(bin, 'test', shellDriver({}));
    const error = await failureOf(open('test://x', { environment: { PATH: directory } }));
    expect(error.code).toBe('unknown-location');
  });
});

describe('a hostile driver', () => {
  const CONTENT = Buffer.alloc(300_000, 'content of a layer ');
  const BLOB = blobOf(CONTENT);

  it.each<[string, Record<string, string>, string]>([
    ['writes without end', { capabilities: 'yes' }, 'source-too-large'],
    ['writes no JSON', { capabilities: 'echo hello' }, 'source-protocol'],
    ['writes nothing', { capabilities: 'exit 0' }, 'source-protocol'],
    ['writes a key twice', { capabilities: `echo '{"protocol":1,"protocol":1}'` }, 'source-protocol'],
    ['writes two documents', { capabilities: `echo '{"protocol":1}{}'` }, 'source-protocol'],
    ['nests deeply', { capabilities: `printf '%20000s' | tr ' ' '['` }, 'source-protocol'],
    ['speaks another version', { capabilities: `echo '{"protocol":2}'` }, 'format-unsupported'],
    ['fails', { capabilities: 'exit 1' }, 'source-unreachable'],
    ['says that it may not', { capabilities: 'exit 4' }, 'source-unauthorized'],
  ])('that %s is refused', async (_title, answers, code) => {
    expect((await failureOf(openShell(answers))).code).toBe(code);
  });

  it.each<[string, string, string]>([
    ['is none', 'echo \'{"digest":"sha256:12"}\'', 'source-protocol'],
    ['is a path', 'echo \'{"digest":"../../etc/shadow"}\'', 'source-protocol'],
    ['is missing', "echo '{}'", 'source-protocol'],
    ['comes with no media type', `echo '{"digest":"${IMAGE.digest}","mediaType":"a b"}'`, 'source-protocol'],
    ['is not that of the manifest', `echo '{"digest":"${digestOf(CONTENT)}"}'`, 'digest-mismatch'],
  ])('whose digest %s is refused', async (_title, resolve, code) => {
    const manifest = `cat '${file('manifest', IMAGE.bytes)}'`;
    const source = await openShell({ resolve, manifest });
    expect((await failureOf(source.manifest('1'))).code).toBe(code);
  });

  it('whose manifest has no end is stopped at the limit', async () => {
    const pids = path.join(home, 'pid');
    const source = await openShell({
      resolve: `echo '{"digest":"${IMAGE.digest}"}'`,
      manifest: `echo $$ > '${pids}'; cat /dev/zero`,
    });
    const error = await failureOf(source.manifest('1'));
    expect(error).toMatchObject({ code: 'source-too-large', want: 100_000 });
    await endsSoon(pids);
  });

  it.each([
    ['../../x', 'quay.io/acme/x:1'],
    ['app', ''],
    ['quay.io/acme/app', 'x'],
    [NAME, 'r'.repeat(5000)],
  ])('that lists %j is refused', async (name, reference) => {
    const list = `cat '${file('list', JSON.stringify({ images: [{ name, reference }] }))}'`;
    const source = await openShell({ capabilities: `echo '{"protocol":1,"actions":["list"]}'`, list });
    expect(await failureOf(source.names?.() ?? Promise.resolve())).toMatchObject({ code: 'source-protocol' });
  });

  it.each<[string, (content: string) => string, string, RegExp]>([
    ['too little', (content) => `head -c 1000 '${content}'`, 'size-mismatch', /got 1000 bytes, want 300000/],
    ['too much', (content) => `cat '${content}'; echo x`, 'size-mismatch', /got more than 300000/],
    ['no end', () => 'cat /dev/zero', 'size-mismatch', /got more than/],
    [
      'a part, and dies',
      (content) => `head -c 70000 '${content}'; kill -9 $$`,
      'source-unreachable',
      /was ended by SIGKILL/,
    ],
    [
      'all of it, and fails',
      (content) => `cat '${content}'; echo 'it is  wrong' >&2; exit 9`,
      'source-unreachable',
      /exit code 9/,
    ],
  ])('whose blob is %s is refused', async (_title, script, code, message) => {
    const source = await openShell({ blob: script(file('content', CONTENT)) });
    const error = await failureOf(collect(source, BLOB));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  it('whose blob has another digest fails the export', async () => {
    const layer = blobsOf(IMAGE).at(-1);
    writeDriver(
      bin,
      'dir',
      exampleDriver().replace(
        "send(fileOf(''));",
        `if (digest === '${layer?.digest}') process.stdout.write('x'.repeat(${layer?.size})); else send(fileOf(''));`,
      ),
    );
    writeDirectoryImage(path.join(home, 'image'), IMAGE);
    const world = await makeWorld();
    const out = path.join(world.directory, 'out.tar');
    const error = await failureOf(
      world.export(
        {},
        {
          images: [parseLocation(`${NAME}=dir:${path.join(home, 'image')}`)],
          file: out,
          source: { ...SOURCE_OPTIONS, timeoutMs: 20_000, environment: environment(), endGroup },
        },
      ),
    );
    expect(error).toMatchObject({ code: 'digest-mismatch', want: layer?.digest });
    expect(existsSync(out)).toBe(false);
    await world.close();
  });

  it.each([
    ['says nothing', 'sleep 1000'],
    ['does not listen either', `trap '' TERM; while :; do sleep 1; done`],
    ['closes its output and goes on', 'exec >&-; sleep 1000'],
  ])('that %s is ended, with what it started', async (_title, script) => {
    const pids = path.join(home, 'pid');
    const child = path.join(home, 'child');
    const opening = openShell(
      { capabilities: `echo $$ > '${pids}'; sleep 1001 & echo $! > '${child}'; ${script}` },
      { timeoutMs: 300 },
    );
    expect(await failureOf(opening)).toMatchObject({ code: 'source-unreachable' });
    await endsSoon(pids);
    await endsSoon(child);
  });

  it('that leaves its output open to another program keeps nobody waiting', async () => {
    const child = path.join(home, 'child');
    const source = await openShell({
      blob: `cat '${file('content', CONTENT)}'; sleep 1000 & echo $! > '${child}'`,
    });
    expect((await collect(source, BLOB)).equals(CONTENT)).toBe(true);
    await endsSoon(child);
  });

  it('that drips has to end', async () => {
    const capabilities = 'while :; do printf " "; sleep 0.05; done';
    const error = await failureOf(openShell({ capabilities }, { timeoutMs: 100 }));
    expect(error.message).toContain('no whole answer within 1000 ms');
  });

  it('that talks without end on standard error is cut short and shown inert', async () => {
    const capabilities = `{ yes 'word\\033]0;title\\007' | head -c 3000000; printf '\\nlast \\033[2Jwords\\n'; } >&2; exit 1`;
    const error = await failureOf(openShell({ capabilities }));
    expect(error.hint).toBe('it says: last \\u{1b}[2Jwords');
    expect(visible(error, around.events)).not.toContain('\u001b');
  });

  it('that reads no question is judged by its answer', async () => {
    writeDriver(bin, 'test', `#!/bin/sh\nexec <&-\necho '{"protocol":1}'\n`);
    await open('test://place');
  });

  it('that cannot be started is named', async () => {
    writeDriver(bin, 'test', '#!/nowhere/at/all\n');
    expect((await failureOf(open('test://place'))).message).toContain('cannot be started');
  });

  it('ends with the run, also while nobody reads', async () => {
    const pids = path.join(home, 'pid');
    const source = await openShell({
      blob: `echo $$ > '${pids}'; trap '' TERM; cat '${file('content', CONTENT)}' /dev/zero`,
    });
    const content = await source.blob({ ...BLOB, mediaType: '' });
    const iterator = content[Symbol.asyncIterator]();
    await iterator.next();
    around.abort.abort();
    await endsSoon(pids);
    await expect(iterator.next()).rejects.toThrow();
  });

  it('ends where its blob is not read on', async () => {
    const pids = path.join(home, 'pid');
    const source = await openShell({
      blob: `echo $$ > '${pids}'; cat '${file('content', CONTENT)}' /dev/zero`,
    });
    for await (const _part of await source.blob({ ...BLOB, mediaType: '' })) break;
    await endsSoon(pids);
  });
});

function digestAs(text: string) {
  return text as ReturnType<typeof blobOf>['digest'];
}
