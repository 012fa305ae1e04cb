/**
 * A bucket of a real server that somebody else has started, such as Ceph's by fixtures/ceph.sh: SEALIFT_TEST_S3 is its URL,
 * AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are its keys.
 */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBucket } from '../../core/publish/bucket.ts';
import type { SyncResult } from '../../core/sync.ts';
import { send } from '../../fixtures/http.ts';
import { largeImage, multiArchImage, schema2Image, signedImage, singleImage } from '../../fixtures/images.ts';
import { startNginx, type WebServer } from '../../fixtures/web-server.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const endpoint = process.env['SEALIFT_TEST_S3'];
const run = promisify(execFile);
const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/signed:v1': signedImage(),
  'quay.io/acme/docker:v1': schema2Image(),
  'quay.io/acme/large:v1': largeImage(2, 12_000_000),
};

describe.runIf(endpoint !== undefined)('a bucket of a real server', () => {
  const bucket = `images-${process.pid}`;
  let world: Publishing;
  let web: WebServer;

  const sync = (options: Parameters<Publishing['sync']>[0] = {}): Promise<SyncResult> =>
    world.sync({
      ...options,
      destinations: [
        (context) =>
          openBucket(
            {
              bucket,
              prefix: 'reg',
              endpoint,
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
  const copy = async (reference: string): Promise<void> => {
    const target = path.join(world.directory, 'copy');
    await run('skopeo', [
      ...['--insecure-policy', 'copy', '--all', '--preserve-digests', '--src-tls-verify=false'],
      ...[`docker://${web.host}/${reference}`, `oci:${target}:v1`],
    ]);
  };

  beforeAll(async () => {
    world = makePublishing();
    await world.admit(images);
    const client = new S3Client({
      endpoint: endpoint ?? '',
      region: 'us-east-1',
      forcePathStyle: true,
      requestChecksumCalculation: 'WHEN_REQUIRED',
    });
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    const Resource = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`];
    const Statement = [
      { Effect: 'Allow', Principal: '*', Action: ['s3:GetObject', 's3:ListBucket'], Resource },
    ];
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
    await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
    client.destroy();
    web = await startNginx(path.join(world.directory, 'nginx'), {
      server: `location /v2/ {
        limit_except GET HEAD { deny all; }
        proxy_pass ${endpoint}/${bucket}/reg/v2/;
        proxy_http_version 1.1;
        add_header Docker-Content-Digest $upstream_http_x_amz_meta_docker_content_digest;
      }`,
    });
  });
  afterAll(async () => {
    await web?.stop();
    await world?.close();
  });

  it('is filled, in parts where blobs are large, and left as it is by a second sync', async () => {
    expect((await sync()).destinations[0]?.changed).toBe(true);
    expect((await sync()).destinations[0]?.changed).toBe(false);
  });

  it('is pulled from by tag and by digest', async () => {
    for (const [name, { digest }] of Object.entries(images)) {
      await copy(name);
      await copy(`${name.slice(0, name.lastIndexOf(':'))}@${digest}`);
      const answer = await send(`${web.url}/v2/${name.replace(':', '/manifests/')}`);
      expect(answer.headers['docker-content-digest']).toBe(digest);
    }
    expect((await send(`${web.url}/v2/library/alpine/manifests/none`)).status).toBe(404);
  });

  it('moves a tag, and loses what is pruned', async () => {
    await world.admit({ 'quay.io/acme/docker:v1': singleImage() });
    expect((await sync()).destinations[0]?.tags.set).toEqual(['quay.io/acme/docker:v1']);
    await copy('quay.io/acme/docker:v1');
    await world.withdraw('docker.io/library/alpine:3.20');
    expect((await sync({ prune: { grace: 0 } })).destinations[0]?.removed.objects).toBeGreaterThan(20);
    expect((await send(`${web.url}/v2/library/alpine/manifests/3.20`)).status).toBe(404);
    expect((await sync({ prune: { grace: 0 } })).destinations[0]?.changed).toBe(false);
  });
});
