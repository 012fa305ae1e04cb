/** How a bucket is reached: options, and the environment as AWS's tools read it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../../cli/commands/index.ts';
import { bucketAccess } from '../../../cli/options/destination.ts';
import { parseArguments } from '../../../cli/parse.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-access-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function certificate(name: string): string {
  const file = path.join(directory, name);
  writeFileSync(file, `-----BEGIN CERTIFICATE-----\n${name}\n-----END CERTIFICATE-----\n`);
  return file;
}

async function access(env: Record<string, string>, ...options: string[]) {
  const { args } = await parseArguments(['sync', 's3://images', ...options], COMMANDS);
  return bucketAccess(args, env);
}

describe('the environment', () => {
  it('names the endpoint of S3 before that of all services, and the region', async () => {
    const all = { AWS_ENDPOINT_URL: 'https://all.example', AWS_REGION: 'eu-1', AWS_DEFAULT_REGION: 'us-2' };
    expect(await access(all)).toMatchObject({ endpoint: 'https://all.example', region: 'eu-1' });
    const s3 = { ...all, AWS_ENDPOINT_URL_S3: 'https://s3.example' };
    expect(await access(s3)).toMatchObject({ endpoint: 'https://s3.example', pathStyle: true });
    expect(await access(s3, '--endpoint-url', 'https://own.example', '--region', 'x')).toMatchObject({
      endpoint: 'https://own.example',
      region: 'x',
    });
    expect(await access({})).toMatchObject({ endpoint: undefined, region: undefined, pathStyle: false });
  });

  it('names authorities, which an option is stronger than', async () => {
    const env = { AWS_CA_BUNDLE: certificate('bundle.pem') };
    expect(String((await access(env)).ca)).toContain('bundle.pem');
    expect(String((await access(env, '--ca-file', certificate('own.pem'))).ca)).toContain('own.pem');
    expect((await access({ AWS_CA_BUNDLE: '' })).ca).toBeUndefined();
    const none = { AWS_CA_BUNDLE: path.join(directory, 'none.pem') };
    await expect(access(none)).rejects.toMatchObject({
      code: 'invalid-argument',
      subject: none.AWS_CA_BUNDLE,
    });
  });

  it.each(['ftp://s3.example', 'https://user@s3.example', 'https://s3.example/path', 's3.example'])(
    'has an endpoint that is a URL of a host: %s is refused',
    async (url) => {
      await expect(access({ AWS_ENDPOINT_URL_S3: url })).rejects.toMatchObject({ code: 'invalid-argument' });
    },
  );
});
