/** `NAME:TAG@DIGEST` and `NAME@DIGEST` pin, wherever the image comes from. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseLocation } from '../../../core/transport/location.ts';
import { bindName } from '../../../core/trust-ops/add.ts';
import { dockerArchiveOf } from '../../../fixtures/archives.ts';
import { type FaultRegistry, manifest, startFaultRegistry } from '../../../fixtures/fault-registry.ts';
import { digestOf, makeLayout, singleImage } from '../../../fixtures/images.ts';
import { makeWorld, SOURCE_OPTIONS, type World } from '../../../fixtures/world.ts';
import { failureOf } from './surroundings.ts';

const IMAGE = singleImage('pinned');
const OTHER = `sha256:${'b8'.repeat(32)}`;
let world: World;
let layout: string;
let archive: string;
let count = 0;

beforeAll(async () => {
  world = await makeWorld();
  layout = path.join(world.directory, 'pinned');
  makeLayout(layout, [{ name: 'x', root: IMAGE }]);
  archive = path.join(world.directory, 'pinned.tar');
  writeFileSync(archive, dockerArchiveOf([{ root: IMAGE, tags: ['quay.io/acme/app:1'] }]));
});
afterAll(() => world.close());

async function exported(text: string) {
  count += 1;
  const options = {
    images: [parseLocation(text)],
    file: path.join(world.directory, `pins-${count}.tar`),
    source: { ...SOURCE_OPTIONS, plainHttp: true, timeoutMs: 5000, temporary: world.directory },
  };
  return (await world.export({}, options)).images;
}

describe('a pinned name', () => {
  it.each(['quay.io/acme/app:1@', 'quay.io/acme/app@'])('%sDIGEST is given to that image', async (name) => {
    const [image] = await exported(`${name}${IMAGE.digest}=oci:${layout}:x`);
    expect(image?.digest).toBe(IMAGE.digest);
  });

  it.each(['quay.io/acme/app:1@', 'quay.io/acme/app@'])('%sDIGEST is refused to another', async (name) => {
    for (const location of [`oci:${layout}:x`, `docker-archive:${archive}`]) {
      const error = await failureOf(exported(`${name}${OTHER}=${location}`));
      expect(error).toMatchObject({ code: 'digest-mismatch', want: OTHER });
    }
  });

  it('of sha512 is compared as such', async () => {
    const digest = digestOf(IMAGE.bytes, 'sha512');
    const [image] = await exported(`quay.io/acme/app:1@${digest}=oci:${layout}:x`);
    expect(image?.name).toBe('quay.io/acme/app:1');
    const error = await failureOf(exported(`quay.io/acme/app:1@${digest.replace(/.$/, '-')}=oci:${layout}`));
    expect(error.code).toBe('invalid-digest');
  });

  it('that is bound by hand is bound to its own digest', () => {
    const facts = { size: 7, mediaType: IMAGE.mediaType };
    const bind = (pin: string) => () =>
      bindName(parseLocation(`quay.io/acme/app:1@${pin}=oci:x`), { digest: IMAGE.digest, ...facts });
    expect([...bind(IMAGE.digest)().keys()]).toEqual(['quay.io/acme/app:1']);
    expect(bind(OTHER)).toThrow('the name says another digest');
  });
});

describe('a pinned name from a registry', () => {
  let registry: FaultRegistry;
  beforeEach(async () => {
    registry = await startFaultRegistry();
  });
  afterEach(() => registry.stop());

  it('asks for the digest, as the tag may have moved on', async () => {
    registry.script('/v2/team/app/manifests/1', manifest(singleImage('moved').bytes));
    registry.script(`/v2/team/app/manifests/${OTHER}`, manifest(IMAGE.bytes));
    const error = await failureOf(
      exported(`quay.io/acme/app:1@${OTHER}=docker://${registry.host}/team/app:1`),
    );
    expect(error.code).toBe('digest-mismatch');
    expect(registry.requestsFor('/v2/team/app/manifests/1')).toEqual([]);
  });

  it('is refused where the location names another digest', async () => {
    registry.script(`/v2/team/app/manifests/${IMAGE.digest}`, manifest(IMAGE.bytes));
    const text = `quay.io/acme/app:1@${OTHER}=docker://${registry.host}/team/app@${IMAGE.digest}`;
    expect(await failureOf(exported(text))).toMatchObject({ code: 'digest-mismatch', want: OTHER });
  });
});

it.each([IMAGE.digest, `@${IMAGE.digest}`, digestOf(IMAGE.bytes, 'sha512')])(
  'a digest alone needs a name: %s',
  (text) => {
    expect(() => parseLocation(text)).toThrow('this is a digest, which names no repository');
    expect(() => parseLocation(`docker://${text}`)).toThrow('this is a digest, which names no repository');
  },
);
