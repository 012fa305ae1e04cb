import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import type { Descriptor } from '../../../core/oci/descriptor.ts';
import { blobPath, type Digest, digestOf } from '../../../core/oci/digest.ts';
import { CONTAINERD_NAME, type Layout, openLayout, REF_NAME } from '../../../core/oci/layout.ts';
import { OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from '../../../core/oci/media-types.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { codeOf, codeOfAsync } from './code-of.ts';

const run = promisify(execFile);
const limits = DEFAULT_LIMITS;
const LAYOUT = '{"imageLayoutVersion": "1.0.0"}';

let scratch: string;
let directory: string;

beforeEach(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'sealift-layout-'));
  directory = path.join(scratch, 'layout');
  await mkdir(path.join(directory, 'blobs', 'sha256'), { recursive: true });
  await mkdir(path.join(directory, 'blobs', 'sha512'), { recursive: true });
  await writeFile(path.join(directory, 'oci-layout'), LAYOUT);
});

afterEach(() => rm(scratch, { recursive: true, force: true }));

async function addBlob(content: string, algorithm: 'sha256' | 'sha512' = 'sha256'): Promise<Digest> {
  const digest = digestOf(Buffer.from(content), algorithm);
  await writeFile(path.join(directory, blobPath(digest)), content);
  return digest;
}

async function addImage(text: string, annotations?: Record<string, string>): Promise<Descriptor> {
  const config = { mediaType: OCI_CONFIG, digest: await addBlob(text), size: text.length };
  const manifest = JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [] });
  const digest = await addBlob(manifest);
  return { mediaType: OCI_MANIFEST, digest, size: manifest.length, ...(annotations ? { annotations } : {}) };
}

async function open(manifests: Descriptor[] = [], extra: object = {}): Promise<Layout> {
  await writeFile(
    path.join(directory, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests, ...extra }),
  );
  return openLayout(directory, limits);
}

describe('openLayout', () => {
  it('reads index, images and manifests', async () => {
    const image = await addImage('one', { [REF_NAME]: 'docker.io/library/alpine:3.20' });
    const layout = await open([image], { mediaType: OCI_INDEX });
    expect(layout.index().kind).toBe('index');
    expect(layout.images()).toEqual([
      { descriptor: image, refName: 'docker.io/library/alpine:3.20', name: 'docker.io/library/alpine:3.20' },
    ]);
    const manifest = await layout.readManifest(image);
    expect(manifest.kind).toBe('image');
    expect(manifest.digest).toBe(image.digest);
    expect(layout.blobFile(image.digest)).toBe(path.join(directory, blobPath(image.digest)));
  });

  it('reads sha512 blobs', async () => {
    const digest = await addBlob('x', 'sha512');
    const layout = await open();
    expect((await layout.readBlob({ digest, size: 1 }, 10)).toString()).toBe('x');
  });

  it.each([
    ['no oci-layout', undefined, 'layout-invalid'],
    ['other version', '{"imageLayoutVersion":"1.1.0"}', 'layout-invalid'],
    ['no version', '{}', 'layout-invalid'],
    ['version that is a number', '{"imageLayoutVersion":1}', 'layout-invalid'],
    ['no object', '[]', 'layout-invalid'],
    ['no JSON', 'x', 'json-invalid'],
    ['duplicate key', '{"imageLayoutVersion":"2.0.0","imageLayoutVersion":"1.0.0"}', 'json-duplicate-key'],
    ['endless', `${LAYOUT}${' '.repeat(65536)}`, 'json-too-large'],
  ])('refuses %s', async (_, text, code) => {
    if (text === undefined) await rm(path.join(directory, 'oci-layout'));
    else await writeFile(path.join(directory, 'oci-layout'), text);
    expect(await codeOfAsync(() => open())).toBe(code);
  });

  it('refuses a directory that is not there, or has no index', async () => {
    expect(await codeOfAsync(() => openLayout(path.join(scratch, 'none'), limits))).toBe('layout-invalid');
    expect(await codeOfAsync(() => openLayout(directory, limits))).toBe('layout-invalid');
  });

  it('refuses an index that is an image, or above the cap', async () => {
    expect(await codeOfAsync(() => open([], { mediaType: OCI_MANIFEST }))).toBe('media-type-mismatch');
    await open();
    expect(await codeOfAsync(() => openLayout(directory, { ...limits, bundleFile: 10 }))).toBe(
      'json-too-large',
    );
  });

  it('may have an index larger than a manifest may be', async () => {
    const image = await addImage('one');
    await open(Array.from({ length: 100 }, () => image));
    const layout = await openLayout(directory, { ...limits, manifest: 1000 });
    expect(layout.images()).toHaveLength(100);
  });
});

describe('blobs', () => {
  it('that are not what they should be', async () => {
    const digest = await addBlob('content');
    const layout = await open();
    const other = digestOf(Buffer.from('other'));
    expect(await codeOfAsync(() => layout.readBlob({ digest: other, size: 5 }, 100))).toBe('blob-missing');
    expect(await codeOfAsync(() => layout.readBlob({ digest, size: 6 }, 100))).toBe('size-mismatch');
    expect(await codeOfAsync(() => layout.readBlob({ digest, size: 7 }, 6))).toBe('source-too-large');
    await writeFile(layout.blobFile(digest), 'CONTENT');
    expect(await codeOfAsync(() => layout.readBlob({ digest, size: 7 }, 100))).toBe('digest-mismatch');
    await truncate(layout.blobFile(digest), 3);
    expect(await codeOfAsync(() => layout.readBlob({ digest, size: 7 }, 100))).toBe('size-mismatch');
  });

  it('with a path-like digest', async () => {
    await writeFile(path.join(scratch, 'secret'), 'secret');
    const layout = await open();
    const digest = 'sha256:../../../secret' as Digest;
    expect(codeOf(() => layout.blobFile(digest))).toBe('invalid-digest');
    expect(await codeOfAsync(() => layout.openBlob(digest))).toBe('invalid-digest');
    expect(await codeOfAsync(() => layout.readBlob({ digest, size: 6 }, 100))).toBe('invalid-digest');
  });

  it('are whole, however many reads it takes', async () => {
    const content = 'x'.repeat(300_000);
    const digest = await addBlob(content);
    const layout = await open();
    expect((await layout.readBlob({ digest, size: content.length }, content.length)).toString()).toBe(
      content,
    );
  });
});

describe('planted files', () => {
  it('symlink in the place of a blob', async () => {
    const digest = await addBlob('secret');
    const layout = await open();
    await rename(layout.blobFile(digest), path.join(scratch, 'secret'));
    await symlink(path.join(scratch, 'secret'), layout.blobFile(digest));
    expect(await codeOfAsync(() => layout.openBlob(digest))).toBe('layout-invalid');
    expect(await codeOfAsync(() => layout.readBlob({ digest, size: 6 }, 100))).toBe('layout-invalid');
  });

  it.each(['blobs', 'blobs/sha256'])('symlink in the place of %s', async (member) => {
    const digest = await addBlob('secret');
    const layout = await open();
    await rename(path.join(directory, member), path.join(scratch, 'elsewhere'));
    await symlink(path.join(scratch, 'elsewhere'), path.join(directory, member));
    expect(await codeOfAsync(() => layout.openBlob(digest))).toBe('layout-invalid');
  });

  it.each(['oci-layout', 'index.json'])('symlink in the place of %s', async (member) => {
    await open();
    await rename(path.join(directory, member), path.join(scratch, 'elsewhere'));
    await symlink(path.join(scratch, 'elsewhere'), path.join(directory, member));
    expect(await codeOfAsync(() => openLayout(directory, limits))).toBe('layout-invalid');
  });

  it('directory in the place of a blob', async () => {
    const layout = await open();
    const digest = digestOf(Buffer.from('x'));
    await mkdir(layout.blobFile(digest));
    expect(await codeOfAsync(() => layout.openBlob(digest))).toBe('layout-invalid');
  });

  it('FIFO in the place of a blob, which would hang', async () => {
    const layout = await open();
    const digest = digestOf(Buffer.from('x'));
    await run('mkfifo', [layout.blobFile(digest)]);
    expect(await codeOfAsync(() => layout.openBlob(digest))).toBe('layout-invalid');
  });
});

describe('find', () => {
  const ALPINE = 'docker.io/library/alpine:3.20';

  it('by either annotation, in any spelling of the full name, or by digest', async () => {
    const tagged = await addImage('tagged', { [REF_NAME]: 'v1' });
    const full = await addImage('full', { [REF_NAME]: ALPINE });
    const both = await addImage('both', { [CONTAINERD_NAME]: 'ghcr.io/a/b:2', [REF_NAME]: '2' });
    const layout = await open([tagged, full, both]);
    expect(layout.images().map((image) => image.name)).toEqual([undefined, ALPINE, 'ghcr.io/a/b:2']);
    const found = (name: string): string => layout.find(name).descriptor.digest;
    expect(found('v1')).toBe(tagged.digest);
    expect(found(ALPINE)).toBe(full.digest);
    expect(found('alpine:3.20')).toBe(full.digest);
    expect(found('ghcr.io/a/b:2')).toBe(both.digest);
    expect(found('2')).toBe(both.digest);
    expect(found(tagged.digest)).toBe(tagged.digest);
  });

  it('nothing, naming what there is', async () => {
    const layout = await open([await addImage('one', { [REF_NAME]: 'v1' })]);
    expect(() => layout.find('v2')).toThrow(
      expect.objectContaining({ code: 'name-not-found', hint: 'it has: v1' }),
    );
    expect(codeOf(() => layout.find('constructor'))).toBe('name-not-found');
    expect(codeOf(() => layout.find(digestOf(Buffer.from('x'))))).toBe('name-not-found');
  });

  it('a name that two images have', async () => {
    const one = await addImage('one', { [REF_NAME]: 'v1' });
    const two = await addImage('two', { [REF_NAME]: 'v1' });
    const layout = await open([one, two]);
    expect(codeOf(() => layout.find('v1'))).toBe('name-conflict');
    expect((await open([one, one])).find('v1').descriptor.digest).toBe(one.digest);
  });

  it('the only image where no name is given, evidence beside it or not', async () => {
    const image = await addImage('one', { [REF_NAME]: 'v1' });
    const evidence = await addImage('evidence');
    expect((await open([evidence, image])).find().descriptor.digest).toBe(image.digest);
    expect((await open([evidence])).find().descriptor.digest).toBe(evidence.digest);
    expect(codeOf((await open([image, await addImage('two', { [REF_NAME]: 'v2' })])).find)).toBe(
      'name-conflict',
    );
    expect(codeOf((await open([])).find)).toBe('name-not-found');
  });
});

describePeer(['umoci'], 'umoci', () => {
  it('reads what umoci writes, which has no mediaType field', async () => {
    const made = path.join(scratch, 'umoci');
    await run('umoci', ['init', '--layout', made]);
    await run('umoci', ['new', '--image', `${made}:v1`]);
    const layout = await openLayout(made, limits);
    const image = layout.find('v1');
    const manifest = await layout.readManifest(image.descriptor);
    expect(manifest).toMatchObject({
      kind: 'image',
      mediaType: OCI_MANIFEST,
      digest: image.descriptor.digest,
    });
  });
});

describePeer(['skopeo'], 'skopeo', () => {
  it('reads what skopeo copies, digest kept', async () => {
    const image = await addImage(
      '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}',
      { [REF_NAME]: 'v1' },
    );
    await open([image], { mediaType: OCI_INDEX });
    const target = path.join(scratch, 'copied');
    await run('skopeo', [
      '--insecure-policy',
      'copy',
      '--preserve-digests',
      `oci:${directory}:v1`,
      `oci:${target}:alpine:3`,
    ]);
    const layout = await openLayout(target, limits);
    expect(layout.find('alpine:3').descriptor.digest).toBe(image.digest);
  });
});
