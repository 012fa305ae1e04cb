/**
 * Docker Content Trust across the air gap: signed by notary's client, served by its server, carried byte for byte, and
 * read by the client again from what came out, with the server gone.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TITLE } from '../../core/evidence/wrap.ts';
import type { ExportPreview, ImportResult, InspectResult } from '../../core/results.ts';
import { CONTENT_TRUST_ARTIFACT } from '../../core/trust/evidence/media-types.ts';
import { succeeded } from '../../fixtures/cli.ts';
import { send } from '../../fixtures/http.ts';
import { multiArchImage, pushImage, singleImage } from '../../fixtures/images.ts';
import { type NotaryServer, runNotary, startNotaryServer } from '../../fixtures/notary.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { type RunningRegistry, startDockerRegistry } from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { filesOf, forge } from '../../fixtures/world.ts';

describePeer(['notary', 'notary-server', 'docker-registry', 'openssl'], 'content trust', () => {
  const image = multiArchImage();
  const other = singleImage('signed under another digest');
  let home: string;
  let registry: RunningRegistry;
  let server: NotaryServer;
  let walk: Walk;
  let bundle: string;
  let gun: string;
  let list: string;
  /** What the server had at the export. */
  const published = new Map<string, Buffer>();

  async function add(tag: string, { digest, bytes }: { digest: string; bytes: Buffer }, role?: string) {
    const hex = digest.replace('sha256:', '');
    const where = role === undefined ? [] : ['-r', role];
    await server.notary(['addhash', gun, tag, String(bytes.length), '--sha256', hex, ...where, '-p']);
  }

  beforeAll(async () => {
    home = mkdtempSync(path.join(os.tmpdir(), 'sealift-content-trust-'));
    [registry, server] = await Promise.all([startDockerRegistry(), startNotaryServer()]);
    walk = makeWalk();
    gun = `${registry.host}/team/app`;
    for (const [tag, root] of [
      ['v1', image],
      ['moved', image],
      ['unsigned', singleImage('signed by nobody')],
    ] as const)
      await pushImage(registry.url, 'team/app', tag, root);

    const [key, certificate] = [path.join(home, 'alice.key'), path.join(home, 'alice.crt')];
    execFileSync(
      'openssl',
      [
        ...[
          'req',
          '-x509',
          '-newkey',
          'ec',
          '-pkeyopt',
          'ec_paramgen_curve:P-256',
          '-nodes',
          '-subj',
          '/CN=alice',
        ],
        ...['-keyout', key, '-out', certificate, '-days', '30'],
      ],
      { stdio: 'ignore' },
    );
    await server.notary(['init', gun, '-p']);
    await server.notary(['delegation', 'add', '-p', gun, 'targets/releases', certificate, '--all-paths']);
    await server.notary(['key', 'import', key, '--role', 'targets/releases']);
    await add('v1', image, 'targets/releases');
    await add('moved', other);
    await server.notary(['key', 'rotate', gun, 'root'], 'yes\n');
    list = await server.notary(['list', gun]);
    for (const [name, at] of [
      ['1.root', '1.root'],
      ...['root', 'timestamp', 'snapshot', 'targets', 'targets/releases'].map((role) => [role, role]),
    ] as const)
      published.set(`${name}.json`, (await send(`${server.url}/v2/${gun}/_trust/tuf/${at}.json`)).body);

    await walk.init();
    bundle = walk.sandbox.path('images.tar');
    await walk.export([`docker://${gun}:v1`, `docker://${gun}:moved`, `docker://${gun}:unsigned`], bundle, {
      args: ['--notary-server', server.url],
    });
  });
  afterAll(async () => {
    await Promise.all([registry?.stop(), server?.stop()]);
    rmSync(home, { recursive: true, force: true });
    walk?.sandbox.remove();
  });

  /** Files of the piece that hangs on an image, by name, as bundle or store has them. */
  function filesAt(evidence: string, read: (blob: string) => Buffer): Map<string, Buffer> {
    const manifest = JSON.parse(String(read(evidence))) as {
      layers: { digest: string; annotations: Record<string, string> }[];
    };
    return new Map(
      manifest.layers.map(({ digest, annotations }) => [annotations[TITLE] ?? '', read(digest)]),
    );
  }

  it('is shown by kind before anything is transferred, and left out on demand', async () => {
    const look = (...args: string[]) =>
      walk.json<ExportPreview>(['export', '--dry-run', '--plain-http', `docker://${gun}:v1`, ...args]);
    const { images } = await look('--notary-server', server.url);
    expect(images[0]?.evidenceKinds).toContainEqual({ kind: 'content-trust', count: 1 });
    const without = await look('--notary-server', server.url, '--exclude-evidence', 'notary');
    expect(without.images[0]?.evidenceKinds).toEqual([]);
    // Nobody is asked who was not named.
    expect((await look()).images[0]?.evidenceKinds).toEqual([]);
  });

  it("is asked for where docker's variable names the server", async () => {
    const { images } = await walk.json<ExportPreview>(
      ['export', '--dry-run', '--plain-http', `docker://${gun}:v1`],
      { env: { ...walk.sandbox.env, DOCKER_CONTENT_TRUST_SERVER: server.url } },
    );
    expect(images[0]?.evidenceKinds).toContainEqual({ kind: 'content-trust', count: 1 });
  });

  it('is carried byte for byte, and inspect says what it claims', async () => {
    const { images } = await walk.json<InspectResult>(['inspect', bundle]);
    const pieces = images.map(({ evidence }) => evidence.find(({ kind }) => kind === 'content-trust'));
    const [moved, unsigned, v1] = pieces;
    expect(unsigned).toBeUndefined();
    expect(v1).toMatchObject({
      via: 'notary',
      artifactType: CONTENT_TRUST_ARTIFACT,
      state: 'carried',
      contentTrust: {
        gun,
        tags: [{ role: 'targets/releases', tag: 'v1', digest: image.digest }],
        expiresFirst: 'timestamp',
      },
    });
    expect(moved?.contentTrust?.tags).toContainEqual({ role: 'targets', tag: 'moved', digest: other.digest });
    const files = filesOf(bundle);
    const carried = filesAt(v1?.digest ?? '', (digest) => {
      const bytes = files.get(`blobs/${digest.replace(':', '/')}`);
      if (!bytes) throw new Error(`no ${digest}`);
      return bytes;
    });
    expect(carried).toEqual(published);
  });

  it('is there after the import with registry and server gone, and the client agrees with it', async () => {
    await Promise.all([registry.stop(), server.stop()]);
    await walk.pin(bundle, await walk.rootFingerprint());
    const store = walk.sandbox.path('store');
    const imported = await walk.import(bundle, { args: ['--json'] });
    const { result } = JSON.parse(imported.stdout) as { result: ImportResult };
    const piece = result.images
      .find(({ name }) => name === `${gun}:v1`)
      ?.evidence.find(({ kind }) => kind === 'content-trust');
    expect(piece).toMatchObject({ state: 'carried' });
    const read = (digest: string) => readFileSync(path.join(store, 'blobs', digest.replace(':', '/')));
    const found = filesAt(piece?.digest ?? '', read);
    expect(found).toEqual(published);

    const cache = path.join(home, 'sealed');
    for (const [name, bytes] of found) {
      const file = path.join(cache, 'tuf', gun, 'metadata', name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, bytes);
    }
    expect(await runNotary(cache, server.url, ['list', gun])).toBe(list);

    const { images } = await walk.json<InspectResult>(['inspect', store]);
    expect(images.find(({ name }) => name === `${gun}:v1`)?.evidence[0]?.contentTrust?.tags).toHaveLength(1);
  });

  it('goes on from the store into a static tree, and into another bundle', async () => {
    const store = `store:${walk.sandbox.path('store')}`;
    const tree = walk.sandbox.path('tree');
    succeeded(
      await walk.sandbox.run(['sync', store, `static:${tree}`, '--yes', '--map', `${gun}=a.example/app`]),
      'sync',
    );
    const again = walk.sandbox.path('again.tar');
    await walk.export([`${store}:${gun}:v1`], again);
    const [{ evidence = [] } = {}] = (await walk.json<InspectResult>(['inspect', again])).images;
    const [piece] = evidence;
    expect(piece).toMatchObject({ kind: 'content-trust', contentTrust: { gun } });
    // Clients find it by its digest, as any other manifest.
    const found = readdirSync(tree, { recursive: true }).map(String);
    expect(found.filter((file) => file.endsWith(`app/manifests/${piece?.digest}`))).not.toEqual([]);
  });

  it('that was stripped is missed', async () => {
    const stripped = forge(bundle, walk.sandbox.path('stripped.tar'), (files, manifest) => {
      const piece = manifest.evidence.find(({ via }) => via === 'notary');
      files.delete(`blobs/${piece?.digest.replace(':', '/')}`);
    });
    const refused = await walk.sandbox.run(['verify', stripped, '--json']);
    expect(refused.code).toBe(5);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'target-mismatch' } });
  });
});
