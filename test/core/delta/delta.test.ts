/** Deltas: what is left out, what an import does about it, and what nobody can make it do. */
import {
  createReadStream,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BundleManifest } from '../../../core/bundle/manifest.ts';
import { paperCode } from '../../../core/delta/code.ts';
import { openLedger } from '../../../core/delta/ledger.ts';
import { SealiftError } from '../../../core/errors.ts';
import { inspectLocation } from '../../../core/inspect.ts';
import { Checklist, judgeContent } from '../../../core/judge.ts';
import { previewExport } from '../../../core/preview.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { openCollection } from '../../../core/trust/collection.ts';
import {
  artifactImage,
  type FixtureManifest,
  makeImage,
  makeLayer,
  makeLayout,
  multiArchImage,
  sha512Image,
  signedImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { entriesOf } from '../../../fixtures/mutate.ts';
import {
  DAY,
  filesOf,
  flip,
  forge,
  layerNames,
  makeWorld,
  SOURCE_OPTIONS,
  START,
  type World,
} from '../../../fixtures/world.ts';

const APP = 'registry.example/team/app:1';
const LIB = 'registry.example/team/lib:2';
const later = (days: number) => new Date(START.getTime() + days * DAY);
const LAST = { kind: 'last' } as const;
const PLATFORM = { os: 'linux', architecture: 'amd64' };

/** An image of one layer that never changes and one of its own. */
function grown(label: string): FixtureManifest {
  return makeImage({
    platform: PLATFORM,
    layers: [
      makeLayer({ 'base.txt': 'the same in all'.repeat(500) }),
      makeLayer({ 'own.txt': label.repeat(300) }),
    ],
  });
}

function manifestOf(file: string): BundleManifest {
  return JSON.parse(String(filesOf(file).get('sealift.json'))) as BundleManifest;
}

async function refusal(
  work: Promise<unknown>,
): Promise<{ code: string; message: string; hint: string; check: string }> {
  return work.then(
    () => ({ code: 'accepted', message: '', hint: '', check: '' }),
    (error: { code: string; message: string; hint: string; check: string }) => error,
  );
}

/** The one layer that a delta left out. */
function missingOf(file: string): string {
  return manifestOf(file).base?.missing[0]?.name ?? '';
}

let world: World;
let first: string;
beforeEach(async () => {
  world = await makeWorld();
  first = (await world.export({ [APP]: grown('one') })).output;
  await world.pin(first);
});
afterEach(() => world.close());

describe('a delta', () => {
  test('leaves out the layers that are there, and the store ends as a whole bundle would leave it', async () => {
    await world.import(first);
    const whole = await world.export(
      { [APP]: grown('two') },
      { now: later(1), file: path.join(world.directory, 'whole.tar') },
    );
    const delta = await world.export(
      { [APP]: grown('two') },
      { now: later(2), since: { kind: 'file', path: first } },
    );
    const manifest = manifestOf(delta.output);
    expect(manifest.requires).toEqual(['delta']);
    expect(manifest.base).toMatchObject({ version: 2, collection: manifest.collection.id });
    expect(manifest.base?.missing).toHaveLength(1);
    expect(layerNames(delta.output)).toHaveLength(1);
    expect(delta.base).toEqual({ version: 2, blobs: 1, bytes: manifest.base?.missing[0]?.size });
    expect(statSync(delta.output).size).toBeLessThan(whole.size);
    expect(filesOf(delta.output).has('manifest.json')).toBe(false);
    expect(String(filesOf(delta.output).get('README.txt'))).toContain('This is a delta on version 2');

    const result = await world.import(delta.output, { now: later(2) });
    expect(result).toMatchObject({ imported: [APP], base: { version: 2, blobs: 1 } });
    expect(result.written.blobs).toBe(3);
    const byDelta = world.storeState();
    rmSync(world.store, { recursive: true });
    rmSync(world.gate, { recursive: true });
    await world.pin(first);
    await world.import(first);
    await world.import(whole.output, { now: later(2) });
    const blobs = (state: unknown) => Object.keys(state as object).filter((file) => file.startsWith('blobs'));
    expect(blobs(byDelta)).toEqual(blobs(world.storeState()));
  });

  test('of what has not changed carries no layer at all', async () => {
    await world.import(first);
    const { output, base } = await world.export({ [APP]: grown('one') }, { now: later(1), since: LAST });
    expect(layerNames(output)).toEqual([]);
    expect(base?.blobs).toBe(2);
    expect(await world.import(output, { now: later(1) })).toMatchObject({
      unchanged: [APP],
      written: { blobs: 0 },
    });
  });

  test('of nothing that is there is a whole bundle', async () => {
    const { output, base } = await world.export(
      { [LIB]: singleImage('other') },
      { now: later(1), since: LAST },
    );
    expect(base).toBeUndefined();
    expect(manifestOf(output)).toMatchObject({ requires: [] });
    expect(manifestOf(output).base).toBeUndefined();
  });

  test('carries manifests, configs and evidence whatever the other side has, of every kind of image', async () => {
    const images = {
      [APP]: signedImage(),
      [LIB]: multiArchImage(),
      'registry.example/a/b:1': sha512Image(),
      'registry.example/a/c:1': artifactImage(),
    };
    const before = (await world.export(images, { now: later(1) })).output;
    await world.import(before, { now: later(1) });
    const { output } = await world.export(images, { now: later(2), since: LAST });
    const entries = (file: string, layer: boolean) =>
      manifestOf(file)
        .entries.filter(({ kind }) => kind && (kind === 'layer') === layer)
        .map(({ name }) => name);
    expect(entries(output, false)).toEqual(entries(before, false));
    expect(entries(output, true)).toEqual([]);
    expect(manifestOf(output).base?.missing.map(({ name }) => name)).toEqual(entries(before, true));
    await world.import(output, { now: later(2) });
  });

  test('goes on where it was interrupted, with the bytes that were signed', async () => {
    const layout = path.join(world.directory, 'layout');
    makeLayout(layout, [{ name: APP, root: grown('two') }]);
    const options = {
      images: [parseLocation(`${APP}=oci:${layout}:${APP}`)],
      file: path.join(world.directory, 'delta.tar'),
      now: later(1),
      since: LAST,
    };
    const [, layer] = grown('two').blobs.slice(1);
    const blob = path.join(layout, 'blobs/sha256', layer?.digest.slice(7) ?? '');
    const kept = readFileSync(blob);
    rmSync(blob);
    expect((await refusal(world.export({ [APP]: grown('two') }, options))).code).not.toBe('accepted');
    writeFileSync(blob, kept);
    const { resumed, base } = await world.export({ [APP]: grown('two') }, options);
    expect({ resumed, base }).toMatchObject({ resumed: true, base: { version: 2, blobs: 1 } });
    expect(await world.import(options.file, { now: later(1), blobsFrom: [first] })).toMatchObject({
      imported: [APP],
    });
  });

  test('as a docker archive is refused', async () => {
    expect(
      await refusal(
        world.export({ [APP]: grown('two') }, { now: later(1), since: LAST, dockerArchive: true }),
      ),
    ).toMatchObject({
      code: 'invalid-argument',
    });
  });

  test('is shown by inspect, and verify says what it could not look at', async () => {
    const { output } = await world.export({ [APP]: grown('two') }, { now: later(1), since: LAST });
    expect(
      (await inspectLocation({ location: output, names: [] }, world.context(later(1)))).base,
    ).toMatchObject({ version: 2, blobs: 1 });
    const alone = await world.verify(output, { now: later(1) });
    expect(alone.checks.find(({ check }) => check === 'base')).toMatchObject({ status: 'skipped' });
    expect(await refusal(world.verify(output, { now: later(1), store: world.store }))).toMatchObject({
      code: 'accepted',
    });
    await world.import(first);
    const beside = await world.verify(output, { now: later(1), store: world.store });
    expect(beside.checks.find(({ check }) => check === 'base')).toMatchObject({ status: 'passed' });
    rmSync(path.join(world.store, manifestOf(output).base?.missing[0]?.name ?? ''));
    expect(await refusal(world.verify(output, { now: later(1), store: world.store }))).toMatchObject({
      code: 'base-needed',
      check: 'base',
    });
  });
});

describe('a delta whose base is missing', () => {
  let delta: string;
  beforeEach(async () => {
    delta = (
      await world.export({ [APP]: grown('two'), [LIB]: grown('three') }, { now: later(1), since: LAST })
    ).output;
  });

  test('is refused, names each image that lacks something, and leaves the store as it was', async () => {
    const error = await refusal(world.import(delta, { now: later(1) }));
    expect(error).toMatchObject({ code: 'base-needed', check: 'base' });
    expect(error.message).toContain('1 layer');
    expect(error.message).toContain('2 images');
    const notices = world.events.filter((event) => event.type === 'notice' && event.code === 'base-missing');
    expect(notices.map((event) => (event.type === 'notice' ? event.message : ''))).toEqual([
      expect.stringMatching(/^registry.example\/team\/app:1 lacks sha256:[0-9a-f]{64} /),
      expect.stringMatching(/^registry.example\/team\/lib:2 lacks sha256:/),
    ]);
    expect(readdirSync(path.join(world.store, 'blobs/sha256'))).toEqual([]);
    expect(existsSync(path.join(path.dirname(delta), 'request.json'))).toBe(false);
  });

  test('takes the bytes of the earlier bundle, though that is below the floor and has expired', async () => {
    await refusal(world.import(delta, { now: later(1) }));
    // As a statement the earlier bundle is refused now.
    expect(await refusal(world.import(first, { now: later(1) }))).toMatchObject({ code: 'rollback' });
    const result = await world.import(delta, { now: later(80), blobsFrom: [first] });
    expect(result.imported).toEqual([APP, LIB]);
    expect(
      (await world.verify(delta, { now: later(80), store: world.store })).checks.find(
        ({ check }) => check === 'base',
      )?.status,
    ).toBe('passed');
  });

  test('takes no byte of an earlier bundle that was damaged, and another copy does', async () => {
    const [missing = ''] = manifestOf(delta).base?.missing.map(({ name }) => name) ?? [];
    const bad = flip(first, path.join(world.directory, 'bad.tar'), missing, 700);
    const error = await refusal(world.import(delta, { now: later(1), blobsFrom: [bad] }));
    expect(error).toMatchObject({ code: 'digest-mismatch', check: 'layers' });
    expect(error.hint).toContain('bad.tar');
    expect(existsSync(path.join(world.store, missing))).toBe(false);
    expect(await world.import(delta, { now: later(1), blobsFrom: [bad, first] })).toMatchObject({
      imported: [APP, LIB],
    });
  });

  test('takes no byte of an earlier bundle that ends too early', async () => {
    const cut = path.join(world.directory, 'cut.tar');
    writeFileSync(cut, readFileSync(first));
    const last = entriesOf(readFileSync(first)).findLast(({ name }) => name === missingOf(delta));
    truncateSync(cut, (last?.contentOffset ?? 0) + 100);
    expect(['bundle-truncated', 'digest-mismatch']).toContain(
      (await refusal(world.import(delta, { now: later(1), blobsFrom: [cut] }))).code,
    );
    expect(existsSync(path.join(world.store, missingOf(delta)))).toBe(false);
    expect(await world.import(delta, { now: later(1), blobsFrom: [first] })).toMatchObject({
      imported: [APP, LIB],
    });
  });

  test('takes the bytes of a bundle by a stranger, and none of its statements', async () => {
    const stranger = await world.stranger();
    const theirs = (await stranger.export({ 'registry.example/evil:1': grown('evil') })).output;
    const result = await world.import(delta, { now: later(1), blobsFrom: [theirs] });
    expect(result.imported).toEqual([APP, LIB]);
    expect(result.images.map(({ name }) => name)).toEqual([APP, LIB]);
  });

  test('asked for by a short name misses the same', async () => {
    const name = 'docker.io/library/app:1';
    const { output } = await world.export({ [name]: grown('two') }, { now: later(2), since: LAST });
    expect(await refusal(world.import(output, { now: later(2), only: ['app:1'] }))).toMatchObject({
      code: 'base-needed',
      check: 'base',
    });
  });

  test('misses nothing that only other images need', async () => {
    const both = (
      await world.export({ [APP]: grown('two'), [LIB]: singleImage('alone') }, { now: later(2), since: LAST })
    ).output;
    expect(
      await world.import(both, { now: later(2), only: [LIB] }).catch((error: unknown) => error),
    ).toMatchObject({ imported: [LIB] });
    expect(await refusal(world.import(both, { now: later(2) }))).toMatchObject({ code: 'base-needed' });
  });

  test('sees a blob of another length, and with --check-base one that was tampered with', async () => {
    await world.import(first);
    const [missing = ''] = manifestOf(delta).base?.missing.map(({ name }) => name) ?? [];
    const blob = path.join(world.store, missing);
    const size = statSync(blob).size;
    rmSync(blob);
    writeFileSync(blob, Buffer.alloc(size, 7));
    expect(await refusal(world.import(delta, { now: later(1), checkBase: true }))).toMatchObject({
      code: 'base-needed',
    });
    expect(existsSync(blob)).toBe(false);
    writeFileSync(blob, 'short');
    expect(await refusal(world.import(delta, { now: later(1) }))).toMatchObject({ code: 'base-needed' });
    rmSync(blob);
    expect(await world.import(delta, { now: later(1), checkBase: true, blobsFrom: [first] })).toMatchObject({
      imported: [APP, LIB],
    });
  });

  test('read from a stream is judged the same', async () => {
    const stream = () => ({ kind: 'stream', stream: createReadStream(delta) }) as const;
    expect(await refusal(world.import(delta, { now: later(1), bundle: stream() }))).toMatchObject({
      code: 'base-needed',
    });
    expect(await world.import(delta, { now: later(1), bundle: stream(), blobsFrom: [first] })).toMatchObject({
      imported: [APP, LIB],
    });
  });
});

describe('an attacker who has no key', () => {
  test('cannot take a layer out of a bundle and call it a delta', async () => {
    const [layer = ''] = layerNames(first);
    const hostile = forge(first, path.join(world.directory, 'hostile.tar'), (files, manifest) => {
      const size = files.get(layer)?.length ?? 0;
      files.delete(layer);
      Object.assign(manifest, {
        requires: ['delta'],
        base: {
          collection: manifest.collection.id,
          version: 1,
          missing: [{ name: layer, size, sha256: layer.slice(-64) }],
        },
      });
    });
    expect(await refusal(world.import(hostile))).toMatchObject({
      code: 'target-mismatch',
      check: 'bundle-manifest',
    });
  });

  test('cannot put bytes into the store through --blobs-from that no manifest names', async () => {
    await world.import(first);
    const delta = (await world.export({ [APP]: grown('two') }, { now: later(1), since: LAST })).output;
    const stranger = await world.stranger();
    const theirs = (await stranger.export({ 'registry.example/evil:1': singleImage('evil') })).output;
    await world.import(delta, { now: later(1), blobsFrom: [theirs] });
    for (const name of layerNames(theirs)) expect(existsSync(path.join(world.store, name))).toBe(false);
  });
});

describe('a sender who signs what should not be', () => {
  /** Judges a genuine delta after `edit` has changed its manifest, as if it had been signed so. */
  async function judged(edit: (manifest: Mutable) => void, holds: (digest: string) => boolean = () => true) {
    await world.import(first);
    const { output } = await world.export({ [APP]: signedImage() }, { now: later(1) });
    const delta = await world.export(
      { [APP]: signedImage() },
      { now: later(2), since: { kind: 'file', path: output } },
    );
    const files = filesOf(delta.output);
    const manifest = structuredClone(manifestOf(delta.output)) as Mutable;
    edit(manifest);
    const context = world.context(later(2));
    return refusal(
      judgeContent(
        manifest,
        { dockerManifest: undefined } as never,
        async (name) => {
          const bytes = files.get(name);
          if (!bytes) throw new SealiftError('blob-missing', 'not in the archive');
          return bytes;
        },
        new Checklist(context),
        context,
        undefined,
        { words: 'the store', only: [], holds: async (digest) => holds(digest) },
      ),
    );
  }
  type Mutable = BundleManifest & {
    entries: BundleManifest['entries'][number][];
    base: { missing: { name: string; size: number; sha256?: string }[] };
  };
  const moved = (kind: string) => (manifest: Mutable) => {
    const at = manifest.entries.findIndex((entry) => entry.kind === kind);
    const [entry] = manifest.entries.splice(at, 1);
    manifest.base.missing.push({ name: entry?.name ?? '', size: entry?.size ?? 0 });
  };

  test('is not refused for a delta as it should be', async () => {
    expect(await judged(() => undefined)).toMatchObject({ code: 'accepted' });
  });

  test('cannot leave out a manifest, a config or evidence, though the store has them', async () => {
    for (const kind of ['manifest', 'config', 'evidence'])
      expect(await judged(moved(kind)), kind).toMatchObject({ code: 'blob-missing' });
  });

  test('cannot leave out what no image needs, so that the store is asked for it', async () => {
    const error = await judged((manifest) => {
      manifest.base.missing.push({ name: `blobs/sha256/${'a'.repeat(64)}`, size: 5 });
    });
    expect(error).toMatchObject({ code: 'bundle-not-canonical' });
  });

  test('cannot give a layer another size than its image does', async () => {
    const error = await judged((manifest) => {
      const [layer] = manifest.base.missing;
      if (layer) layer.size += 1;
    });
    expect(error).toMatchObject({ code: 'size-mismatch' });
  });

  test('cannot make a whole bundle out of a delta', async () => {
    const error = await judged((manifest) => {
      Reflect.deleteProperty(manifest, 'base');
    });
    expect(error).toMatchObject({ code: 'blob-missing' });
  });
});

describe('--since', () => {
  test('is told by a dry run, which writes nothing down', async () => {
    const layout = path.join(world.directory, 'dry');
    makeLayout(layout, [{ name: APP, root: grown('two') }]);
    const collection = await openCollection(world.collection, world.context().limits);
    const ledger = openLedger(world.collection, collection.id);
    const code = (await ledger.read(2))?.code ?? '';
    const preview = await previewExport(
      {
        images: [parseLocation(`${APP}=oci:${layout}:${APP}`)],
        platforms: [],
        includeEvidence: true,
        concurrency: 1,
        source: SOURCE_OPTIONS,
        delta: { collection: world.collection, since: { kind: 'code', code } },
      },
      world.context(later(1)),
    );
    expect(preview).toMatchObject({ blobs: { count: 3 }, base: { version: 2, blobs: 1 } });
    expect(await ledger.confirmed()).toEqual([]);
  });

  test('CODE is resolved by the ledger, and confirms the version', async () => {
    const collection = await openCollection(world.collection, world.context().limits);
    const ledger = openLedger(world.collection, collection.id);
    const past = await ledger.read(2);
    expect(past?.code).toBe(
      paperCode({ collection: collection.id, version: 2, manifest: past?.manifest ?? '' }),
    );
    const { base } = await world.export(
      { [APP]: grown('two') },
      { now: later(1), since: { kind: 'code', code: past?.code ?? '' } },
    );
    expect(base?.version).toBe(2);
    expect(await ledger.confirmed()).toEqual([{ by: 'code', version: 2, at: '2026-03-02T00:00:00Z' }]);
  });

  test('CODE is what the import printed, and is printed only where all of the bundle is in', async () => {
    const both = { [APP]: grown('two'), [LIB]: grown('three') };
    const { output } = await world.export(both, { now: later(1) });
    const part = await world.import(output, { now: later(1), only: [APP] });
    expect(part.code).toBeUndefined();
    const { code = '' } = await world.import(output, { now: later(1) });
    expect(code).toMatch(/^3-/);
    const { base } = await world.export(both, { now: later(2), since: { kind: 'code', code } });
    expect(base).toMatchObject({ version: 3, blobs: 3 });
  });

  test('CODE of another collection, or of a copy of this one, is not known', async () => {
    const copy = world.fork();
    await world.export({ [APP]: grown('ours') }, { now: later(1) });
    await copy.export({ [APP]: grown('theirs') }, { now: later(1) });
    const collection = await openCollection(copy.collection, world.context().limits);
    const code = (await openLedger(copy.collection, collection.id).read(3))?.code ?? '';
    expect(
      await refusal(world.export({ [APP]: grown('x') }, { now: later(2), since: { kind: 'code', code } })),
    ).toMatchObject({ code: 'code-unknown' });
    const none = paperCode({ collection: collection.id, version: 9, manifest: 'a'.repeat(64) });
    expect(
      await refusal(
        world.export({ [APP]: grown('x') }, { now: later(2), since: { kind: 'code', code: none } }),
      ),
    ).toMatchObject({ code: 'code-unknown' });
  });

  test('BUNDLE of another collection, of a copy, and one from the future are refused', async () => {
    const stranger = await world.stranger();
    const theirs = (await stranger.export({ [APP]: grown('one') })).output;
    const since = (file: string) =>
      world.export({ [APP]: grown('x') }, { now: later(3), since: { kind: 'file', path: file } });
    expect(await refusal(since(theirs))).toMatchObject({ code: 'receipt-mismatch' });
    const copy = world.fork();
    const ahead = (await copy.export({ [APP]: grown('theirs') }, { now: later(1) })).output;
    expect(await refusal(since(ahead))).toMatchObject({ code: 'rollback' });
    await world.export({ [APP]: grown('ours') }, { now: later(1) });
    expect(await refusal(since(ahead))).toMatchObject({ code: 'fork' });
    expect(await refusal(since(path.join(world.directory, 'nowhere.tar')))).toMatchObject({
      code: 'bundle-not-found',
    });
  });

  test('BUNDLE that was tampered with is refused', async () => {
    const hostile = forge(first, path.join(world.directory, 'hostile.tar'), (_files, manifest) => {
      Object.assign(manifest, { generator: 'somebody else' });
    });
    expect(
      await refusal(
        world.export({ [APP]: grown('x') }, { now: later(1), since: { kind: 'file', path: hostile } }),
      ),
    ).toMatchObject({
      code: 'target-mismatch',
    });
  });

  test('last says that nothing has confirmed it, and a collection without a ledger that it has none', async () => {
    await world.export({ [APP]: grown('two') }, { now: later(1), since: LAST });
    expect(world.events).toContainEqual(
      expect.objectContaining({ type: 'notice', code: 'base-unconfirmed' }),
    );
    rmSync(path.join(world.collection, 'exports'), { recursive: true });
    expect(
      await refusal(world.export({ [APP]: grown('three') }, { now: later(2), since: LAST })),
    ).toMatchObject({ code: 'code-unknown' });
  });

  test('last is the newest export of each image, whatever small bundles came after', async () => {
    await world.import(first);
    const other = await world.export({ [LIB]: grown('two') }, { now: later(1) });
    await world.import(other.output, { now: later(1) });
    const renewal = await world.export({}, { now: later(2), metadataOnly: true });
    await world.import(renewal.output, { now: later(2) });
    const both = { [APP]: grown('one'), [LIB]: grown('two') };
    const { output, base } = await world.export(both, { now: later(3), since: LAST });
    expect(base).toMatchObject({ version: 3, blobs: 3 });
    expect(layerNames(output)).toEqual([]);
    expect(await world.import(output, { now: later(3) })).toMatchObject({ unchanged: [APP, LIB] });
  });

  test('a damaged ledger is named, not guessed at', async () => {
    writeFileSync(path.join(world.collection, 'exports', '2.json'), '{"formatVersion":1');
    expect(
      await refusal(world.export({ [APP]: grown('two') }, { now: later(1), since: LAST })),
    ).toMatchObject({ code: 'state-damaged' });
  });
});
