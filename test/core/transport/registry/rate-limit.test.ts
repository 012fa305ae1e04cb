import { afterEach, expect, it } from 'vitest';
import {
  blob,
  type FaultRegistry,
  manifest,
  reply,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import { blobOf, collect, failureOf, registrySource, type TestSource } from '../surroundings.ts';

const IMAGE = singleImage();
const TAG_PATH = '/v2/team/app/manifests/1';
let registry: FaultRegistry;
let test: TestSource;

afterEach(async () => {
  await test.source.close();
  await registry.stop();
});
async function start(address?: string): Promise<void> {
  registry = await startFaultRegistry(address === undefined ? {} : { address });
  test = await registrySource(registry.host);
}
const low = (): string[] =>
  test.events.flatMap((event) =>
    event.type === 'notice' && event.code === 'rate-limit-low' ? [event.message] : [],
  );
const limits = (left: string) => ({
  'ratelimit-limit': '100;w=21600',
  'ratelimit-remaining': `${left};w=21600`,
});

it('few requests left are told once', async () => {
  await start();
  const { bytes, mediaType } = IMAGE;
  const answers = ['76', '20', '19'].map((left) => manifest(bytes, mediaType, limits(left)));
  registry.script(TAG_PATH, ...answers);
  await test.source.manifest('1');
  expect(low()).toEqual([]);
  await test.source.manifest('1');
  await test.source.manifest('1');
  expect(low()).toEqual([
    `${registry.host} lets 20 of 100 requests through in 360 minutes before it refuses; logging in often raises the limit`,
  ]);
});

it.each(['', 'many', '-1'])('a limit of %j is passed over', async (left) => {
  await start();
  registry.script(TAG_PATH, manifest(IMAGE.bytes, IMAGE.mediaType, limits(left)));
  await test.source.manifest('1');
  expect(low()).toEqual([]);
});

it('an answer that refuses tells too', async () => {
  await start();
  registry.script(TAG_PATH, reply(429, { 'retry-after': '3600', ...limits('0') }));
  const error = await failureOf(test.source.manifest('1'));
  expect(error.code).toBe('source-rate-limited');
  expect(low()).toHaveLength(1);
});

it('a registry on an IPv6 address is read from', async () => {
  await start('::1');
  expect(registry.host).toMatch(/^\[::1\]:\d+$/);
  const content = randomContent(1000, 'six');
  registry.script(TAG_PATH, manifest(IMAGE.bytes));
  registry.script(`/v2/team/app/blobs/${blobOf(content).digest}`, blob(content));
  expect((await test.source.manifest('1')).digest).toBe(IMAGE.digest);
  expect(await collect(test.source, blobOf(content))).toEqual(content);
  expect(registry.requests[0]?.headers.host).toBe(registry.host);
});
