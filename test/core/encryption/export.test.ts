import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { exportBundle } from '../../../core/export.ts';
import { importBundle } from '../../../core/import.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { pinRoot, readRoot } from '../../../core/trust-admin.ts';
import type { BundleInput, ExportOptions } from '../../../core/workflow-options.ts';
import { largeImage, makeLayout } from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import {
  DAY,
  makeWorld,
  SOURCE_OPTIONS,
  START,
  TEST_PASSPHRASE,
  type World,
} from '../../../fixtures/world.ts';
import { newReader } from './crafted.ts';

const NAME = 'docker.io/acme/secret:1';
const IMAGE = largeImage(5, 300_000);

let secret: string;
let certificate: string;
let world: World;

beforeAll(async () => {
  ({ secret, certificate } = await newReader());
});
beforeEach(async () => {
  world = await makeWorld();
});
afterEach(() => world.close());

const at = (name: string) => path.join(world.directory, name);
const to = () => ({ encryptTo: [{ path: 'reader.asc', bytes: Buffer.from(certificate) }] });
const inVolumes = (over: Partial<ExportOptions['volumes']> = {}) => ({
  ...to(),
  volumes: { size: 800_000, readBack: async () => false, ...over },
});

function input(...paths: readonly string[]): Extract<BundleInput, { kind: 'encrypted' }> {
  return {
    kind: 'encrypted',
    paths,
    keys: [{ path: 'reader.key', bytes: Buffer.from(secret) }],
    passphrase: async () => undefined,
  };
}

async function pin(source: string): Promise<void> {
  const { fingerprint } = await readRoot(world.collection, world.context());
  await pinRoot(
    {
      gate: world.gate,
      source,
      encrypted: input(source),
      fingerprint,
      scopes: [],
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );
}

function take(...paths: readonly string[]) {
  return importBundle(
    {
      bundle: input(...paths),
      gate: world.gate,
      store: world.store,
      only: [],
      overrides: { allowClockJump: false },
      concurrency: 2,
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );
}

describe('an encrypted export', () => {
  test('is one message of which nothing can be read, and goes through pin and import with the key', async () => {
    const result = await world.export({ [NAME]: IMAGE }, { ...to(), file: at('images.tar.gpg') });
    expect(result).toMatchObject({ output: at('images.tar.gpg') });
    expect(result.encryptedTo).toHaveLength(1);
    expect(result.volumes).toBeUndefined();
    const bytes = readFileSync(result.output);
    for (const word of ['sealift.json', 'ustar', NAME, 'sha256']) expect(bytes.includes(word)).toBe(false);
    expect(bytes.length - result.size).toBeLessThan(128 * 1024);
    expect(readdirSync(world.directory).filter((name) => name.endsWith('.partial'))).toEqual([]);
    await pin(result.output);
    expect((await take(result.output)).imported).toEqual([NAME]);
  });

  test('is refused to a certificate that has expired, before a version is used', async () => {
    const old = await newReader({ keyExpirationTime: 3600 });
    const before = await readRoot(world.collection, world.context());
    await expect(
      world.export(
        { [NAME]: IMAGE },
        { encryptTo: [{ path: 'late.asc', bytes: Buffer.from(old.certificate) }] },
      ),
    ).rejects.toMatchObject({ code: 'key-expired' });
    expect(await readRoot(world.collection, world.context())).toEqual(before);
    expect((await world.export({ [NAME]: IMAGE })).collection.version).toBe(2);
  });

  test('leaves a file alone that is there already', async () => {
    writeFileSync(at('images.tar.gpg'), 'mine');
    await expect(
      world.export({ [NAME]: IMAGE }, { ...to(), file: at('images.tar.gpg') }),
    ).rejects.toMatchObject({ code: 'destination-exists' });
    expect(readFileSync(at('images.tar.gpg'), 'utf8')).toBe('mine');
  });
});

describe('encrypted volumes', () => {
  const listed = () => readdirSync(at('out')).sort();

  test('are messages of their own, none larger than asked for, and are imported together', async () => {
    const result = await world.export({ [NAME]: IMAGE }, { ...inVolumes(), file: at('out/images.tar') });
    const total = result.volumes?.total ?? 0;
    expect(total).toBeGreaterThan(2);
    expect(listed()).toEqual(Array.from({ length: total }, (_, i) => `images.tar.00${i + 1}.gpg`));
    for (const name of listed()) expect(statSync(at(`out/${name}`)).size).toBeLessThanOrEqual(800_000);
    await pin(at('out'));
    expect((await take(at('out'))).imported).toEqual([NAME]);
  });

  test('go on behind the ones that are whole after a stop, and sign nothing again', async () => {
    let written = 0;
    const stop = new AbortController();
    const images = { [NAME]: IMAGE };
    const options = inVolumes({
      readBack: async () => {
        written += 1;
        if (written === 2) stop.abort(new Error('pulled'));
        return false;
      },
    });
    const layout = { file: at('out/images.tar') };
    const halted: World['context'] = (now) => ({ ...world.context(now), signal: stop.signal });
    const first = { ...world, context: halted };
    await expect(exportWith(first, images, { ...options, ...layout })).rejects.toBeDefined();
    const before = new Map(listed().map((name) => [name, readFileSync(at(`out/${name}`))]));
    expect(before.size).toBeGreaterThan(0);
    const second = await exportWith(world, images, {
      ...inVolumes(),
      ...layout,
      passphrase: () => Promise.reject(new Error('asked again')),
    });
    expect(second.resumed).toBe(true);
    for (const [name, bytes] of before) {
      if (name.endsWith('.gpg') && !name.startsWith('.'))
        expect(readFileSync(at(`out/${name}`)).equals(bytes)).toBe(true);
    }
    await pin(at('out'));
    expect((await take(at('out'))).imported).toEqual([NAME]);
  });

  test('are made again alone, with the same content', async () => {
    const images = { [NAME]: IMAGE };
    await exportWith(world, images, { ...inVolumes(), file: at('out/images.tar') });
    rmSync(at('out/images.tar.002.gpg'));
    await exportWith(world, images, { ...inVolumes({ only: 2 }), file: at('out/images.tar') });
    expect(existsSync(at('out/images.tar.002.gpg'))).toBe(true);
    await pin(at('out'));
    expect((await take(at('out'))).imported).toEqual([NAME]);
  });
});

/** The same request twice: the layout is written once. */
let layouts: string | undefined;
afterEach(() => {
  layouts = undefined;
});
async function exportWith(
  within: World,
  images: Readonly<Record<string, typeof IMAGE>>,
  options: Partial<ExportOptions> & { readonly file: string },
) {
  if (layouts === undefined) {
    layouts = at('layout');
    makeLayout(
      layouts,
      Object.entries(images).map(([name, root]) => ({ name, root })),
    );
  }
  const { file, ...rest } = options;
  return exportBundle(
    {
      collection: world.collection,
      images: Object.keys(images).map((name) => parseLocation(`${name}=oci:${layouts}:${name}`)),
      output: { kind: 'file', path: file },
      platforms: [],
      lifetime: 90 * DAY,
      includeEvidence: true,
      dockerArchive: false,
      force: false,
      concurrency: 4,
      source: SOURCE_OPTIONS,
      passphrase: async () => TEST_PASSPHRASE,
      pid: process.pid,
      ...rest,
    },
    within.context(START),
  );
}

describePeer(['gpg'], 'gpg', () => {
  test('decrypts the volumes, one after another, to the bundle', async () => {
    const home = mkdtempSync(path.join(os.tmpdir(), 'sl-enc-'));
    try {
      const gpg = (...args: readonly string[]) =>
        execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', ...args], {
          stdio: ['ignore', 'pipe', 'pipe'],
          maxBuffer: 64 * 1024 * 1024,
        });
      writeFileSync(path.join(home, 'reader.asc'), secret);
      gpg('--import', path.join(home, 'reader.asc'));
      const result = await world.export({ [NAME]: IMAGE }, { ...inVolumes(), file: at('out/images.tar') });
      const names = readdirSync(at('out')).sort();
      const bundle = Buffer.concat(names.map((name) => gpg('--decrypt', at(`out/${name}`))));
      expect(bundle.length).toBe(result.size);
      writeFileSync(at('plain.tar'), bundle);
      await world.pin(at('plain.tar'));
      expect((await world.import(at('plain.tar'))).imported).toEqual([NAME]);
    } finally {
      execFileSync('gpgconf', ['--homedir', home, '--kill', 'gpg-agent']);
      rmSync(home, { recursive: true, force: true });
    }
  });
});
