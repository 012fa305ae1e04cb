import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Context } from '../../../core/context.ts';
import { isSealiftError } from '../../../core/errors.ts';
import { readLookaside, writeLookaside } from '../../../core/evidence/lookaside.ts';
import { lookasideFor, parseRegistriesD } from '../../../core/evidence/registries-d.ts';
import { readSignaturesApi } from '../../../core/evidence/signatures-api.ts';
import { wrapSignature } from '../../../core/evidence/wrap.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { type Digest, digestOf } from '../../../core/oci/digest.ts';
import { parseManifest } from '../../../core/oci/manifest.ts';
import { parseReference } from '../../../core/oci/reference.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { SOURCE_OPTIONS } from '../../../fixtures/world.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}` as Digest;
const context: Context = {
  now: new Date('2026-03-01T00:00:00Z'),
  signal: new AbortController().signal,
  emit: () => {},
  limits: DEFAULT_LIMITS,
  pool: createWorkerPool({ size: 0 }),
};
let directory: string;
let server: http.Server;
let base: string;
let answers: Map<string, Buffer | number>;
const asked: string[] = [];
let supports = false;

beforeAll(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-lookaside-'));
  server = http.createServer((request, response) => {
    asked.push(request.url ?? '');
    const answer = answers.get(request.url ?? '') ?? 404;
    if (supports) response.setHeader('X-Registry-Supports-Signatures', '1');
    response.statusCode = typeof answer === 'number' ? answer : 200;
    response.end(typeof answer === 'number' ? '' : answer);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/sigs/`;
});
afterAll(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true, force: true });
});

const read = (from: string) =>
  readLookaside(from, 'a.example:5000/team/app:1', DIGEST, SOURCE_OPTIONS, context);
async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'done',
    (error: unknown) => (isSealiftError(error) ? error.code : String(error)),
  );
}

describe('a lookaside', () => {
  const place = `/sigs/team/app@sha256=${'ab'.repeat(32)}`;
  it('over http is read until the first signature that is not there', async () => {
    answers = new Map([
      [`${place}/signature-1`, Buffer.from('one')],
      [`${place}/signature-2`, Buffer.from('two')],
      [`${place}/signature-4`, Buffer.from('four')],
    ]);
    expect((await read(base)).map(String)).toEqual(['one', 'two']);
    expect(asked.at(-1)).toBe(`${place}/signature-3`);
  });

  it('that fails is an error, not the absence of signatures', async () => {
    answers = new Map([[`${place}/signature-1`, 403]]);
    expect(await codeOf(read(base))).toMatch(/^source-/);
    answers = new Map([[`${place}/signature-1`, 500]]);
    expect(await codeOf(read(base))).toBe('source-unreachable');
  });

  it('does not hand out what is too large', async () => {
    answers = new Map([[`${place}/signature-1`, Buffer.alloc(300 * 1024)]]);
    expect(await codeOf(read(base))).toBe('source-too-large');
  });

  it('is written behind what is there, and each signature once', async () => {
    const write = (text: string) =>
      writeLookaside(directory, 'a.example:5000/team/app:1', DIGEST, Buffer.from(text));
    const first = await write('one');
    expect(path.relative(directory, first)).toBe(`team/app@sha256=${'ab'.repeat(32)}/signature-1`);
    expect(path.basename(await write('two'))).toBe('signature-2');
    expect(await write('one')).toBe(first);
    expect(String(readFileSync(first))).toBe('one');
    expect((await read(`file://${directory}`)).map(String)).toEqual(['one', 'two']);
  });
});

describe('the signatures API extension', () => {
  const reference = () => parseReference(`127.0.0.1:${(server.address() as AddressInfo).port}/team/app:1`);
  const ask = () => readSignaturesApi(reference(), DIGEST, { ...SOURCE_OPTIONS, plainHttp: true }, context);
  const place = `/extensions/v2/team/app/signatures/${DIGEST}`;
  const one = {
    schemaVersion: 2,
    name: `${DIGEST}@1`,
    type: 'atomic',
    content: Buffer.from('one').toString('base64'),
  };

  it('is asked where a registry has it', async () => {
    supports = true;
    const signatures = [one, { ...one, type: 'other' }, { ...one, schemaVersion: 3 }];
    answers = new Map<string, Buffer | number>([
      ['/v2/', Buffer.from('{}')],
      [place, Buffer.from(JSON.stringify({ signatures }))],
    ]);
    expect((await ask()).map(String)).toEqual(['one']);
    answers.set(place, Buffer.from('{"signatures":[{"schemaVersion":2,"type":"atomic","content":"*"}]}'));
    expect(await codeOf(ask())).toBe('source-protocol');
    answers.set(place, 403);
    expect(await codeOf(ask())).toMatch(/^source-/);
  });

  it('is left alone where a registry has it not', async () => {
    supports = false;
    answers = new Map<string, Buffer | number>([
      ['/v2/', Buffer.from('{}')],
      [place, 500],
    ]);
    expect(await ask()).toEqual([]);
  });
});

describe('registries.d', () => {
  const parse = (...texts: string[]) =>
    parseRegistriesD(
      texts.map((text, index) => ({ name: `${index}.yaml`, text })),
      '/var/fallback',
    );
  it('is looked up from the most specific scope that names a place', async () => {
    const settings = await parse(
      'default-docker:\n  lookaside: https://any.example/s\n',
      'docker:\n  a.example:\n    sigstore: file:///a\n  a.example/team:\n    lookaside-staging: file:///staging\n',
    );
    expect(lookasideFor(settings, 'a.example/team/app:1')).toBe('file:///a');
    expect(lookasideFor(settings, 'a.example/team/app:1', true)).toBe('file:///staging');
    expect(lookasideFor(settings, 'b.example/app:1')).toBe('https://any.example/s');
    expect(lookasideFor(await parse(), 'b.example/app:1')).toBe('file:///var/fallback');
  });
  it.each([
    [
      'a scope in two files',
      [
        'docker:\n  a.example:\n    lookaside: file:///a\n',
        'docker:\n  a.example:\n    lookaside: file:///b\n',
      ],
    ],
    ['an unknown field', ['other: 1\n']],
    ['a place that is no URL', ['default-docker:\n  lookaside: /srv\n']],
    ['text that is no YAML', ['docker: [\n']],
  ])('%s is refused', async (_, texts) => {
    expect(await codeOf(parse(...texts))).toBe('invalid-argument');
  });
});

it('the same signature is always wrapped in the same bytes', () => {
  const image = singleImage('wrapped');
  const subject = parseManifest(image.bytes, { mediaType: image.mediaType, limits: DEFAULT_LIMITS });
  const [one, two] = [1, 2].map(() =>
    wrapSignature(Buffer.from('signature'), subject, 'lookaside', DEFAULT_LIMITS),
  );
  expect(Buffer.from(one?.manifest.bytes ?? []).equals(two?.manifest.bytes ?? Buffer.alloc(1))).toBe(true);
  expect(one?.manifest).toMatchObject({
    artifactType: 'application/vnd.sealift.simple-signing.v1',
    subject: { digest: image.digest, size: image.bytes.length },
    layers: [{ digest: digestOf(Buffer.from('signature')) }],
  });
});
