/** Requests as an enemy writes them: what nobody may sign for others, and what nobody may have signed unseen. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../core/json/strict.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { keysOfRole, openCollection } from '../../../core/trust/collection.ts';
import { keyIdOf, openpgpTufKey, type TufKey } from '../../../core/trust/keys.ts';
import { prefixPatterns } from '../../../core/trust/search.ts';
import { openNativeSigner, type Signer } from '../../../core/trust/signer.ts';
import { addDelegation, addNames, publishRequest, signRequest } from '../../../core/trust-ops/index.ts';
import {
  addSignatures,
  type RequestFile,
  readRequest,
  writeRequest,
} from '../../../core/trust-ops/request.ts';
import { statementsOf } from '../../../core/trust-ops/statements.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { makeWorld, TEST_PASSPHRASE, type World } from '../../../fixtures/world.ts';
import { codeOf } from '../../stories/story.ts';

const APP = 'docker.io/acme/app:1.0';
const ALPINE = 'docker.io/library/alpine:3.20';
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;

let world: World;
beforeEach(async () => {
  world = await makeWorld();
});
afterEach(() => world?.close());

const at = (name: string): string => path.join(world.directory, name);
const trust = <T extends object>(more: T) => ({
  collection: world.collection,
  passphrase,
  pid: process.pid,
  ...more,
});

/** Files NAME.pub and NAME.key. */
function makeKey(name: string): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const secret = privateKey.export({
    type: 'pkcs8',
    format: 'pem',
    cipher: 'aes-256-cbc',
    passphrase: TEST_PASSPHRASE,
  });
  writeFileSync(at(`${name}.pub`), publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(at(`${name}.key`), secret);
  return openNativeSigner(Buffer.from(secret), TEST_PASSPHRASE, name);
}

describe('a request by who holds a namespace', () => {
  it('that hands out a role of others to a key of its own does not make it their signer', async () => {
    const context = world.context();
    const first = await world.export({ [ALPINE]: singleImage('one') });
    await world.pin(first.output);
    const [acme, evil] = [makeKey('acme'), makeKey('evil')];
    const handed = at('handed.json');
    await addDelegation(
      trust({ prefix: 'docker.io/acme/', add: [at('acme.pub')], request: handed }),
      context,
    );
    await signRequest({ request: handed, keys: [{ file: at('acme.key'), passphrase }], passphrase }, context);
    await publishRequest(trust({ requests: [handed] }), context);
    const request = at('name.json');
    const images = new Map([[APP, { length: 3, sha256: 'a'.repeat(64), mediaType: 'application/x' }]]);
    await addNames(trust({ images, request }), context);

    const honest = await readRequest(request, context);
    const [mine] = honest.files;
    const { state } = await openCollection(world.collection, DEFAULT_LIMITS);
    const theirs = state.delegated.get('images')?.signed as JsonObject | undefined;
    const [ruler = ''] = keysOfRole(state, 'images')?.keyids ?? [];
    const rulerKey = state.targets.delegations?.keys.get(ruler);
    if (!mine || !theirs || !rulerKey) throw new Error('no such role');
    const version = Number(mine.signed['version']);
    const groups = [{ keyids: [acme.keyId, evil.keyId], threshold: 1 }];
    const plain = ({ keytype, scheme, keyval }: TufKey) => ({
      keytype,
      scheme,
      keyval: { public: keyval.public },
    });
    const files: RequestFile[] = [
      {
        ...mine,
        groups,
        signatures: new Map(),
        signed: {
          ...mine.signed,
          delegations: {
            // With the true key among them, the role would hold again once the next export has signed it.
            keys: { [evil.keyId]: plain(evil.key), [ruler]: plain(rulerKey) },
            roles: [
              {
                name: 'images',
                keyids: [evil.keyId, ruler],
                threshold: 1,
                paths: ['docker.io/library/*'],
                terminating: false,
              },
            ],
          },
        },
      },
      {
        name: `${version}.images.json`,
        role: 'images',
        groups,
        signatures: new Map(),
        signed: {
          ...theirs,
          version,
          targets: {
            [ALPINE]: {
              custom: { mediaType: 'application/x' },
              length: 3,
              hashes: { sha256: 'e'.repeat(64) },
            },
          },
        },
      },
    ];
    const keys = new Map([...honest.keys, [evil.keyId, evil.key]]);
    const signed = await addSignatures({ ...honest, files, keys }, [acme, evil], context.now);
    expect(signed.added).toContain('images');
    await writeRequest(request, signed.request);
    expect(await codeOf(publishRequest(trust({ requests: [request] }), context))).toBe('signature-needed');
  });
});

describe('a request that every signature is there for, and that no gate would take', () => {
  /** The namespace acme, and a request of its holder for a name in it. */
  async function handAcme() {
    const context = world.context();
    const first = await world.export({ [ALPINE]: singleImage('one') });
    await world.pin(first.output);
    const acme = makeKey('acme');
    const request = at('handed.json');
    await addDelegation(trust({ prefix: 'docker.io/acme/', add: [at('acme.pub')], request }), context);
    await signRequest({ request, keys: [{ file: at('acme.key'), passphrase }], passphrase }, context);
    await publishRequest(trust({ requests: [request] }), context);
    const images = new Map([[APP, { length: 3, sha256: 'a'.repeat(64), mediaType: 'application/x' }]]);
    await addNames(trust({ images, request }), context);
    return { acme, honest: await readRequest(request, context), context };
  }
  /** What becomes of it where its holder writes this into their role. */
  async function publishBent(bend: (key: Signer) => { readonly [field: string]: unknown }): Promise<string> {
    const { acme, honest, context } = await handAcme();
    const [mine] = honest.files;
    if (!mine) throw new Error('no file');
    const files = [
      { ...mine, signatures: new Map(), signed: { ...mine.signed, ...bend(acme) } as unknown as JsonObject },
    ];
    const { request } = await addSignatures({ ...honest, files }, [acme], context.now);
    await writeRequest(at('bent.json'), request);
    return await codeOf(publishRequest(trust({ requests: [at('bent.json')] }), context));
  }
  const handing = (name: string, key: TufKey, keyId: string) => ({
    delegations: {
      keys: { [keyId]: { keytype: key.keytype, scheme: key.scheme, keyval: { public: key.keyval.public } } },
      roles: [{ name, keyids: [keyId], threshold: 1, paths: ['docker.io/acme/x/*'], terminating: true }],
    },
  });
  /** The collection goes on as it was. */
  const stillExports = async () => {
    const { state } = await openCollection(world.collection, DEFAULT_LIMITS);
    expect(state.delegated.get('docker.io-acme')?.targets.size).toBe(0);
    await world.import((await world.export({ [ALPINE]: singleImage('two') })).output);
  };

  it.each(['images', 'bundles', 'docker.io-acme'])(
    'a namespace that hands out %s, the name of a role there is, stops no export',
    async (name) => {
      expect(await publishBent(({ key, keyId }) => handing(name, key, keyId))).toBe('name-conflict');
      await stillExports();
    },
  );

  it('a namespace that hands out a role that nobody has signed does not damage the collection', async () => {
    const code = await publishBent(({ key, keyId }) => handing('docker.io-acme-x', key, keyId));
    expect(code).toBe('mix-and-match');
    await stillExports();
  });

  it('nor does one that hands out a role to an OpenPGP key without its certificate', async () => {
    const key = openpgpTufKey('a'.repeat(40));
    expect(await publishBent(() => handing('docker.io-acme-x', key, keyIdOf(key)))).toBe('mix-and-match');
    await stillExports();
  });

  it('nor does one that has ended when it comes', async () => {
    expect(await publishBent(() => ({ expires: '2020-01-01T00:00:00Z' }))).toBe('metadata-expired');
    await stillExports();
  });
});

describe('what a signer is told of a request', () => {
  const role = (name: string, over: object = {}) => ({
    name,
    keyids: ['a'.repeat(64)],
    threshold: 2,
    terminating: true,
    paths: [...prefixPatterns(`docker.io/${name}/`), ...prefixPatterns(`quay.io/${name}/`)],
    ...over,
  });
  const targets = (...roles: readonly object[]) =>
    ({ delegations: { keys: {}, roles }, targets: {} }) as unknown as JsonObject;

  it('has the threshold behind a long list of patterns, and each pattern that comes or goes', () => {
    const acme = role('acme');
    expect(JSON.stringify(acme).length).toBeGreaterThan(2000);
    expect(statementsOf('targets', targets(role('acme', { threshold: 1 })), targets(acme))).toEqual([
      'delegation acme threshold changes from 2 to 1',
    ]);
    const more = role('acme', { paths: [...acme.paths, 'docker.io/library/*'] });
    expect(statementsOf('targets', targets(more), targets(acme))).toEqual([
      'delegation acme paths gains "docker.io/library/*"',
    ]);
    expect(statementsOf('targets', targets(acme), undefined)).toContain('delegation acme threshold: 2');
  });

  it('has the order of delegations, since the first one answers', () => {
    const [acme, images] = [role('acme'), role('images', { paths: ['*', '*/*'] })];
    expect(statementsOf('targets', targets(images, acme), targets(acme, images))).toEqual([
      'delegation images is asked before acme',
    ]);
    const grabbing = role('grab', { paths: ['*/*/*'] });
    expect(statementsOf('targets', targets(grabbing, acme, images), targets(acme, images))).toContain(
      'delegation grab is asked before acme',
    );
    expect(statementsOf('targets', targets(acme, images), targets(acme, images))).toEqual([]);
  });

  it('has the digest behind a long description', () => {
    const image = (sha256: string) =>
      ({
        targets: { [ALPINE]: { custom: { note: 'x'.repeat(3000) }, hashes: { sha256 }, length: 1 } },
      }) as unknown as JsonObject;
    expect(statementsOf('images', image('e'.repeat(64)), image('a'.repeat(64)))).toEqual([
      expect.stringMatching(/hashes changes from .*a{64}.* to .*e{64}/),
    ]);
  });
});
