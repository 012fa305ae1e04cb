/** A bucket of OpenStack Swift, filled over its S3 dialect by the program; clients pull from it through nginx. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBucket } from '../../core/publish/bucket.ts';
import { type RunResult, runSealift, succeeded } from '../../fixtures/cli.ts';
import { send } from '../../fixtures/http.ts';
import { largeImage, multiArchImage, schema2Image, signedImage } from '../../fixtures/images.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { SWIFT_CREDENTIALS, type SwiftServer, startSwift } from '../../fixtures/swift.ts';
import { startNginx, type WebServer } from '../../fixtures/web-server.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const run = promisify(execFile);
const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/docker:v1': schema2Image(),
  'quay.io/acme/signed:v1': signedImage(),
};

describePeer(['swift-proxy-server', 'nginx', 'skopeo'], 'a bucket of Swift', () => {
  let world: Publishing;
  let swift: SwiftServer;
  let web: WebServer;
  let work: string;
  const container = async (method: string, headers: Record<string, string> = {}): Promise<void> => {
    const { status } = await send(`${swift.url}/v1/AUTH_test/images`, {
      method,
      headers: { 'x-auth-token': await swift.token(), ...headers },
    });
    expect(status).toBeLessThan(300);
  };
  const sync = (...args: string[]): Promise<RunResult> =>
    runSealift(['sync', `store:${world.store}`, 's3://images/reg', '--endpoint-url', swift.url, ...args], {
      env: { PATH: process.env['PATH'], HOME: work, LANG: 'C.UTF-8', ...SWIFT_CREDENTIALS },
    });

  beforeAll(async () => {
    // Swift's paths become file names twice as long; its directory must be short.
    work = await mkdtemp(path.join(os.tmpdir(), 's'));
    world = makePublishing();
    await world.admit(images);
    mkdirSync(path.join(work, 'w'));
    swift = await startSwift(path.join(work, 'w'));
    await container('PUT', { 'x-container-read': '.r:*' });
    const place = `${swift.url}/v1/AUTH_test/images/reg/v2/`;
    web = await startNginx(path.join(work, 'nginx'), {
      server: `location /v2/ {
        limit_except GET HEAD { deny all; }
        proxy_pass ${place};
        proxy_http_version 1.1;
        add_header Docker-Content-Digest $upstream_http_x_object_meta_docker_content_digest;
      }`,
    });
  });
  afterAll(async () => {
    await web?.stop();
    await swift?.stop();
    await world?.close();
    await rm(work, { recursive: true, force: true });
  });

  it('is filled, and left as it is by a second sync', async () => {
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
  });

  it('takes a large blob in parts, and loses what is pruned', async () => {
    const large = largeImage(1, 12_000_000);
    await world.admit({ 'quay.io/acme/large:v1': large });
    for (const [name, value] of Object.entries(SWIFT_CREDENTIALS)) process.env[name] = value;
    try {
      await world.sync({
        destinations: [
          (context) =>
            openBucket(
              {
                bucket: 'images',
                prefix: 'reg',
                endpoint: swift.url,
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
      for (const name of Object.keys(SWIFT_CREDENTIALS)) delete process.env[name];
    }
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

  it('is refused with wrong credentials', async () => {
    const result = await runSealift(
      ['sync', `store:${world.store}`, 's3://images/reg', '--endpoint-url', swift.url, '--retry-times', '0'],
      {
        env: {
          PATH: process.env['PATH'],
          HOME: work,
          AWS_ACCESS_KEY_ID: 'test:tester',
          AWS_SECRET_ACCESS_KEY: 'wrong',
        },
      },
    );
    expect(result.code).toBe(7);
    expect(result.stderr).toContain('403');
  });
});
