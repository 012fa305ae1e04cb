/** Buckets of real servers (fixtures/bucket-servers.ts): filled from a store and straight from a bundle, whatever happens. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { DeleteObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBucket } from '../../core/publish/bucket.ts';
import type { ImportResult } from '../../core/results.ts';
import type { SyncResult } from '../../core/sync.ts';
import { BUCKET_SERVERS, type BucketServer } from '../../fixtures/bucket-servers.ts';
import { type RunResult, runSealift, succeeded } from '../../fixtures/cli.ts';
import { send } from '../../fixtures/http.ts';
import {
  largeImage,
  makeLayout,
  multiArchImage,
  schema2Image,
  sharingImages,
  signedImage,
  singleImage,
} from '../../fixtures/images.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import type { WebServer } from '../../fixtures/web-server.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const run = promisify(execFile);
const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-write.cjs');
/** Of each run that is killed: how much of it was done, between 0 and 1. */
const POINTS = [0.4, 0.92];
const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/docker:v1': schema2Image(),
  'quay.io/acme/signed:v1': signedImage(),
};

describe.each(BUCKET_SERVERS)('$title', ({ title, needs, start }) => {
  describePeer([...needs, 'skopeo'], `a bucket of ${title}`, () => {
    /** Swift's paths become file names twice as long; its directory must be short. */
    const work = mkdtempSync(path.join(os.tmpdir(), 's'));
    let server: BucketServer;
    let client: S3Client;
    beforeAll(async () => {
      server = await start(path.join(work, 'w'));
      await server.makeBucket('images');
      const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } =
        server.credentials;
      client = new S3Client({
        endpoint: server.endpoint,
        region: 'us-east-1',
        forcePathStyle: true,
        requestChecksumCalculation: 'WHEN_REQUIRED',
        credentials: { accessKeyId, secretAccessKey },
      });
    });
    afterAll(async () => {
      client?.destroy();
      await server?.stop();
      rmSync(work, { recursive: true, force: true });
    });

    describe('that is filled from a store', () => {
      let world: Publishing;
      let web: WebServer;
      const sync = (...args: string[]): Promise<RunResult> =>
        runSealift(
          ['sync', `store:${world.store}`, 's3://images/reg', '--endpoint-url', server.endpoint, ...args],
          { env: { PATH: process.env['PATH'], HOME: work, LANG: 'C.UTF-8', ...server.credentials } },
        );
      /** With parts that are as small as servers take them. */
      const syncInParts = async (options: Parameters<Publishing['sync']>[0] = {}): Promise<SyncResult> => {
        Object.assign(process.env, server.credentials);
        try {
          return await world.sync({
            ...options,
            destinations: [
              (context) =>
                openBucket(
                  {
                    bucket: 'images',
                    prefix: 'reg',
                    endpoint: server.endpoint,
                    region: 'us-east-1',
                    pathStyle: true,
                    retryTimes: 2,
                    timeoutMs: 20_000,
                    multipartFrom: 6_000_000,
                    partSize: 5 * 1024 * 1024,
                  },
                  context,
                ),
            ],
          });
        } finally {
          for (const name of Object.keys(server.credentials)) delete process.env[name];
        }
      };

      beforeAll(async () => {
        world = makePublishing();
        await world.admit(images);
        web = await server.serve(path.join(work, 'nginx'), 'images', 'reg');
      });
      afterAll(async () => {
        await web?.stop();
        await world?.close();
      });

      it('is left as it is by a second sync', async () => {
        const first = succeeded(await sync(), 'sync');
        expect(first.stdout).toContain('published  3 images at s3://images/reg');
        const second = succeeded(await sync(), 'sync again');
        expect(second.stdout).toContain('unchanged');
      });

      it.each(Object.entries(images))('gives %s to skopeo, by tag and by digest', async (name, image) => {
        const target = path.join(work, 'copy');
        for (const reference of [name, `${name.slice(0, name.lastIndexOf(':'))}@${image.digest}`]) {
          await run('skopeo', [
            ...['--insecure-policy', 'copy', '--all', '--preserve-digests', '--src-tls-verify=false'],
            ...[`docker://${web.host}/${reference}`, `oci:${target}:v1`],
          ]);
          const { manifests } = JSON.parse(await readFile(path.join(target, 'index.json'), 'utf8'));
          expect(manifests[0].digest).toBe(image.digest);
          await rm(target, { recursive: true });
        }
        const answer = await send(`${web.url}/v2/${name.replace(':', '/manifests/')}`);
        expect(answer.headers['docker-content-digest']).toBe(image.digest);
        expect((await send(`${web.url}/v2/library/alpine/manifests/none`)).status).toBe(404);
      });

      it('takes a large blob in parts, and loses what is pruned', async () => {
        const large = largeImage(2, 12_000_000);
        await world.admit({ 'quay.io/acme/large:v1': large });
        await syncInParts();
        expect((await syncInParts()).destinations[0]?.changed).toBe(false);
        for (const blob of large.blobs) {
          const answer = await send(`${web.url}/v2/quay.io/acme/large/blobs/${blob.digest}`);
          expect(answer.body.equals(Buffer.from(blob.bytes()))).toBe(true);
        }
        await world.withdraw('quay.io/acme/large:v1');
        const pruned = succeeded(await sync('--prune', '--grace', '0'), 'sync --prune');
        expect(pruned.stdout).toContain('removed quay.io/acme/large:v1');
        const gone = await send(`${web.url}/v2/quay.io/acme/large/manifests/v1`);
        expect(gone.status).toBe(404);
        expect((await send(`${web.url}/v2/quay.io/acme/large/manifests/${large.digest}`)).status).toBe(404);
      });

      it('moves a tag', async () => {
        const moved = singleImage();
        await world.admit({ 'quay.io/acme/docker:v1': moved });
        const { stdout } = succeeded(await sync('--json'), 'sync');
        expect(JSON.parse(stdout).result.destinations[0].tags.set).toEqual(['quay.io/acme/docker:v1']);
        const answer = await send(`${web.url}/v2/quay.io/acme/docker/manifests/v1`);
        expect(answer.headers['docker-content-digest']).toBe(moved.digest);
      });

      it('is refused with wrong credentials', async () => {
        const to = ['s3://images/reg', '--endpoint-url', server.endpoint, '--retry-times', '0'];
        const result = await runSealift(['sync', `store:${world.store}`, ...to], {
          env: {
            PATH: process.env['PATH'],
            HOME: work,
            ...server.credentials,
            AWS_SECRET_ACCESS_KEY: 'wrong',
          },
        });
        expect(result.code).toBe(7);
        expect(result.stderr).toContain('403');
      });
    });

    describe('that is filled straight from a bundle', () => {
      let walk: Walk;
      let bundle: string;
      /** Of an import of all of it. */
      let writes = 0;
      beforeAll(async () => {
        walk = makeWalk(work);
        const layout = walk.sandbox.path('layout');
        const sharing = sharingImages();
        const all = { signed: signedImage(), one: sharing[0], two: sharing[1] };
        makeLayout(
          layout,
          Object.entries(all).map(([name, root]) => ({ name, root })),
        );
        bundle = walk.sandbox.path('images.tar');
        await walk.init({ keys: 'native' });
        await walk.export(
          Object.keys(all).map((name) => `docker.io/acme/${name}:v1=oci:${layout}:${name}`),
          bundle,
        );
        await walk.pin(bundle, await walk.rootFingerprint());
      });

      const at = (prefix: string): string[] => [`s3://images/${prefix}`, '--endpoint-url', server.endpoint];
      const importTo = (
        prefix: string,
        args: readonly string[] = [],
        env: Record<string, string> = {},
      ): Promise<RunResult> =>
        walk.sandbox.run(['import', bundle, '--to', ...at(prefix), '--yes', '--no-input', ...args], {
          env: { ...server.credentials, ...env },
        });
      /** And how many writes the server answered. */
      const counted = async (
        prefix: string,
        name: string,
        more: Record<string, string> = {},
      ): Promise<readonly [RunResult, number]> => {
        const counter = path.join(work, `${name}.count`);
        const hook = { NODE_OPTIONS: `--require ${HOOK}`, SEALIFT_WRITE_COUNTER: counter };
        const result = await importTo(prefix, [], { ...hook, ...more });
        return [result, statSync(counter).size];
      };
      const verify = (prefix: string, ...args: string[]): Promise<RunResult> =>
        walk.sandbox.run(['verify', ...at(prefix), ...args], { env: server.credentials });
      /** Entity tags by key, without what names the time of an import. */
      const objectsAt = async (prefix: string): Promise<Record<string, string | undefined>> => {
        const listed = await client.send(
          new ListObjectsV2Command({ Bucket: 'images', Prefix: `${prefix}/` }),
        );
        expect(listed.IsTruncated).toBe(false);
        const objects = (listed.Contents ?? []).map(
          ({ Key = '', ETag }) => [Key.slice(prefix.length + 1), ETag] as const,
        );
        return Object.fromEntries(
          objects.filter(([key]) => key !== 'index.html' && !key.startsWith('.sealift/')),
        );
      };

      it('holds all of it, as verify sees too, and a second import changes nothing', async () => {
        const [first, count] = await counted('a', 'a');
        writes = count;
        expect(succeeded(first, 'import').stdout).toContain('published  3 images');
        const before = await objectsAt('a');
        expect(Object.keys(before).filter((key) => key.endsWith('/manifests/v1'))).toHaveLength(6);
        const again = succeeded(await importTo('a', ['--json']), 'import again');
        expect((JSON.parse(again.stdout) as { result: ImportResult }).result).toMatchObject({
          imported: [],
          written: { blobs: 0, bytes: 0 },
          destinations: [{ changed: false, images: { imported: [], damaged: [] } }],
        });
        expect(await objectsAt('a')).toEqual(before);
        expect(succeeded(await verify('a', '--deep'), 'verify').stdout).toMatch(/right.*as the gate has it/);
      });

      it('ends in the same objects after a kill -9, with nothing half published, and sends nothing twice', async () => {
        const wanted = await objectsAt('a');
        for (const share of POINTS) {
          const point = Math.round(writes * share);
          const when = `write ${point} of ${writes}`;
          const [killed] = await counted(`k${point}`, `${point}-1`, { SEALIFT_KILL_AT: String(point) });
          expect(killed.signal, `${when}: ${killed.stderr}`).toBe('SIGKILL');
          const half = Object.keys(await objectsAt(`k${point}`));
          const tagged = half.find((key) => key.endsWith('/manifests/v1'));
          const missing = Object.keys(wanted).filter(
            (key) => /\/(?:blobs|manifests\/sha256:)/.test(key) && !half.includes(key),
          );
          if (tagged !== undefined) expect(missing, `${when}: ${tagged} is there`).toEqual([]);
          const [resumed, rest] = await counted(`k${point}`, `${point}-2`);
          succeeded(resumed, `import after a kill at ${when}`);
          expect(await objectsAt(`k${point}`), when).toEqual(wanted);
          // What was under way when the first one was killed may have been stored, or not.
          expect(point + rest, when).toBeLessThanOrEqual(writes + 8);
        }
      });

      it('is repaired from the bundle where an object was changed or taken away', async () => {
        const keys = Object.keys(await objectsAt('a'));
        const blob = keys.find((key) => key.startsWith('v2/acme/signed/blobs/')) ?? '';
        const tag = 'v2/acme/one/manifests/v1';
        const Bucket = 'images';
        const { Contents = [] } = await client.send(
          new ListObjectsV2Command({ Bucket, Prefix: `a/${blob}` }),
        );
        const Body = Buffer.alloc(Contents[0]?.Size ?? 0, 'x');
        await client.send(new PutObjectCommand({ Bucket, Key: `a/${blob}`, Body }));
        await client.send(new DeleteObjectCommand({ Bucket, Key: `a/${tag}` }));
        const damaged = await verify('a', '--deep');
        expect(damaged.code).toBe(4);
        expect(damaged.stdout).toContain(blob);
        expect(damaged.stdout).toContain(tag);
        succeeded(await importTo('a', ['--repair', '--deep']), 'import --repair');
        succeeded(await verify('a', '--deep'), 'verify');
      });

      it('loses the tag of a withdrawn image at once, and the rest with --prune', async () => {
        succeeded(
          await walk.sandbox.run([
            ...['trust', 'remove', 'docker.io/acme/two:v1', '--reason', 'it phones home'],
            ...['--yes', '--no-input', '--passphrase-file', walk.passphraseFile],
          ]),
          'trust remove',
        );
        const layout = walk.sandbox.path('layout');
        const newer = walk.sandbox.path('newer.tar');
        await walk.export([`docker.io/acme/one:v1=oci:${layout}:one`], newer);
        bundle = newer;
        const [first, count] = await counted('a', 'a');
        writes = count;
        expect(succeeded(first, 'import').stdout).toContain('removed acme/two:v1');
        const left = Object.keys(await objectsAt('a')).filter((key) => key.startsWith('v2/acme/two/'));
        expect(left.filter((key) => /\/tags\/|\/v1$/.test(key))).toEqual([]);
        expect(left.length).toBeGreaterThan(3);
        succeeded(await importTo('a', ['--prune', '--grace', '0']), 'import --prune');
        const rest = Object.keys(await objectsAt('a'));
        expect(rest.filter((key) => key.includes('acme/two/'))).toEqual([]);
        expect(rest).toContain('v2/acme/signed/manifests/v1');
      });
    });
  });
});
