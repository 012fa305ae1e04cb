/** A notary server that lies, hangs on, or is broken; a good one is in test/interop/content-trust.test.ts. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contentTrustFrom } from '../../../cli/options/content-trust.ts';
import type { Context } from '../../../core/context.ts';
import { isSealiftError, type SealiftError } from '../../../core/errors.ts';
import type { SealiftEvent } from '../../../core/events.ts';
import { claimsOf } from '../../../core/evidence/content-trust/claims.ts';
import { contentTrustFinder } from '../../../core/evidence/content-trust/find.ts';
import { fetchContentTrust, type MetadataFile } from '../../../core/evidence/content-trust/server.ts';
import { notaryServerFor } from '../../../core/evidence/content-trust/settings.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import type { Digest } from '../../../core/oci/digest.ts';
import { parseManifest } from '../../../core/oci/manifest.ts';
import { parseReference } from '../../../core/oci/reference.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import type { SourceOptions } from '../../../core/transport/source.ts';
import {
  drip,
  endless,
  type FaultRegistry,
  reply,
  startFaultRegistry,
} from '../../../fixtures/fault-registry.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { SOURCE_OPTIONS } from '../../../fixtures/world.ts';

const GUN = 'a.example/team/app';
const REFERENCE = parseReference(`${GUN}:1`);
const EXPIRES = '2030-01-01T00:00:00Z';
const image = singleImage();
const manifest = parseManifest(image.bytes, {
  mediaType: image.mediaType,
  digest: image.digest as Digest,
  limits: DEFAULT_LIMITS,
});

let server: FaultRegistry;
let events: SealiftEvent[];
let context: Context;
beforeEach(async () => {
  server = await startFaultRegistry();
  events = [];
  context = {
    now: new Date('2026-03-01T00:00:00Z'),
    signal: new AbortController().signal,
    emit: (event) => events.push(event),
    limits: DEFAULT_LIMITS,
    pool: createWorkerPool({ size: 0 }),
  };
});
afterEach(() => server.stop());

const at = (name: string): string => `/v2/${GUN}/_trust/tuf/${name}.json`;
const hash = (bytes: string | Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const text = (type: string, more: object): string =>
  JSON.stringify({ signed: { _type: type, version: 1, expires: EXPIRES, ...more }, signatures: [] });
const meta = (bytes: string, more: object = {}): object => ({
  hashes: { sha256: hash(bytes).toString('base64') },
  length: Buffer.byteLength(bytes),
  ...more,
});
const tag = (digest: string): object => ({
  hashes: { sha256: Buffer.from(digest.replace('sha256:', ''), 'hex').toString('base64') },
  length: 1,
});

interface Repository {
  readonly root?: string;
  readonly targets?: object;
  readonly delegated?: Readonly<Record<string, string>>;
  /** Of the snapshot, instead of what is true. */
  readonly lie?: object;
}

/** Files as a server has them, each under the hash that another file names. */
function publish({
  root = text('Root', {}),
  targets = {},
  delegated = {},
  lie = {},
}: Repository = {}): Map<string, string> {
  const roles: Record<string, string> = { root, targets: text('Targets', targets), ...delegated };
  const snapshot = text('Snapshot', {
    meta: {
      ...Object.fromEntries(Object.entries(roles).map(([role, bytes]) => [role, meta(bytes)])),
      ...lie,
    },
  });
  const timestamp = text('Timestamp', { meta: { snapshot: meta(snapshot) } });
  for (const [role, bytes] of Object.entries({ ...roles, snapshot }))
    server.script(at(`${role}.${hash(bytes).toString('hex')}`), reply(200, {}, bytes));
  server.script(at('timestamp'), reply(200, {}, timestamp));
  return new Map([...Object.entries({ ...roles, snapshot, timestamp })]);
}

const signs = (digest: string): Repository => ({ targets: { targets: { 1: tag(digest) } } });

function take(options: Partial<SourceOptions> = {}, context_ = context) {
  const all = { ...SOURCE_OPTIONS, plainHttp: true, ...options };
  const found = notaryServerFor({ servers: new Map(), otherwise: server.url }, 'a.example', true);
  if (!found) throw new Error('no server');
  return fetchContentTrust(found, REFERENCE, all, context_);
}

async function refusal(work: Promise<unknown>): Promise<SealiftError> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (!isSealiftError(error)) throw new Error(`not refused: ${String(error)}`);
  return error;
}

describe('the metadata of a repository', () => {
  it('is every file by the name it has for a client, the last root and those before it', async () => {
    const files = publish({
      root: text('Root', { version: 3 }),
      targets: { delegations: { roles: [{ name: 'targets/a' }, { name: 'targets/unsigned' }] } },
      delegated: {
        'targets/a': text('Targets', {
          delegations: { roles: [{ name: 'targets/a/b' }, { name: 'targets/a/b' }] },
        }),
        'targets/a/b': text('Targets', {}),
        // Nobody delegates to it.
        'targets/stray': text('Targets', {}),
      },
    });
    server.script(at('2.root'), reply(200, {}, 'the second'));
    const found = await take();
    const names = ['2.root', 'root', 'timestamp', 'snapshot', 'targets', 'targets/a', 'targets/a/b'];
    expect(found?.map(({ name }) => name)).toEqual(names.map((name) => `${name}.json`));
    expect(found?.map(({ bytes }) => String(bytes))).toEqual(
      names.map((name) => files.get(name) ?? 'the second'),
    );
  });

  it('is none where the server has none', async () => {
    expect(await take()).toBeUndefined();
    expect(server.requests.map(({ url }) => url)).toEqual([at('timestamp')]);
  });

  it('of servers that know no names with hashes is asked for by role', async () => {
    for (const [role, bytes] of publish()) server.script(at(role), reply(200, {}, bytes));
    const plain = new Map([...publish()].map(([role, bytes]) => [role, bytes]));
    for (const [role, bytes] of plain) {
      if (role !== 'timestamp') server.script(at(`${role}.${hash(bytes).toString('hex')}`), reply(404));
      server.script(at(role), reply(200, {}, bytes));
    }
    expect(await take()).toHaveLength(4);
    server.script(at('targets'), reply(200, {}, text('Targets', { version: 2 })));
    expect(await refusal(take())).toMatchObject({ code: 'digest-mismatch' });
  });

  it('is asked for once for all images of the repository, and for the platforms where they are named', async () => {
    publish(signs(image.digest));
    const find = contentTrustFinder(
      { servers: new Map(), otherwise: server.url },
      { ...SOURCE_OPTIONS, plainHttp: true },
      context,
    );
    const pieces = [
      await find(REFERENCE, manifest, true),
      await find(parseReference(`${GUN}:other`), manifest, true),
      await find(REFERENCE, manifest, false),
    ];
    expect(pieces.map(({ length }) => length)).toEqual([1, 1, 1]);
    expect(server.requests).toHaveLength(4);
  });
});

describe('what is said of an image', () => {
  const look = (repository: Repository, isTop = true) => {
    publish(repository);
    const options = { ...SOURCE_OPTIONS, plainHttp: true };
    return contentTrustFinder({ servers: new Map(), otherwise: server.url }, options, context)(
      REFERENCE,
      manifest,
      isTop,
    );
  };
  const codes = () => events.flatMap((event) => (event.type === 'notice' ? [event.code] : []));

  it('that names the tag and another digest is carried, with a warning', async () => {
    expect(await look(signs(`sha256:${'1'.repeat(64)}`))).toHaveLength(1);
    expect(codes()).toEqual(['content-trust-other']);
  });

  it('that names neither tag nor digest is no evidence of it', async () => {
    expect(await look({})).toEqual([]);
    expect(codes()).toEqual(['content-trust-silent']);
  });

  it('that names the tag says nothing of a platform', async () => {
    expect(await look(signs(`sha256:${'1'.repeat(64)}`), false)).toEqual([]);
    expect(codes()).toEqual([]);
  });
});

describe('a hostile server is refused that', () => {
  it.each([
    ['never ends the timestamp', endless(), 'source-too-large'],
    ['announces more than anybody reads', reply(200, { 'content-length': 1e9 }, ''), 'source-too-large'],
    ['sends no JSON', reply(200, {}, '{"signed":'), 'json-invalid'],
    ['sends a page instead', reply(200, { 'content-type': 'text/html' }, '<html>'), 'json-invalid'],
    ['says things twice', reply(200, {}, '{"signed":{},"signed":{}}'), 'json-duplicate-key'],
    ['nests without end', reply(200, {}, `{"signed":${'['.repeat(100)}${']'.repeat(100)}}`), 'json-too-deep'],
    ['sends another type', reply(200, {}, text('Targets', {})), 'source-protocol'],
    ['names no snapshot', reply(200, {}, text('Timestamp', { meta: {} })), 'source-protocol'],
    ['redirects in a circle', reply(302, { location: at('timestamp') }), 'source-protocol'],
    ['redirects to a file', reply(302, { location: 'file:///etc/passwd' }), 'source-protocol'],
    ['compresses', reply(200, { 'content-encoding': 'gzip' }, 'x'), 'source-protocol'],
    ['hides behind an error', reply(500), 'source-unreachable'],
    ['hides behind a refusal', reply(403), 'source-unauthorized'],
  ])('%s', async (_what, step, code) => {
    server.script(at('timestamp'), step);
    const error = await refusal(take());
    expect(error).toMatchObject({ code });
    expect(error.hint).toMatch(/--exclude-evidence notary$/);
  });

  it('drips', async () => {
    server.script(at('timestamp'), drip());
    expect(await refusal(take({ timeoutMs: 30 }))).toMatchObject({ code: 'source-unreachable' });
  });

  it.each([
    ['a hash that is none', { targets: meta('', { hashes: { sha256: 'AAAA' } }) }, 'source-protocol'],
    [
      'a hash in another spelling',
      { targets: meta('', { hashes: { sha256: `${'A'.repeat(42)}B=` } }) },
      'source-protocol',
    ],
    ['no hash', { targets: meta('', { hashes: {} }) }, 'source-protocol'],
    ['a file larger than anybody reads', { targets: meta('', { length: 1e12 }) }, 'source-too-large'],
    ['a file that is not there', { targets: meta('nowhere') }, 'source-protocol'],
    ['no root', { root: undefined }, 'source-protocol'],
    [
      'a shorter file than it sends',
      { targets: meta(text('Targets', {}), { length: 3 }) },
      'source-too-large',
    ],
  ])('names %s', async (_what, lie, code) => {
    publish({ lie });
    expect(await refusal(take())).toMatchObject({ code });
  });

  it.each([
    ['climbs out', 'targets/../../../etc/passwd'],
    ['is of another parent', 'root'],
    ['is no child', 'targets/a/b'],
    ['is too long', `targets/${'a'.repeat(300)}`],
  ])('delegates to a name that %s', async (_what, name) => {
    publish({ targets: { delegations: { roles: [{ name }] } } });
    expect(await refusal(take())).toMatchObject({ code: 'source-protocol' });
    expect(server.requests).toHaveLength(4);
  });

  it('delegates to thousands', async () => {
    const roles = Array.from({ length: 3000 }, (_, index) => ({ name: `targets/d${index}` }));
    publish({ targets: { delegations: { roles } } });
    expect(await refusal(take())).toMatchObject({ code: 'source-too-large' });
    expect(server.requests).toHaveLength(4);
  });

  it('has thousands of roots', async () => {
    publish({ root: text('Root', { version: 100_000 }) });
    expect(await refusal(take())).toMatchObject({ code: 'source-too-large' });
    expect(server.requests).toHaveLength(3);
  });

  it('has files that are too large together', async () => {
    const filler = 'x'.repeat(3 * 1024 * 1024);
    const names = Array.from({ length: 8 }, (_, index) => `targets/d${index}`);
    publish({
      targets: { delegations: { roles: names.map((name) => ({ name })) } },
      delegated: Object.fromEntries(names.map((name) => [name, text('Targets', { filler })])),
    });
    expect(await refusal(take())).toMatchObject({ code: 'source-too-large' });
  });

  it('writes to the terminal', async () => {
    publish({ targets: { targets: { '\u001b[2J': { hashes: { sha256: 'AAAA' } } } } });
    expect((await refusal(take())).message).not.toContain('\u001b');
  });
});

describe('a token', () => {
  const challenge = () =>
    reply(401, { 'www-authenticate': `Bearer realm="${server.url}/token",service="notary"` });
  const asked: string[] = [];
  const credentials = async (host: string, repository?: string) => {
    asked.push(`${host}/${repository}`);
    return host === 'a.example' ? { username: 'me', password: 'the registry password' } : undefined;
  };
  const withToken = (isOfRegistry: boolean) => {
    publish();
    server.script(at('timestamp'), challenge());
    server.script('/token', reply(200, {}, JSON.stringify({ token: 'a-token' })));
    const settings = isOfRegistry
      ? { servers: new Map([['a.example', server.url]]) }
      : { servers: new Map(), otherwise: server.url };
    const found = notaryServerFor(settings, 'a.example', true);
    if (!found) throw new Error('no server');
    asked.length = 0;
    return fetchContentTrust(found, REFERENCE, { ...SOURCE_OPTIONS, plainHttp: true, credentials }, context);
  };

  it('is asked for to pull the repository by its full name, with the credentials of its own registry', async () => {
    const refused = await refusal(withToken(true));
    expect(refused.code).toBe('source-unauthorized');
    const [request] = server.requestsFor('/token');
    expect(request?.url).toContain(`scope=${encodeURIComponent(`repository:${GUN}:pull`)}`);
    expect(request?.headers.authorization).toMatch(/^Basic /);
    expect(asked).toEqual([`${server.host}/${GUN}`, 'a.example/team/app']);
    expect(server.requestsFor(at('timestamp'))[1]?.headers.authorization).toBe('Bearer a-token');
  });

  it('is asked for without them where the server was not named for that registry, and the hint says how', async () => {
    const refused = await refusal(withToken(false));
    expect(server.requestsFor('/token')[0]?.headers.authorization).toBeUndefined();
    expect(asked).toEqual([`${server.host}/${GUN}`]);
    expect(refused.hint).toContain(`--notary-server a.example=${server.url}`);
  });
});

describe('which server is asked', () => {
  const hub = 'https://notary.docker.io';
  it.each([
    [[], {}, {}],
    [[], { DOCKER_CONTENT_TRUST: '0' }, {}],
    [[], { DOCKER_CONTENT_TRUST: '1' }, { contentTrust: { servers: new Map([['docker.io', hub]]) } }],
    [
      [],
      { DOCKER_CONTENT_TRUST_SERVER: 'https://n.example' },
      { contentTrust: { servers: new Map(), otherwise: 'https://n.example' } },
    ],
    [
      [`docker.io=${hub}`],
      { DOCKER_CONTENT_TRUST_SERVER: 'https://n.example' },
      { contentTrust: { servers: new Map([['docker.io', hub]]) } },
    ],
    [
      ['r.example:5000=https://n.example', hub],
      {},
      { contentTrust: { servers: new Map([['r.example:5000', 'https://n.example']]), otherwise: hub } },
    ],
  ])('%j with %j', (given, env, want) => {
    expect(contentTrustFrom(given, env)).toEqual(want);
  });

  it.each([
    [['n.example']],
    [['file:///etc']],
    [[hub, hub]],
    [[`x=${hub}`, `x=${hub}`]],
    [['_=https://n.example']],
  ])('%j is refused', (given) => {
    expect(() => contentTrustFrom(given, {})).toThrow(/--notary-server/);
  });

  it.each([
    'http://n.example',
    'https://me:secret@n.example',
    'https://n.example/?a=b',
    'ftp://n.example',
    'nonsense',
  ])('%s is not', (otherwise) => {
    let message = '';
    try {
      notaryServerFor({ servers: new Map(), otherwise }, 'a.example', false);
    } catch (error) {
      message = `${(error as Error).message} ${(error as SealiftError).subject}`;
    }
    expect(message).toMatch(/notary server cannot be asked/);
    expect(message).not.toContain('secret');
  });
});

const vectors = path.join(
  import.meta.dirname,
  '../../../../shared/vectors/notary-0.1/tuf/docker.com/notary0.1/samplerepo/metadata',
);
describe.skipIf(!existsSync(vectors))('what an early client wrote (needs ../shared/vectors)', () => {
  it('is fetched from a server, and its claims are read', async () => {
    const gun = 'docker.com/notary0.1/samplerepo';
    const names = ['root', 'timestamp', 'snapshot', 'targets'];
    const files: MetadataFile[] = names.map((name) => ({
      name: `${name}.json`,
      bytes: readFileSync(path.join(vectors, `${name}.json`)),
    }));
    for (const { name, bytes } of files)
      server.script(`/v2/${gun}/_trust/tuf/${name}`, reply(200, {}, bytes));
    const found = await fetchContentTrust(
      { base: new URL(`${server.url}/`), isOfRegistry: false },
      { domain: 'docker.com', path: 'notary0.1/samplerepo' },
      { ...SOURCE_OPTIONS, plainHttp: true },
      context,
    );
    expect(found).toEqual(files);
    expect(claimsOf(gun, found ?? [], { tag: 'LICENSE', digest: '' }, DEFAULT_LIMITS)).toMatchObject({
      tags: [{ role: 'targets', tag: 'LICENSE' }],
      expires: '2116-01-12T00:58:43Z',
    });
  });
});
