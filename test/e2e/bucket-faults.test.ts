/** The command against a bucket that misbehaves: clear words, the right exit code, nothing half, and it goes on. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { programFile, type RunResult, runProgram } from '../../fixtures/cli.ts';
import {
  FAKE_CREDENTIALS,
  type FakeFault,
  type FakeOperation,
  type FakeS3,
  startFakeS3,
} from '../../fixtures/fake-s3.ts';
import { sharingImages, signedImage } from '../../fixtures/images.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const TLS = path.join(import.meta.dirname, '../../fixtures/tls');
let world: Publishing;
let server: FakeS3;
beforeAll(async () => {
  world = makePublishing();
  const [one] = sharingImages();
  await world.admit({ 'quay.io/acme/signed:v1': signedImage(), 'quay.io/acme/one:v1': one });
  server = await startFakeS3();
});
afterAll(async () => {
  await server?.close();
  await world?.close();
});
beforeEach(() => {
  server.fault = undefined;
  server.conditional = 'yes';
  server.objects.clear();
});

function sync(url = server.url, env: Record<string, string> = FAKE_CREDENTIALS, args: string[] = []) {
  return runProgram(
    process.execPath,
    [
      ...[programFile(), 'sync', `store:${world.store}`, 's3://images', '--endpoint-url', url],
      ...['--retry-times', '1', '--no-input', ...args],
    ],
    {
      env: {
        PATH: process.env['PATH'],
        HOME: world.directory,
        SEALIFT_GATE: path.join(world.directory, 'gate'),
        AWS_EC2_METADATA_DISABLED: 'true',
        ...env,
      },
      timeout: 60_000,
    },
  );
}

function expectFailed(result: RunResult, code: number, words: RegExp): void {
  expect(result.code, result.stderr).toBe(code);
  expect(result.stderr).toMatch(words);
  expect(result.stderr).not.toMatch(/node:|at .*\.js/);
  const tags = [...server.objects.keys()].filter((key) => key.endsWith('/manifests/v1'));
  expect(tags).toEqual([]);
}

const always = (operation: FakeOperation, fault: FakeFault) => {
  server.fault = (asked) => (asked === operation ? fault : undefined);
};
const once = (operation: FakeOperation, fault: FakeFault) => {
  let left = 1;
  server.fault = (asked) => (asked === operation && left-- > 0 ? fault : undefined);
};

describe('a fault that stays', () => {
  it.each<[string, FakeOperation, FakeFault, number, RegExp]>([
    [
      '403 at listing',
      'list',
      { status: 403, code: 'AccessDenied' },
      7,
      /listing.*403[\s\S]*credentials need to/,
    ],
    ['403 at writing', 'put', { status: 403, code: 'AccessDenied' }, 7, /writing.*403/],
    [
      '500 at writing',
      'put',
      { status: 500, code: 'InternalError' },
      7,
      /status 500[\s\S]*goes on where it stopped/,
    ],
    [
      '503 at writing',
      'put',
      { status: 503, code: 'SlowDown', headers: { 'retry-after': '0' } },
      7,
      /status 503/,
    ],
    ['412 at writing', 'put', { status: 412, code: 'PreconditionFailed' }, 7, /status 412/],
    ['a broken connection', 'put', 'drop', 7, /could not be reached, or broke off/],
    [
      'content that arrives as other bytes',
      'put',
      { status: 400, code: 'BadDigest' },
      4,
      /received other bytes/,
    ],
  ])('%s', async (_what, operation, fault, code, words) => {
    always(operation, fault);
    expectFailed(await sync(), code, words);
  });

  it('and after it has gone, the same command goes on', async () => {
    let puts = 0;
    server.fault = (operation) =>
      operation === 'put' && ++puts > 5 ? { status: 403, code: 'AccessDenied' } : undefined;
    expectFailed(await sync(), 7, /writing.*403/);
    server.fault = undefined;
    const before = [...server.objects.keys()].filter((key) => key.includes('/blobs/'));
    server.log.length = 0;
    const again = await sync();
    expect(again.code, again.stderr).toBe(0);
    expect(server.objects.has('v2/quay.io/acme/signed/manifests/v1')).toBe(true);
    for (const key of before) expect(server.log).not.toContain(`put ${key}`);
  });
});

describe('a fault that passes', () => {
  it.each<[string, FakeOperation, FakeFault]>([
    ['503 with Retry-After', 'put', { status: 503, code: 'SlowDown', headers: { 'retry-after': '0' } }],
    ['an answer that is cut short', 'list', 'truncate'],
    ['an answer that is lost', 'put', 'lose-answer'],
  ])('%s', async (_what, operation, fault) => {
    once(operation, fault);
    const result = await sync();
    expect(result.code, result.stderr).toBe(0);
  });

  it('501 for conditional writes', async () => {
    server.conditional = '501';
    const result = await sync();
    expect(result.code, result.stderr).toBe(0);
  });
});

describe('a bucket that cannot be used', () => {
  it('is no such bucket', async () => {
    const other = await startFakeS3('another');
    try {
      expectFailed(await sync(other.url), 7, /no such bucket/);
    } finally {
      await other.close();
    }
  });

  it('wants credentials, and there are none', async () => {
    expectFailed(await sync(server.url, {}), 7, /no usable credentials[\s\S]*AWS_ACCESS_KEY_ID/);
  });

  it('is at a server whose certificate nobody here knows; with --ca-file it is known', async () => {
    const tls = {
      key: readFileSync(path.join(TLS, 'test-key.pem')),
      cert: readFileSync(path.join(TLS, 'test-certificate.pem')),
    };
    const secure = await startFakeS3('images', tls);
    try {
      expectFailed(await sync(secure.url), 7, /certificate/);
      const known = await sync(secure.url, FAKE_CREDENTIALS, [
        '--ca-file',
        path.join(TLS, 'test-certificate.pem'),
      ]);
      expect(known.code, known.stderr).toBe(0);
      expect(secure.objects.size).toBeGreaterThan(10);
    } finally {
      await secure.close();
    }
  });
});
