import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { encryptStream, readRecipients } from '../../../core/encryption/encrypt.ts';
import { importBundle } from '../../../core/import.ts';
import type { BundleInput } from '../../../core/workflow-options.ts';
import { largeImage, singleImage } from '../../../fixtures/images.ts';
import { makeWorld, START, type World } from '../../../fixtures/world.ts';
import { newReader } from './crafted.ts';

const NAME = 'docker.io/acme/secret:1';

let secret: string;
let certificate: string;
let world: World;
let bundle: Buffer;

beforeAll(async () => {
  ({ secret, certificate } = await newReader());
});

beforeEach(async () => {
  world = await makeWorld();
  const first = await world.export({ 'docker.io/acme/other:1': singleImage('other') });
  await world.pin(first.output);
  await world.import(first.output);
  const exported = await world.export({ [NAME]: largeImage(4, 300_000) });
  bundle = readFileSync(exported.output);
});
afterEach(() => world.close());

const at = (name: string) => path.join(world.directory, name);

async function encrypt(bytes: Uint8Array, file: string): Promise<string> {
  async function* content() {
    yield Uint8Array.from(bytes);
  }
  const to = await readRecipients([{ path: 'reader.asc', bytes: Buffer.from(certificate) }], START);
  const chunks: Uint8Array[] = [];
  for await (const chunk of encryptStream(content(), to, world.context()))
    chunks.push(Uint8Array.from(chunk));
  writeFileSync(file, Buffer.concat(chunks));
  return file;
}

function take(paths: readonly string[], key = secret) {
  const input: BundleInput = {
    kind: 'encrypted',
    paths,
    keys: [{ path: 'reader.key', bytes: Buffer.from(key) }],
    passphrase: async () => undefined,
  };
  return importBundle(
    {
      bundle: input,
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

describe('an encrypted bundle', () => {
  test('is imported like the bundle in it', async () => {
    const result = await take([await encrypt(bundle, at('bundle.tar.gpg'))]);
    expect(result.imported).toEqual([NAME]);
    expect(result.checks.every(({ status }) => status !== 'failed')).toBe(true);
  });

  test('of a stranger is refused as the bundle in it is', async () => {
    const other = await world.stranger();
    const theirs = await other.export({ [NAME]: largeImage(1, 1000) });
    const file = await encrypt(readFileSync(theirs.output), at('theirs.tar.gpg'));
    await expect(take([file])).rejects.toMatchObject({ code: 'not-pinned' });
  });

  test('that fails its integrity check at the very end lets nothing in, and leaves nothing', async () => {
    const file = await encrypt(bundle, at('bundle.tar.gpg'));
    const message = readFileSync(file);
    // Behind the last byte of the bundle: only the check of the message itself can tell.
    message.writeUInt8(message.readUInt8(message.length - 3) ^ 1, message.length - 3);
    writeFileSync(file, message);
    const before = world.storeState();
    await expect(take([file])).rejects.toMatchObject({ code: 'decryption-failed' });
    expect(world.storeState()).toEqual(before);
    expect((await take([await encrypt(bundle, at('again.gpg'))])).imported).toEqual([NAME]);
  });

  test('that is cut short lets nothing in', async () => {
    const file = await encrypt(bundle, at('bundle.tar.gpg'));
    writeFileSync(file, readFileSync(file).subarray(0, -1));
    const before = world.storeState();
    await expect(take([file])).rejects.toMatchObject({ code: 'decryption-failed' });
    expect(world.storeState()).toEqual(before);
  });
});

describe('encrypted volumes', () => {
  async function volumes(directory = at('volumes')): Promise<string[]> {
    mkdirSync(directory);
    const size = 500_000;
    const files: string[] = [];
    for (let i = 0; i * size < bundle.length; i += 1) {
      const file = path.join(directory, `images.tar.00${i + 1}.gpg`);
      files.push(await encrypt(bundle.subarray(i * size, (i + 1) * size), file));
    }
    expect(files.length).toBeGreaterThan(2);
    return files;
  }

  test('are read in order, however they are given', async () => {
    const files = await volumes();
    expect((await take([at('volumes')])).imported).toEqual([NAME]);
    expect((await take([files[1] ?? ''])).unchanged).toEqual([NAME]);
    expect((await take([...files].reverse())).unchanged).toEqual([NAME]);
  });

  test('of which one is missing, or is of another bundle, are refused by name', async () => {
    const [first = '', , third = ''] = await volumes();
    await expect(take([first, third])).rejects.toMatchObject({
      code: 'volume-missing',
      subject: 'images.tar.002.gpg',
    });
    const stranger = await encrypt(bundle.subarray(0, 100), at('other.tar.002.gpg'));
    await expect(take([first, stranger])).rejects.toMatchObject({ code: 'volume-foreign' });
  });

  test('of which there is none are said not to be there', async () => {
    for (const place of [at('nowhere/images.tar.001.gpg'), at('nowhere')])
      await expect(take([place])).rejects.toMatchObject({ code: 'bundle-not-found' });
  });

  test('of which the last are missing end too early', async () => {
    const [first = '', second = ''] = await volumes();
    await expect(take([first, second])).rejects.toMatchObject({ code: 'bundle-truncated' });
  });
});
