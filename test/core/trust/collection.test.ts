import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Metadata, MetadataKind } from '@tufjs/models';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { advance } from '../../../core/trust/advance.ts';
import {
  type Collection,
  createCollection,
  type FinishedCollection,
  type ImageTarget,
  openCollection,
  type StageOptions,
} from '../../../core/trust/collection.ts';
import { formatDate } from '../../../core/trust/metadata.ts';
import { listTargets } from '../../../core/trust/search.ts';
import { openOpenpgpSigner } from '../../../core/trust/signer.ts';
import { TrustedSet } from '../../../core/trust/trusted-set.ts';

const DAY = 24 * 60 * 60 * 1000;
const CREATED = new Date('2026-06-01T10:00:00Z');
const later = (days: number): Date => new Date(CREATED.getTime() + days * DAY);
const MANIFEST = Buffer.from('{"bundle":"manifest"}');

let work: string;
let count = 0;
beforeAll(async () => {
  work = await mkdtemp(path.join(os.tmpdir(), 'sl-collection-'));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    return (error as SealiftError).code ?? `not a SealiftError: ${String(error)}`;
  }
  return 'accepted';
}

function optionsFor(keys: 'openpgp' | 'native' = 'native') {
  count += 1;
  return {
    directory: path.join(work, `collection-${count}`),
    name: 'Team Ä',
    keys,
    passphrase: 'main pass',
    recoveryPassphrase: 'recovery pass',
    recoveryFile: path.join(work, 'safe', `recovery-${count}.key`),
    created: CREATED,
    rsaBits: 2048,
    limits: DEFAULT_LIMITS,
  };
}

const image = (content: string): ImageTarget => ({
  length: content.length,
  sha256: createHash('sha256').update(content).digest('hex'),
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
});

async function exportOnce(
  collection: Collection,
  images: Record<string, string>,
  changes: Partial<StageOptions> = {},
): Promise<{ finished: FinishedCollection; collection: Collection }> {
  const version = await collection.reserveVersion();
  const signer = await collection.unlock('main pass');
  const staged = await collection.stage(
    {
      version,
      created: CREATED,
      lifetimeMs: 90 * DAY,
      images: new Map(Object.entries(images).map(([name, content]) => [name, image(content)])),
      ...changes,
    },
    signer,
  );
  const finished = await staged.finish(MANIFEST);
  return { finished, collection: await collection.publish(finished.files) };
}

/** What a gate that has pinned the first root makes of a bundle. */
async function gate(
  collection: Collection,
  { files }: FinishedCollection,
  now = CREATED,
): Promise<TrustedSet> {
  const byName = new Map(files.map(({ name, bytes }) => [name.slice('metadata/'.length), bytes] as const));
  const set = await TrustedSet.fromPin(collection.id, [byName.get('1.root.json')!], {
    now,
    limits: DEFAULT_LIMITS,
    certificates: files.filter(({ name }) => name.endsWith('.pgp')).map(({ bytes }) => bytes),
  });
  await advance(set, byName, async () => {});
  return set;
}

const mode = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;

describe('a new collection', () => {
  it('with openpgp keys is whole: keys, recovery key, revocation certificates, metadata', async () => {
    const options = { ...optionsFor('openpgp'), userId: 'Team <team@example.invalid>' };
    const collection = await createCollection(options);
    const { directory } = options;
    expect((await readdir(directory)).sort()).toEqual([
      'certificates',
      'collection.json',
      'counter',
      'keys',
      'metadata',
      'revocation',
    ]);
    expect(await mode(path.join(directory, 'keys'))).toBe(0o700);
    const [key] = await readdir(path.join(directory, 'keys'));
    expect(await mode(path.join(directory, 'keys', key!))).toBe(0o600);
    expect(await mode(options.recoveryFile)).toBe(0o600);
    expect(await readdir(path.join(directory, 'certificates'))).toHaveLength(2);
    expect(await readdir(path.join(directory, 'revocation'))).toHaveLength(2);
    expect(await readFile(path.join(directory, 'keys', key!), 'utf8')).toContain('PGP PRIVATE KEY BLOCK');
    const summary = await collection.summary();
    expect(summary.roles.map(({ role }) => role)).toEqual([
      'root',
      'timestamp',
      'snapshot',
      'targets',
      'bundles',
      'images',
    ]);
    expect(summary.roles[0]?.keys.map(({ userId }) => userId)).toEqual([
      'Team <team@example.invalid>',
      'Team (recovery) <team@example.invalid>',
    ]);
    expect(summary).toMatchObject({
      id: collection.rootFingerprint,
      version: 1,
      rootVersion: 1,
      expires: formatDate(later(90)),
    });
    const recovery = await openOpenpgpSigner(await readFile(options.recoveryFile), 'recovery pass', 'r');
    expect(collection.certificates.has(recovery.fingerprint!)).toBe(true);
    expect(await codeOf(collection.unlock('recovery pass'))).toBe('passphrase-needed');

    const first = await exportOnce(collection, { 'docker.io/library/alpine:3.20': 'a' });
    const set = await gate(first.collection, first.finished);
    expect(listTargets(set).map(({ name }) => name)).toEqual(['docker.io/library/alpine:3.20']);
  });

  it('with native keys is one that the @tufjs models verify', async () => {
    const { collection, finished } = await exportOnce(await createCollection(optionsFor()), { 'a/b:1': 'x' });
    const json = (name: string) =>
      JSON.parse(
        Buffer.from(finished.files.find((file) => file.name === `metadata/${name}`)!.bytes).toString(),
      );
    const root = Metadata.fromJSON(MetadataKind.Root, json('1.root.json'));
    root.verifyDelegate('root', root);
    root.verifyDelegate('timestamp', Metadata.fromJSON(MetadataKind.Timestamp, json('timestamp.json')));
    root.verifyDelegate('snapshot', Metadata.fromJSON(MetadataKind.Snapshot, json('2.snapshot.json')));
    const targets = Metadata.fromJSON(MetadataKind.Targets, json('1.targets.json'));
    root.verifyDelegate('targets', targets);
    const images = Metadata.fromJSON(MetadataKind.Targets, json('2.images.json'));
    targets.verifyDelegate('images', images);
    targets.verifyDelegate('bundles', Metadata.fromJSON(MetadataKind.Targets, json('2.bundles.json')));
    expect(Object.keys(images.signed.targets)).toEqual(['a/b:1']);
    expect([...targets.signed.delegations!.rolesForTarget('a/b:1')]).toEqual([
      { role: 'images', terminating: true },
    ]);
    expect([...targets.signed.delegations!.rolesForTarget(`_bundle/${collection.id}/2.json`)][0]?.role).toBe(
      'bundles',
    );
  });

  it('is made with RSA-3072 unless told otherwise', async () => {
    const { rsaBits: _, ...options } = optionsFor('openpgp');
    const collection = await createCollection(options);
    const { readKey } = await import('openpgp');
    for (const bytes of collection.certificates.values()) {
      const key = await readKey({ binaryKey: bytes });
      expect(key.getAlgorithmInfo()).toMatchObject({ algorithm: 'rsaEncryptSign', bits: 3072 });
    }
  });

  it('takes nobody’s place', async () => {
    const options = optionsFor();
    await createCollection(options);
    expect(await codeOf(createCollection({ ...optionsFor(), directory: options.directory }))).toBe(
      'collection-exists',
    );
    expect(await codeOf(createCollection({ ...optionsFor(), recoveryFile: options.recoveryFile }))).toBe(
      'destination-exists',
    );
    const full = optionsFor();
    await mkdir(full.directory);
    await writeFile(path.join(full.directory, 'precious'), 'x');
    expect(await codeOf(createCollection(full))).toBe('destination-exists');
    expect(await codeOf(createCollection({ ...optionsFor(), passphrase: '' }))).toBe('passphrase-needed');
    expect(await codeOf(createCollection({ ...optionsFor(), name: '' }))).toBe('invalid-argument');
    const empty = optionsFor();
    await mkdir(empty.directory);
    expect(await codeOf(createCollection(empty))).toBe('accepted');
  });

  it('leaves nothing behind when it fails', async () => {
    const options = optionsFor();
    await writeFile(path.join(work, 'file'), 'x');
    expect(
      await codeOf(createCollection({ ...options, recoveryFile: path.join(work, 'file', 'below') })),
    ).not.toBe('accepted');
    const left = (await readdir(work)).filter((name) => name.includes(path.basename(options.directory)));
    expect(left).toEqual([]);
  });
});

describe('exports', () => {
  it('are cumulative, and sign images only when they change', async () => {
    let collection = await createCollection(optionsFor());
    const first = await exportOnce(collection, { 'a:1': 'x', 'b:1': 'y' });
    expect(first.finished.files.map(({ name }) => name)).toEqual([
      'metadata/1.root.json',
      'metadata/timestamp.json',
      'metadata/2.snapshot.json',
      'metadata/1.targets.json',
      'metadata/2.bundles.json',
      'metadata/2.images.json',
    ]);
    const second = await exportOnce(first.collection, { 'a:1': 'x' });
    expect(second.finished.files.map(({ name }) => name)).toContain('metadata/2.images.json');
    const third = await exportOnce(second.collection, { 'b:1': 'moved', 'c:1': 'z' });
    expect(third.finished.files.map(({ name }) => name)).toContain('metadata/4.images.json');
    collection = await openCollection(collection.directory, DEFAULT_LIMITS);
    expect([...collection.images.keys()].sort()).toEqual(['a:1', 'b:1', 'c:1']);
    expect(collection.images.get('b:1')).toEqual({ ...image('moved'), sha512: undefined });
    expect(listTargets(await gate(collection, third.finished))).toHaveLength(3);
    expect(third.finished.summary).toMatchObject({
      version: 4,
      created: formatDate(CREATED),
      expires: formatDate(later(90)),
    });
  });

  it('bind the bundle manifest', async () => {
    const { collection, finished } = await exportOnce(await createCollection(optionsFor()), {});
    const set = await gate(collection, finished);
    const target = set.delegated.get('bundles')?.targets.get(`_bundle/${collection.id}/2.json`);
    expect(target?.length).toBe(MANIFEST.length);
    expect(target?.hashes.get('sha256')).toBe(createHash('sha256').update(MANIFEST).digest('hex'));
  });

  it('know every file name before the last is signed', async () => {
    const collection = await createCollection(optionsFor());
    const staged = await collection.stage(
      {
        version: await collection.reserveVersion(),
        created: CREATED,
        lifetimeMs: DAY,
        images: new Map([['a', image('a')]]),
      },
      await collection.unlock('main pass'),
    );
    const late = staged.metadataFiles.filter(({ bytes }) => bytes === undefined).map(({ name }) => name);
    expect(late).toEqual(['metadata/timestamp.json', 'metadata/2.snapshot.json', 'metadata/2.bundles.json']);
    const { files } = await staged.finish(MANIFEST);
    expect(files.map(({ name }) => name)).toEqual(staged.metadataFiles.map(({ name }) => name));
    for (const [i, { bytes }] of staged.metadataFiles.entries())
      if (bytes) expect(files[i]?.bytes).toEqual(bytes);
  });

  it('are the same bytes for the same inputs', async () => {
    const collection = await createCollection(optionsFor('openpgp'));
    const signer = await collection.unlock('main pass');
    const version = await collection.reserveVersion();
    const once = async () =>
      await (
        await collection.stage(
          { version, created: CREATED, lifetimeMs: DAY, images: new Map([['a', image('a')]]) },
          signer,
        )
      ).finish(MANIFEST);
    expect((await once()).files).toEqual((await once()).files);
  });

  it('are refused when a role would end before them', async () => {
    const collection = await createCollection(optionsFor());
    expect(await codeOf(exportOnce(collection, {}, { lifetimeMs: 200 * DAY }))).toBe('metadata-expired');
    expect(await codeOf(exportOnce(collection, {}, { created: later(300) }))).toBe('metadata-expired');
    expect(await codeOf(exportOnce(collection, {}, { lifetimeMs: 401 * DAY }))).toBe('lifetime-too-long');
    const short = await createCollection({ ...optionsFor(), lifetimes: { root: 50 * DAY } });
    expect(await codeOf(exportOnce(short, {}))).toBe('metadata-expired');
    expect(await codeOf(exportOnce(short, {}, { lifetimeMs: 50 * DAY }))).toBe('accepted');
  });

  it('renew images that would end before them although nothing has changed', async () => {
    const { collection } = await exportOnce(await createCollection(optionsFor()), { a: 'x' });
    const renewed = await exportOnce(collection, {}, { created: later(100) });
    expect(renewed.finished.files.map(({ name }) => name)).toContain('metadata/3.images.json');
    expect([...renewed.collection.images.keys()]).toEqual(['a']);
  });

  it('refuse names that are none, and keys that may not sign', async () => {
    const collection = await createCollection(optionsFor());
    for (const name of [
      '',
      '_bundle/x/1.json',
      'a//b',
      '/a',
      'a b',
      'a\u001b',
      'ä',
      Array(33).fill('a').join('/'),
    ]) {
      expect(await codeOf(exportOnce(collection, { [name]: 'x' })), name).toBe('invalid-argument');
    }
    const other = await (await createCollection(optionsFor())).unlock('main pass');
    const version = await collection.reserveVersion();
    expect(
      await codeOf(
        collection.stage({ version, created: CREATED, lifetimeMs: DAY, images: new Map() }, other),
      ),
    ).toBe('signature-needed');
  });
});

describe('versions', () => {
  it('are never given twice, also when the exports come to nothing', async () => {
    const collection = await createCollection(optionsFor());
    expect(await collection.reserveVersion()).toBe(2);
    expect(await (await openCollection(collection.directory, DEFAULT_LIMITS)).reserveVersion()).toBe(3);
    const { finished } = await exportOnce(collection, { a: 'x' });
    expect(finished.summary.version).toBe(4);
    // A counter from a backup does not lead back.
    await writeFile(path.join(collection.directory, 'counter'), '1\n');
    expect(await collection.reserveVersion()).toBe(5);
    await writeFile(path.join(collection.directory, 'counter'), 'x\n');
    expect(await codeOf(collection.reserveVersion())).toBe('state-damaged');
  });

  it('are locked against a second export', async () => {
    const collection = await createCollection(optionsFor());
    const lock = await collection.lock(process.pid);
    expect(await codeOf(collection.lock(process.pid))).toBe('destination-locked');
    await lock.release();
    await (await collection.lock(process.pid)).release();
  });
});

describe('publishing', () => {
  it('shows the old state until timestamp.json is replaced', async () => {
    const collection = await createCollection(optionsFor());
    const signer = await collection.unlock('main pass');
    const staged = await collection.stage(
      {
        version: await collection.reserveVersion(),
        created: CREATED,
        lifetimeMs: DAY,
        images: new Map([['a', image('a')]]),
      },
      signer,
    );
    const { files } = await staged.finish(MANIFEST);
    // What a run that was killed before the last step leaves behind.
    for (const { name, bytes } of files)
      if (!name.endsWith('timestamp.json')) await writeFile(path.join(collection.directory, name), bytes);
    const between = await openCollection(collection.directory, DEFAULT_LIMITS);
    expect((await between.summary()).version).toBe(1);
    expect(between.images.size).toBe(0);
    const after = await between.publish(files);
    expect((await after.summary()).version).toBe(2);
    expect((await (await after.publish(files)).summary()).version).toBe(2);
  });

  it('does not go back, and loses no name of another export', async () => {
    const collection = await createCollection(optionsFor());
    const signer = await collection.unlock('main pass');
    const stage = async (name: string) =>
      await (
        await collection.stage(
          {
            version: await collection.reserveVersion(),
            created: CREATED,
            lifetimeMs: DAY,
            images: new Map([[name, image(name)]]),
          },
          signer,
        )
      ).finish(MANIFEST);
    const [older, newer] = [await stage('a'), await stage('b')];
    await collection.publish(older.files);
    expect(await codeOf(collection.publish(newer.files))).toBe('rollback');
    const next = await exportOnce(await openCollection(collection.directory, DEFAULT_LIMITS), { c: 'c' });
    expect(await codeOf(next.collection.publish(older.files))).toBe('rollback');
    expect([...next.collection.images.keys()]).toEqual(['a', 'c']);
  });

  it('takes away what no version needs any more, and no root', async () => {
    let collection = await createCollection(optionsFor());
    for (let i = 0; i < 4; i += 1) ({ collection } = await exportOnce(collection, { a: `${i}` }));
    const left = (await readdir(path.join(collection.directory, 'metadata'))).sort();
    expect(left).toEqual([
      '1.root.json',
      '1.targets.json',
      '4.bundles.json',
      '4.images.json',
      '4.snapshot.json',
      '5.bundles.json',
      '5.images.json',
      '5.snapshot.json',
      'timestamp.json',
    ]);
  });

  it('writes nothing outside the collection', async () => {
    const collection = await createCollection(optionsFor());
    for (const name of [
      'metadata/../x',
      'x',
      'metadata/certificates/../../x.pgp',
      '/etc/x',
      'metadata/1.Root.json',
    ]) {
      expect(await codeOf(collection.publish([{ name, bytes: MANIFEST }]))).toBe('internal');
    }
  });
});

describe('opening', () => {
  it('says what is wrong with a damaged one', async () => {
    expect(await codeOf(openCollection(path.join(work, 'nowhere'), DEFAULT_LIMITS))).toBe(
      'collection-not-found',
    );
    for (const [file, content, code] of [
      ['metadata/1.images.json', '{}', 'state-damaged'],
      ['metadata/timestamp.json', 'x', 'state-damaged'],
      ['metadata/1.root.json', '{}', 'state-damaged'],
      ['collection.json', '{}', 'state-damaged'],
    ] as const) {
      const collection = await createCollection(optionsFor());
      await writeFile(path.join(collection.directory, file), content);
      expect(await codeOf(openCollection(collection.directory, DEFAULT_LIMITS)), file).toBe(code);
    }
    const { directory } = await createCollection(optionsFor());
    const facts = await readFile(path.join(directory, 'collection.json'), 'utf8');
    await writeFile(
      path.join(directory, 'collection.json'),
      facts.replace('"formatVersion":1', '"formatVersion":2'),
    );
    expect(await codeOf(openCollection(directory, DEFAULT_LIMITS))).toBe('format-unsupported');
  });

  it('wants the key file back where it is gone', async () => {
    const collection = await createCollection(optionsFor());
    await rm(path.join(collection.directory, 'keys'), { recursive: true });
    expect(await codeOf(collection.unlock('main pass'))).toBe('signature-needed');
  });
});
