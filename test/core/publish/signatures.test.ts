/** Simple-signing signatures as clients ask for them: the API of `serve`. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeStoreLookaside } from '../../../core/evidence/store-lookaside.ts';
import { type RunningRegistry, serveRegistry } from '../../../core/publish/registry.ts';
import { openStore } from '../../../core/store/store.ts';
import { SIMPLE_SIGNING_ARTIFACT, SIMPLE_SIGNING_LAYER } from '../../../core/trust/evidence/media-types.ts';
import { send } from '../../../fixtures/http.ts';
import { type FixtureManifest, makeArtifact, multiArchImage, singleImage } from '../../../fixtures/images.ts';
import { makePublishing, type Publishing } from './publishing.ts';

/** Hangs a signature on an image, wrapped as sealift wraps them. */
function hang(subject: FixtureManifest, signature: string, layerType: string = SIMPLE_SIGNING_LAYER): void {
  const artifactType = SIMPLE_SIGNING_ARTIFACT;
  subject.referrers.push(makeArtifact({ artifactType, files: { signature }, layerType, subject }));
}

const signed = multiArchImage();
const [child] = signed.children as [FixtureManifest];
hang(signed, 'one');
hang(signed, 'two');
hang(signed, 'of another type', 'application/octet-stream');
hang(child, 'of a platform');
const bare = singleImage('bare');
const stray = singleImage('elsewhere');

let publishing: Publishing;
let server: RunningRegistry;

beforeAll(async () => {
  publishing = makePublishing();
  await publishing.admit({
    'docker.io/library/signed:v1': signed,
    'quay.io/acme/bare:v1': bare,
    'quay.io/acme/stray:v1': stray,
  });
  const store = await openStore(publishing.store, { create: false });
  server = await serveRegistry({ store, host: '127.0.0.1', port: 0, signal: new AbortController().signal });
});
afterAll(async () => {
  await server.close();
  await publishing.close();
});

async function ask(repository: string, digest: string): Promise<{ status: number; found: unknown }> {
  const { status, body } = await send(`${server.url}/extensions/v2/${repository}/signatures/${digest}`);
  const { signatures } = JSON.parse(String(body)) as { signatures?: { content: string }[] };
  return {
    status,
    found: signatures?.map(({ content }) => String(Buffer.from(content, 'base64'))).sort(),
  };
}

describe('the signatures API', () => {
  it('is announced', async () => {
    const { headers } = await send(`${server.url}/v2/`);
    expect(headers['x-registry-supports-signatures']).toBe('1');
  });

  it.each(['docker.io/library/signed', 'library/signed'])(
    'hands out those of an index, under %s',
    async (name) => {
      expect(await ask(name, signed.digest)).toEqual({ status: 200, found: ['one', 'two'] });
    },
  );

  it('hands out those of a platform, and none of what has none', async () => {
    expect(await ask('library/signed', child.digest)).toEqual({ status: 200, found: ['of a platform'] });
    expect(await ask('quay.io/acme/bare', bare.digest)).toEqual({ status: 200, found: [] });
  });

  it('has the form that clients read', async () => {
    const { body } = await send(`${server.url}/extensions/v2/library/signed/signatures/${child.digest}`);
    expect(JSON.parse(String(body))).toEqual({
      signatures: [
        {
          schemaVersion: 2,
          name: expect.stringMatching(new RegExp(`^${child.digest}@[0-9a-f]{32}$`)),
          type: 'atomic',
          content: Buffer.from('of a platform').toString('base64'),
        },
      ],
    });
  });

  it.each([
    ['an image of another repository', 'quay.io/acme/bare', stray.digest, 404],
    ['a layer', 'quay.io/acme/bare', bare.blobs[1]?.digest ?? '', 404],
    ['a repository that is not there', 'quay.io/acme/none', bare.digest, 404],
    ['no digest', 'quay.io/acme/bare', 'v1', 400],
  ])('refuses %s', async (_, repository, digest, status) => {
    expect(await ask(repository, digest)).toMatchObject({ status, found: undefined });
  });
});

describe('a lookaside from the store', () => {
  const at = (repository: string, subject: FixtureManifest): string[] => {
    const place = path.join(
      publishing.directory,
      'lookaside',
      `${repository}@${subject.digest.replace(':', '=')}`,
    );
    if (!existsSync(place)) return [];
    return readdirSync(place).map((name) => readFileSync(path.join(place, name), 'utf8'));
  };
  const write = () =>
    writeStoreLookaside(
      { store: publishing.store, directory: path.join(publishing.directory, 'lookaside') },
      publishing.context(),
    );

  it('holds each signature where mirrors and whole names lead, and nothing twice', async () => {
    for (const _ of [1, 2]) {
      const { signatures, unsigned } = await write();
      expect(signatures).toHaveLength(6);
      expect(unsigned).toEqual(['quay.io/acme/bare:v1', 'quay.io/acme/stray:v1']);
      for (const repository of ['library/signed', 'docker.io/library/signed']) {
        expect(at(repository, signed).sort()).toEqual(['one', 'two']);
        expect(at(repository, child)).toEqual(['of a platform']);
      }
    }
  });

  it('keeps what others have put there', async () => {
    const place = path.join(
      publishing.directory,
      'lookaside',
      `library/signed@${child.digest.replace(':', '=')}`,
    );
    writeFileSync(path.join(place, 'signature-2'), 'of somebody else');
    await write();
    expect(at('library/signed', child).sort()).toEqual(['of a platform', 'of somebody else']);
  });
});
