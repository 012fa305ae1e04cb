import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { fstatSync, writeSync } from 'node:fs';
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lock } from '../../../core/fs/lock.ts';
import { type Digest, digestOf, parseDigest } from '../../../core/oci/digest.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import {
  artifactImage,
  digestsOf,
  makeLayout,
  manifestsOf,
  multiArchImage,
  nestedIndex,
  schema2Image,
  sha512Image,
  sharingImages,
  signedImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { fill, putBlobs, recordOf } from './fill.ts';

const run = promisify(execFile);
const APP = 'docker.io/acme/app:v1';

let directory: string;
let store: Store;
let lock: Lock;

beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'store-'));
  store = await openStore(path.join(directory, 'store'), { create: true });
  lock = await store.lock(process.pid);
});

afterEach(async () => {
  await lock.release();
  await rm(directory, { recursive: true, force: true });
});

const reopen = (): Promise<Store> => openStore(store.directory, { create: false });
const inside = (...parts: string[]): string => path.join(store.directory, ...parts);
const blobAt = (digest: string): string => inside('blobs', ...digest.split(':'));

async function blobs(): Promise<string[]> {
  const all: string[] = [];
  for (const algorithm of ['sha256', 'sha512']) {
    for (const hex of await readdir(inside('blobs', algorithm))) all.push(`${algorithm}:${hex}`);
  }
  return all.sort();
}

async function names(of: Store = store): Promise<string[]> {
  return (await of.list()).images.map((image) => image.name);
}

async function editIndex(edit: (manifests: Record<string, unknown>[]) => void): Promise<void> {
  const index = JSON.parse(await readFile(inside('index.json'), 'utf8'));
  edit(index.manifests);
  await writeFile(inside('index.json'), JSON.stringify(index));
}

describe('openStore', () => {
  it('makes an image layout', async () => {
    expect(JSON.parse(await readFile(inside('oci-layout'), 'utf8'))).toEqual({ imageLayoutVersion: '1.0.0' });
    expect(await readFile(inside('index.json'), 'utf8')).toBe(
      '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
    );
    expect(await readFile(inside('.sealift', 'store.json'), 'utf8')).toBe(
      '{"formatVersion":1,"requires":[]}',
    );
  });

  it('refuses a place without a store and makes nothing there', async () => {
    await expect(openStore(path.join(directory, 'none'), { create: false })).rejects.toMatchObject({
      code: 'store-not-found',
    });
    await expect(stat(path.join(directory, 'none'))).rejects.toThrow();
  });

  it('refuses an image layout that somebody else made', async () => {
    makeLayout(path.join(directory, 'layout'), [{ name: 'v1', root: singleImage() }]);
    await expect(openStore(path.join(directory, 'layout'), { create: true })).rejects.toMatchObject({
      code: 'layout-invalid',
    });
  });

  it('goes on where making it was interrupted', async () => {
    await rm(inside('oci-layout'));
    await rm(inside('index.json'));
    await rm(inside('blobs'), { recursive: true });
    expect(await names(await openStore(store.directory, { create: true }))).toEqual([]);
  });

  it('does not take a store that lost index.json for an empty one', async () => {
    await fill(await relocked(), { [APP]: singleImage() });
    await rm(inside('index.json'));
    await expect(openStore(store.directory, { create: true })).rejects.toMatchObject({
      code: 'state-damaged',
    });
  });

  it.each([
    ['{"formatVersion":2,"requires":[]}', 'format-unsupported'],
    ['{"formatVersion":1,"requires":["shards"]}', 'format-unsupported'],
    ['{"formatVersion":', 'state-damaged'],
  ])('refuses store.json %s', async (content, code) => {
    await writeFile(inside('.sealift', 'store.json'), content);
    await expect(reopen()).rejects.toMatchObject({ code });
  });

  it.each(['blobs', 'blobs/sha256', '.sealift', '.sealift/ingest', '.sealift/records'])(
    'refuses a store where %s is a link to elsewhere',
    async (part) => {
      await rename(inside(part), path.join(directory, 'elsewhere'));
      await symlink(path.join(directory, 'elsewhere'), inside(part));
      for (const create of [true, false]) {
        await expect(openStore(store.directory, { create })).rejects.toMatchObject({
          code: 'layout-invalid',
        });
      }
    },
  );

  it('wants the lock for whatever writes', async () => {
    const other = await reopen();
    const bytes = Buffer.from('x');
    await expect(other.putBytes(digestOf(bytes), bytes)).rejects.toMatchObject({ code: 'internal' });
    await expect(other.admit([])).rejects.toMatchObject({ code: 'internal' });
    await expect(other.gc({ dryRun: true })).rejects.toMatchObject({ code: 'internal' });
    await expect(other.lock(process.pid)).rejects.toMatchObject({ code: 'destination-locked' });
  });
});

/** The store with its lock free, for helpers that take it themselves. */
async function relocked(): Promise<Store> {
  await lock.release();
  return store;
}

describe('ingest', () => {
  const bytes = Buffer.from('a layer');
  const digest = digestOf(bytes);
  const hashes = { sha256: createHash('sha256').update(bytes).digest('hex') };
  const quarantine = (): Promise<string[]> => readdir(inside('.sealift', 'ingest'));

  it('shows a blob under its name only when it is whole', async () => {
    const blob = await store.ingest(digest, bytes.length);
    writeSync(blob.fd, bytes, 0, bytes.length, 0);
    expect(await store.has(digest, bytes.length)).toBe(false);
    expect(await blobs()).toEqual([]);
    await blob.commit(hashes);
    expect(await store.has(digest, bytes.length)).toBe(true);
    expect(await store.readBlob(digest, 100)).toEqual(bytes);
    expect(await quarantine()).toEqual([]);
  });

  it('refuses other content than the digest says', async () => {
    const wrong = Buffer.from('a hayer');
    const blob = await store.ingest(digest, wrong.length);
    writeSync(blob.fd, wrong, 0, wrong.length, 0);
    const commit = blob.commit({ sha256: createHash('sha256').update(wrong).digest('hex') });
    await expect(commit).rejects.toMatchObject({ code: 'digest-mismatch', want: digest });
    expect([await blobs(), await quarantine()]).toEqual([[], []]);
  });

  it.each([-1, 1])('refuses a size that is off by %i', async (off) => {
    const blob = await store.ingest(digest, bytes.length + off);
    writeSync(blob.fd, bytes, 0, bytes.length, 0);
    await expect(blob.commit(hashes)).rejects.toMatchObject({ code: 'size-mismatch' });
    expect([await blobs(), await quarantine()]).toEqual([[], []]);
  });

  it('wants the hash of the digest’s own algorithm', async () => {
    const blob = await store.ingest(digestOf(bytes, 'sha512'), bytes.length);
    writeSync(blob.fd, bytes, 0, bytes.length, 0);
    await expect(blob.commit(hashes)).rejects.toMatchObject({ code: 'internal' });
    expect(await blobs()).toEqual([]);
  });

  it('begins anew where a run was interrupted, and gives nothing of it away', async () => {
    const name = digest.replace(':', '-');
    await writeFile(inside('.sealift', 'ingest', name), 'left over by somebody, and longer than the blob');
    await store.putBytes(digest, bytes);
    expect(await store.readBlob(digest, 100)).toEqual(bytes);
  });

  it('does not write through a link that was planted in quarantine', async () => {
    const victim = path.join(directory, 'victim');
    await writeFile(victim, 'precious');
    await symlink(victim, inside('.sealift', 'ingest', digest.replace(':', '-')));
    await store.putBytes(digest, bytes);
    expect(await readFile(victim, 'utf8')).toBe('precious');
  });

  it('a settled blob waits in quarantine without an open file, and then is committed or given up', async () => {
    const one = await store.ingest(digest, bytes.length);
    writeSync(one.fd, bytes, 0, bytes.length, 0);
    await one.settle(hashes);
    expect(() => fstatSync(one.fd)).toThrow('EBADF');
    expect([await blobs(), (await quarantine()).length]).toEqual([[], 1]);
    await one.abort();
    expect(await quarantine()).toEqual([]);
    const two = await store.ingest(digest, bytes.length);
    writeSync(two.fd, bytes, 0, bytes.length, 0);
    await two.settle(hashes);
    await two.commit(hashes);
    await two.abort();
    expect([await blobs(), await quarantine()]).toEqual([[digest], []]);
  });

  it('settling refuses what committing refuses', async () => {
    const blob = await store.ingest(digest, bytes.length);
    writeSync(blob.fd, bytes, 0, bytes.length, 0);
    await expect(blob.settle({ sha256: '0'.repeat(64) })).rejects.toMatchObject({ code: 'digest-mismatch' });
    await expect(blob.commit(hashes)).rejects.toMatchObject({ code: 'internal' });
    expect([await blobs(), await quarantine()]).toEqual([[], []]);
  });

  it('abort leaves nothing and may be called again', async () => {
    const blob = await store.ingest(digest, bytes.length);
    await blob.abort();
    await blob.abort();
    expect(await quarantine()).toEqual([]);
    await store.putBytes(digest, bytes);
  });

  it('refuses a digest that was only cast to one', async () => {
    const fake = 'sha256:../../../../etc/passwd' as Digest;
    await expect(store.ingest(fake, 1)).rejects.toMatchObject({ code: 'invalid-digest' });
    await expect(store.readBlob(fake, 1)).rejects.toMatchObject({ code: 'invalid-digest' });
    await expect(store.has(fake, 1)).rejects.toMatchObject({ code: 'invalid-digest' });
  });
});

describe('a blob in the store', () => {
  const bytes = Buffer.from('content');
  const digest = digestOf(bytes);
  beforeEach(() => store.putBytes(digest, bytes));

  it('of another size is not there', async () => {
    await truncate(blobAt(digest), 3);
    expect(await store.has(digest, bytes.length)).toBe(false);
  });

  it('is not followed where it is a link', async () => {
    const secret = path.join(directory, 'secret');
    await writeFile(secret, bytes);
    await rm(blobAt(digest));
    await symlink(secret, blobAt(digest));
    expect(await store.has(digest, bytes.length)).toBe(false);
    expect(await store.openBlob(digest)).toBeUndefined();
    await expect(store.readBlob(digest, 100)).rejects.toMatchObject({ code: 'blob-missing' });
    await store.putBytes(digest, bytes);
    expect(await store.has(digest, bytes.length)).toBe(true);
    expect(await readFile(secret)).toEqual(bytes);
  });

  it('is no pipe and no directory', async () => {
    await rm(blobAt(digest));
    await run('mkfifo', [blobAt(digest)]);
    expect(await store.openBlob(digest)).toBeUndefined();
    await rm(blobAt(digest));
    await mkdir(blobAt(digest));
    expect(await store.openBlob(digest)).toBeUndefined();
    expect(await store.has(digest, bytes.length)).toBe(false);
  });

  it('with a flipped bit is not read, and verifyBlob removes it', async () => {
    await writeFile(blobAt(digest), 'c0ntent');
    expect(await store.has(digest, bytes.length)).toBe(true);
    await expect(store.readBlob(digest, 100)).rejects.toMatchObject({ code: 'digest-mismatch' });
    expect(await store.verifyBlob(digest, bytes.length)).toBe(false);
    expect(await blobs()).toEqual([]);
  });

  it('that is whole passes verifyBlob and stays', async () => {
    expect(await store.verifyBlob(digest, bytes.length)).toBe(true);
    expect(await store.verifyBlob(digest, bytes.length + 1)).toBe(false);
  });

  it('is removed by verifyBlob only under the lock', async () => {
    await writeFile(blobAt(digest), 'c0ntent');
    expect(await (await reopen()).verifyBlob(digest, bytes.length)).toBe(false);
    expect(await blobs()).toEqual([digest]);
  });

  it('larger than allowed is not read', async () => {
    await expect(store.readBlob(digest, 3)).rejects.toMatchObject({ code: 'size-mismatch' });
  });
});

describe('admit', () => {
  it('lists what was let in, by name', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    const records = [recordOf('quay.io/b/two:v1', two), recordOf(APP, one)];
    await store.admit(records);
    const listing = await (await reopen()).list();
    expect(listing).toEqual({ images: records.toReversed(), notAdmitted: [] });
    expect(await store.image(APP)).toEqual(records[1]);
    expect(await store.image('docker.io/acme/app:v2')).toBeUndefined();
  });

  it('keeps what was made of evidence, and refuses a state that is none', async () => {
    const image = signedImage();
    await putBlobs(store, [image]);
    const judged = {
      state: 'verified',
      reason: 'signed by a key of the policy',
      format: 'simple-signing',
      signer: 'ab'.repeat(20),
      claimedName: APP,
      signedAt: '2026-01-01T00:00:00Z',
      expires: '2027-01-01T00:00:00Z',
    } as const;
    const [first, ...rest] = recordOf(APP, image).evidence;
    if (!first) throw new Error('the fixture has no evidence');
    const refused = { state: 'invalid', reason: 'the digest is another one' } as const;
    const evidence = [{ ...first, judged }, ...rest.map((piece) => ({ ...piece, judged: refused }))];
    const record = recordOf(APP, image, { evidence });
    await store.admit([record]);
    expect(JSON.stringify((await (await reopen()).list()).images)).toBe(JSON.stringify([record]));
    const [file = ''] = await readdir(inside('.sealift', 'records'));
    const text = await readFile(inside('.sealift', 'records', file), 'utf8');
    await writeFile(
      inside('.sealift', 'records', file),
      text.replace('"state":"verified"', '"state":"good"'),
    );
    await expect((await reopen()).list()).resolves.toMatchObject({ images: [] });
  });

  it('writes one descriptor for each name, sorted, with both names', async () => {
    const image = singleImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf('quay.io/b/two:v1', image), recordOf(APP, image)]);
    const { manifests } = JSON.parse(await readFile(inside('index.json'), 'utf8'));
    expect(manifests).toEqual(
      [APP, 'quay.io/b/two:v1'].map((name) => ({
        mediaType: image.mediaType,
        digest: image.digest,
        size: image.size,
        annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name },
      })),
    );
  });

  it('moves a name and drops the old record', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    await store.admit([recordOf(APP, one)]);
    const revision = await store.revision();
    await store.admit([recordOf(APP, two, { bundleVersion: 8 })]);
    expect(await store.image(APP)).toMatchObject({ digest: two.digest, bundleVersion: 8 });
    expect(await readdir(inside('.sealift', 'records'))).toHaveLength(1);
    expect(await store.revision()).not.toBe(revision);
  });

  it('refuses an image whose manifest or evidence is not there', async () => {
    const image = signedImage();
    const missing = recordOf(APP, image).evidence[0]!.digest;
    await putBlobs(store, [image], [missing]);
    await expect(store.admit([recordOf(APP, image)])).rejects.toMatchObject({
      code: 'blob-missing',
      want: missing,
    });
    expect(await names()).toEqual([]);
    await putBlobs(store, [image]);
    await rm(blobAt(image.digest));
    await expect(store.admit([recordOf(APP, image)])).rejects.toMatchObject({
      code: 'blob-missing',
      want: image.digest,
    });
  });

  it('refuses two images under one name, and a name that is not full', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    await expect(store.admit([recordOf(APP, one), recordOf(APP, two)])).rejects.toMatchObject({
      code: 'name-conflict',
    });
    for (const name of ['alpine', '../../evil:v1', 'docker.io/acme/app']) {
      await expect(store.admit([recordOf(name, one)])).rejects.toThrow();
    }
    expect(await names()).toEqual([]);
  });

  it('golden: a record stays what it is', async () => {
    const image = signedImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image, { platforms: ['linux/amd64', 'linux/arm64/v8'] })]);
    const [file] = await readdir(inside('.sealift', 'records'));
    expect(file).toBe(
      `${createHash('sha256').update(APP).digest('hex')}-${image.digest.replace(':', '-')}.json`,
    );
    const bytes = await readFile(inside('.sealift', 'records', file!), 'utf8');
    await expect(bytes).toMatchFileSnapshot(path.resolve('test/golden/store/record.json'));
  });
});

describe('what came in through no gate', () => {
  beforeEach(async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    await store.admit([recordOf(APP, one)]);
  });

  it('is listed as not admitted where its name was added', async () => {
    const [, two] = sharingImages();
    await editIndex((manifests) =>
      manifests.push({
        mediaType: two.mediaType,
        digest: two.digest,
        size: two.size,
        annotations: { 'org.opencontainers.image.ref.name': 'docker.io/acme/evil:v1' },
      }),
    );
    const { images, notAdmitted } = await store.list();
    expect(images.map((image) => image.name)).toEqual([APP]);
    expect(notAdmitted).toEqual([
      { name: 'docker.io/acme/evil:v1', digest: two.digest, reason: 'it came in through no gate' },
    ]);
    expect(await store.image('docker.io/acme/evil:v1')).toBeUndefined();
  });

  it('is found where a name was pointed at another digest', async () => {
    const [, two] = sharingImages();
    await editIndex((manifests) => Object.assign(manifests[0]!, { digest: two.digest, size: two.size }));
    expect(await store.list()).toMatchObject({
      images: [],
      notAdmitted: [{ name: APP, digest: two.digest }],
    });
  });

  it('is found where the type or size was changed', async () => {
    await editIndex((manifests) =>
      Object.assign(manifests[0]!, { mediaType: 'application/vnd.oci.image.index.v1+json' }),
    );
    expect((await store.list()).images).toEqual([]);
  });

  it('is found where a record was renamed to vouch for another name', async () => {
    const [one] = sharingImages();
    const [file] = await readdir(inside('.sealift', 'records'));
    const evil = 'docker.io/acme/evil:v1';
    const hash = createHash('sha256').update(evil).digest('hex');
    await cp(
      inside('.sealift', 'records', file!),
      inside('.sealift', 'records', `${hash}${file!.slice(64)}`),
    );
    await editIndex((manifests) =>
      manifests.push({
        mediaType: one.mediaType,
        digest: one.digest,
        size: one.size,
        annotations: { 'io.containerd.image.name': evil },
      }),
    );
    expect(await store.list()).toMatchObject({ images: [{ name: APP }], notAdmitted: [{ name: evil }] });
  });

  it('makes a doubled name nobody’s', async () => {
    await editIndex((manifests) => manifests.push({ ...manifests[0] }));
    expect((await store.list()).images).toEqual([]);
    expect(await store.image(APP)).toBeUndefined();
  });

  it('is left alone by imports', async () => {
    await editIndex((manifests) =>
      manifests.push({ mediaType: 'text/plain', digest: 'nonsense', size: 'big' }),
    );
    await store.admit([recordOf('docker.io/acme/two:v1', sharingImages()[1])]);
    expect((await store.list()).notAdmitted).toHaveLength(1);
    expect(await names()).toEqual([APP, 'docker.io/acme/two:v1']);
  });

  it('a damaged record takes its image out of sight, and the reason is told', async () => {
    const [file] = await readdir(inside('.sealift', 'records'));
    await truncate(inside('.sealift', 'records', file!), 20);
    expect(await store.list()).toMatchObject({
      images: [],
      notAdmitted: [{ name: APP, reason: expect.stringContaining('damaged') }],
    });
  });

  it.each(['', '[]', '{}', '{"manifests":{}}', '{"manifests":[],"manifests":[]}'])(
    'index.json %j is damaged',
    async (content) => {
      await writeFile(inside('index.json'), content);
      await expect(store.list()).rejects.toMatchObject({
        code: 'state-damaged',
        subject: inside('index.json'),
      });
    },
  );
});

describe('withdraw', () => {
  it('takes names out and leaves their blobs', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    await store.admit([recordOf(APP, one), recordOf('docker.io/acme/two:v1', two)]);
    expect(await store.withdraw([APP, 'docker.io/acme/none:v1'])).toEqual([APP]);
    expect(await names()).toEqual(['docker.io/acme/two:v1']);
    expect(await readdir(inside('.sealift', 'records'))).toHaveLength(1);
    expect(await store.has(parseDigest(one.digest), one.size)).toBe(true);
    expect(await store.withdraw([APP])).toEqual([]);
  });
});

describe('admit with withdrawals', () => {
  it('does both in one step; a name that comes in again is not withdrawn', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    await store.admit([recordOf(APP, one), recordOf('docker.io/acme/two:v1', one)]);
    const withdraw = [APP, 'docker.io/acme/two:v1', 'docker.io/acme/none:v1'];
    expect(await store.admit([recordOf('docker.io/acme/two:v1', two)], { withdraw })).toEqual([APP]);
    expect((await store.list()).images).toEqual([recordOf('docker.io/acme/two:v1', two)]);
  });

  it('of nothing leaves index.json alone', async () => {
    const before = await store.revision();
    expect(await store.admit([], { withdraw: [APP] })).toEqual([]);
    expect(await store.revision()).toBe(before);
  });
});

describe('gc', () => {
  it.each([
    ['a single image', singleImage],
    ['a multi-arch image', multiArchImage],
    ['an index in an index', nestedIndex],
    ['evidence, evidence on children and on evidence', signedImage],
    ['an artifact', artifactImage],
    ['sha512', sha512Image],
    ['schema 2', schema2Image],
  ])('keeps all of %s', async (_what, make) => {
    const image = make();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image)]);
    expect(await store.gc({ dryRun: false })).toMatchObject({ removedBlobs: 0, removedBytes: 0 });
    expect(await blobs()).toEqual([...new Set(digestsOf(image))].sort());
  });

  it('removes what only a withdrawn image needed', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    await store.admit([recordOf(APP, one), recordOf('docker.io/acme/two:v1', two)]);
    await store.withdraw([APP]);
    const only = digestsOf(one).filter((digest) => !digestsOf(two).includes(digest));
    const dry = await store.gc({ dryRun: true });
    expect(dry).toMatchObject({ dryRun: true, removedBlobs: only.length });
    expect(await blobs()).toHaveLength(new Set([...digestsOf(one), ...digestsOf(two)]).size);
    expect(await store.gc({ dryRun: false })).toEqual({ ...dry, dryRun: false });
    expect(await blobs()).toEqual([...new Set(digestsOf(two))].sort());
    expect(await store.gc({ dryRun: false })).toMatchObject({ removedBlobs: 0 });
  });

  it('removes the evidence of a withdrawn image with it', async () => {
    const image = signedImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image)]);
    await store.withdraw([APP]);
    await store.gc({ dryRun: false });
    expect(await blobs()).toEqual([]);
  });

  it('keeps evidence that no record lists, by its subject', async () => {
    const image = signedImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image, { evidence: [] })]);
    expect(await store.gc({ dryRun: false })).toMatchObject({ removedBlobs: 0 });
  });

  it('takes children that were left out for what they are', async () => {
    const image = multiArchImage();
    const child = image.children[1]!;
    const left = digestsOf(child).filter((digest) => !digestsOf(image.children[0]!).includes(digest));
    await putBlobs(store, [image], left);
    await store.admit([recordOf(APP, image, { omitted: [parseDigest(child.digest)] })]);
    expect(await store.gc({ dryRun: false })).toMatchObject({ removedBlobs: 0 });
  });

  it('keeps what it is told to, and what somebody else’s descriptor names', async () => {
    const [one, two] = sharingImages();
    await putBlobs(store, [one, two]);
    const spare = Buffer.from('spare');
    await store.putBytes(digestOf(spare), spare);
    await editIndex((manifests) =>
      manifests.push({ mediaType: one.mediaType, digest: one.digest, size: one.size }),
    );
    await store.gc({ dryRun: false, keep: [digestOf(spare)] });
    expect(await blobs()).toEqual([...new Set([...digestsOf(one), digestOf(spare)])].sort());
  });

  it('removes leftovers in quarantine, links, and records nobody names', async () => {
    await writeFile(inside('.sealift', 'ingest', `sha256-${'0'.repeat(64)}`), 'left');
    await writeFile(inside('.sealift', 'records', 'old.json'), '{}');
    await symlink('/etc/passwd', blobAt(`sha256:${'1'.repeat(64)}`));
    expect(await store.gc({ dryRun: false })).toMatchObject({ removedBlobs: 2, removedBytes: 4 });
    expect(await readdir(inside('.sealift', 'ingest'))).toEqual([]);
    expect(await readdir(inside('.sealift', 'records'))).toEqual([]);
    expect(await blobs()).toEqual([]);
  });

  it.each([
    ['is damaged', (file: string) => writeFile(file, '{"schemaVersion":2')],
    ['is gone', (file: string) => rm(file)],
  ])('removes nothing where a manifest %s', async (_how, damage) => {
    const image = multiArchImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image)]);
    const spare = Buffer.from('spare');
    await store.putBytes(digestOf(spare), spare);
    await damage(blobAt(image.digest));
    const before = await blobs();
    await expect(store.gc({ dryRun: false })).rejects.toMatchObject({
      code: 'state-damaged',
      subject: image.digest,
    });
    expect(await blobs()).toEqual(before);
  });

  it('removes nothing where a child manifest is damaged', async () => {
    const image = multiArchImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image)]);
    await writeFile(blobAt(image.children[2]!.digest), '{}');
    const before = await blobs();
    await expect(store.gc({ dryRun: false })).rejects.toMatchObject({ code: 'state-damaged' });
    expect(await blobs()).toEqual(before);
  });

  it('does not run while a blob is taken in', async () => {
    const blob = await store.ingest(digestOf(Buffer.from('x')), 1);
    await expect(store.gc({ dryRun: false })).rejects.toMatchObject({ code: 'internal' });
    await blob.abort();
  });
});

describePeer(['skopeo'], 'skopeo reads the store', () => {
  const skopeo = async (...args: string[]): Promise<string> => (await run('skopeo', args)).stdout;

  it('by name, and copies every platform with its digests', async () => {
    const image = multiArchImage();
    const single = singleImage();
    await putBlobs(store, [image, single]);
    await store.admit([
      recordOf('docker.io/library/alpine:3.20', image),
      recordOf('localhost:5000/team/app:v1', single),
    ]);
    const raw = await skopeo('inspect', '--raw', `oci:${store.directory}:docker.io/library/alpine:3.20`);
    expect(raw).toBe(image.bytes.toString());
    const inspected = JSON.parse(
      await skopeo('inspect', `oci:${store.directory}:localhost:5000/team/app:v1`),
    );
    expect(inspected.Digest).toBe(single.digest);
    const copy = path.join(directory, 'copy');
    await skopeo('copy', '--all', `oci:${store.directory}:docker.io/library/alpine:3.20`, `oci:${copy}:v1`);
    for (const { digest } of manifestsOf(image, false)) {
      expect((await stat(path.join(copy, 'blobs', ...digest.split(':')))).isFile()).toBe(true);
    }
  });

  it('and what skopeo writes into it is not admitted', async () => {
    const image = singleImage();
    await putBlobs(store, [image]);
    await store.admit([recordOf(APP, image)]);
    makeLayout(path.join(directory, 'layout'), [{ name: 'v1', root: singleImage('evil') }]);
    await skopeo('copy', `oci:${path.join(directory, 'layout')}:v1`, `oci:${store.directory}:${APP}`);
    const { images, notAdmitted } = await store.list();
    expect(images).toEqual([]);
    expect(notAdmitted.map((entry) => entry.name)).toContain(APP);
  });
});
