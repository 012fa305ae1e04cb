/** Tags that are mostly not there are asked for by HEAD; what that question cannot answer is no absence. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf } from '../../../../core/oci/digest.ts';
import { cosignManifest, cosignTag } from '../../../../fixtures/cosign.ts';
import {
  type FaultRegistry,
  manifest,
  notFound,
  reply,
  type Step,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { failureOf, registrySource, type TestSource } from '../surroundings.ts';

const SUBJECT = digestOf(Buffer.from('subject'));
const TAG = cosignTag(SUBJECT, 'sig');
const PLACE = `/v2/team/app/manifests/${TAG}`;
const signature = cosignManifest('sig', 'a signature');
const good = manifest(signature.bytes, signature.mediaType);

let registry: FaultRegistry;
let opened: TestSource;

beforeEach(async () => {
  registry = await startFaultRegistry();
  opened = await registrySource(registry.host);
});

afterEach(async () => {
  await opened.source.close();
  await registry.stop();
});

const methods = () => registry.requestsFor(PLACE).map(({ method }) => method);
/** Other answers for HEAD than for what follows it. */
const byMethod =
  (head: Step): Step =>
  (request, response, body) =>
    (request.method === 'HEAD' ? head : good)(request, response, body);
const tags = async () => (await opened.source.tagged?.(SUBJECT))?.map(({ tag }) => tag);

describe('a tag', () => {
  it('that is there is fetched', async () => {
    registry.script(PLACE, good);
    expect(await tags()).toEqual([TAG]);
    expect(methods()).toEqual(['HEAD', 'GET']);
  });

  it('that is not there is not', async () => {
    registry.script(PLACE, notFound);
    expect(await tags()).toEqual([]);
    expect(methods()).toEqual(['HEAD']);
  });

  it.each([400, 403, 405, 501])('is fetched where the registry answers HEAD with %i', async (status) => {
    registry.script(PLACE, byMethod(reply(status)));
    expect(await tags()).toEqual([TAG]);
  });

  it.each([429, 500, 503])('is not taken for absent where the registry answers %i', async (status) => {
    registry.script(PLACE, reply(status));
    expect((await failureOf(tags())).code).toMatch(/^source-(?:unreachable|rate-limited)$/);
  });

  it('is asked for where a redirect leads, still by HEAD', async () => {
    registry.script(PLACE, byMethod(reply(307, { location: '/elsewhere' })));
    registry.script('/elsewhere', reply(404));
    expect(await tags()).toEqual([]);
    expect(registry.requestsFor('/elsewhere').map(({ method }) => method)).toEqual(['HEAD']);
  });
});
