/** The attacks that the TUF specification names in section 1.5.2, each against a gate that has seen a bundle. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exportBundle } from '../../core/export.ts';
import { importBundle } from '../../core/import.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import type { ExportResult } from '../../core/results.ts';
import { parseLocation } from '../../core/transport/location.ts';
import { openCollection, signMetadata } from '../../core/trust/collection.ts';
import { openNativeSigner } from '../../core/trust/signer.ts';
import { drip, startFaultRegistry } from '../../fixtures/fault-registry.ts';
import { DAY, filesOf, forge, layerNames, SOURCE_OPTIONS, TEST_PASSPHRASE } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

let story: Story;
let first: ExportResult;
let state: unknown;
beforeEach(async () => {
  story = await tell();
  first = await story.bundle(0, { [ALPINE]: image('one') });
  await story.world.pin(first.output);
  await story.import(first, 0);
  state = story.world.imagesState();
});
afterEach(async () => {
  expect(story.world.imagesState()).toEqual(state);
  await story?.world.close();
});

const importing = (file: string, day: number): Promise<string> =>
  codeOf(story.world.import(file, { now: at(day) }));
const entry = (files: ReadonlyMap<string, Buffer>, end: string): string =>
  [...files.keys()].find((name) => name.endsWith(end)) ?? '';

describe('TUF 1.5.2', () => {
  it('arbitrary software installation: a name bound to an image of the attacker’s', async () => {
    const next = await story.bundle(1, { [NGINX]: image('two') });
    const other = await story.world.stranger();
    const theirs = await other.export({ [NGINX]: image('evil') }, { now: at(1) });
    const evil = filesOf(theirs.output);
    const target = forge(next.output, `${next.output}.forged`, (files) => {
      files.set(entry(files, '.images.json'), evil.get(entry(evil, '.images.json')) ?? Buffer.alloc(0));
    });
    expect(await importing(target, 1)).toBe('mix-and-match');
    // A whole bundle of theirs is of a collection nobody has pinned.
    expect(await importing(theirs.output, 1)).toBe('not-pinned');
  });

  it('endless data attack: what is longer than it may be is not read to its end', async () => {
    const next = await story.bundle(1, { [NGINX]: image('two') });
    const long = `${next.output}.long`;
    writeFileSync(long, Buffer.concat([readFileSync(next.output), Buffer.alloc(4096)]));
    expect(await importing(long, 1)).toBe('bundle-trailing-data');
    const { world } = story;
    const small = importBundle(
      {
        bundle: { kind: 'file', path: next.output },
        gate: world.gate,
        store: world.store,
        only: [],
        overrides: { allowClockJump: false },
        concurrency: 1,
        pid: process.pid,
        actor: 'tester',
      },
      { ...world.context(at(1)), limits: { ...DEFAULT_LIMITS, metadataFile: 512 } },
    );
    expect(await codeOf(small)).toBe('bundle-too-large');
  });

  it('extraneous dependencies attack: a blob that no signed image needs', async () => {
    const next = await story.bundle(1, { [NGINX]: image('two') });
    const name = layerNames(next.output)[0] ?? '';
    const target = forge(next.output, `${next.output}.more`, (files, manifest) => {
      const stray = `blobs/sha256/${'f'.repeat(64)}`;
      files.set(stray, Buffer.from('stray'));
      const like = manifest.entries.find((one) => one.name === name);
      if (like) (manifest.entries as unknown[]).push({ ...like, name: stray, size: 5 });
    });
    // The bundle manifest is signed, so that nothing can be added to it.
    expect(await importing(target, 1)).toBe('target-mismatch');
  });

  it('fast-forward attack: recovered from by a new timestamp key', async () => {
    const thief = story.world.fork();
    writeFileSync(`${thief.collection}/counter`, `${Number.MAX_SAFE_INTEGER - 1}\n`);
    await story.import(await story.bundle(1, {}, thief), 1);
    expect(await importing((await story.bundle(2)).output, 2)).toBe('rollback');
    await story.rotate(2, { recoveryKey: story.recoveryKey, stolen: true });
    await story.import(await story.bundle(3), 3);
    state = story.world.imagesState();
  });

  it('indefinite freeze attack: the same bundle for ever', async () => {
    expect(await importing(first.output, 91)).toBe('metadata-expired');
    // Nor with the clock of the host set back by a year, once a later bundle has been seen.
    await story.import(await story.bundle(60), 60);
    state = story.world.imagesState();
    expect(await importing(first.output, -305)).toBe('rollback');
    const old = await story.bundle(61);
    await story.import(old, 61);
    await story.renew(170);
    await story.import(await story.bundle(170), 170);
    state = story.world.imagesState();
    expect(await codeOf(story.world.verify(old.output, { now: at(61) }))).toBe('rollback');
  });

  it('malicious mirrors preventing updates: damage is told from news, and trust is kept', async () => {
    await story.renew(1, { roles: ['root'] });
    const next = await story.bundle(1, { [NGINX]: image('two') });
    const damaged = `${next.output}.damaged`;
    writeFileSync(damaged, readFileSync(next.output).subarray(0, -2048));
    expect(await importing(damaged, 1)).toBe('bundle-truncated');
    await story.import(next, 1);
    state = story.world.imagesState();
  });

  it('mix-and-match attack: metadata of two bundles in one', async () => {
    const second = await story.bundle(1, { [NGINX]: image('two') });
    const third = await story.bundle(2, { [NGINX]: image('three') });
    const older = filesOf(second.output);
    for (const end of ['.images.json', '.snapshot.json']) {
      const target = forge(third.output, `${third.output}${end}`, (files) => {
        files.set(entry(files, end), older.get(entry(older, end)) ?? Buffer.alloc(0));
      });
      expect(await importing(target, 2)).toBe('mix-and-match');
    }
  });

  it('rollback attack: an earlier bundle, validly signed', async () => {
    await story.import(await story.bundle(1), 1);
    state = story.world.imagesState();
    expect(await importing(first.output, 2)).toBe('rollback');
  });

  it('vulnerability to key compromises: a key of one role does not stand for another', async () => {
    await story.rotate(1, { roles: ['images'] });
    await story.rotate(1, { roles: ['timestamp'] });
    await story.import(await story.bundle(1), 1);
    state = story.world.imagesState();
    const { state: now } = await openCollection(story.world.collection, DEFAULT_LIMITS);
    const [stolen = ''] = now.targets.delegations?.roles.find(({ name }) => name === 'images')?.keyids ?? [];
    const key = readFileSync(`${story.world.collection}/keys/${stolen}.pem`);
    const thief = openNativeSigner(key, TEST_PASSPHRASE, 'the stolen key');
    // With the key of images, targets and the timestamp cannot be signed.
    const next = await story.bundle(2, { [NGINX]: image('two') });
    const files = filesOf(next.output);
    const { signed } = JSON.parse(String(files.get('metadata/timestamp.json'))) as {
      signed: Record<string, never>;
    };
    const timestamp = await signMetadata({ ...signed, _type: 'timestamp' }, [thief], at(2));
    const target = forge(next.output, `${next.output}.stolen`, (all) => {
      all.set('metadata/timestamp.json', timestamp);
    });
    expect(await importing(target, 2)).toBe('signature-threshold');
  });

  it('wrong software installation: an honest image under another name', async () => {
    const next = await story.bundle(1, { [NGINX]: image('two'), [ALPINE]: image('three') });
    const target = forge(next.output, `${next.output}.renamed`, (files) => {
      const name = entry(files, '.images.json');
      const document = JSON.parse(String(files.get(name))) as {
        signed: { targets: Record<string, unknown> };
      };
      const { targets } = document.signed;
      [targets[NGINX], targets[ALPINE]] = [targets[ALPINE], targets[NGINX]];
      files.set(name, Buffer.from(JSON.stringify(document)));
    });
    expect(await importing(target, 1)).toBe('mix-and-match');
  });

  it('slow retrieval attack: a source that drips for ever stops neither an export nor what was there', async () => {
    const registry = await startFaultRegistry();
    try {
      registry.script('/v2/library/nginx/manifests/1.29', drip());
      const { world } = story;
      const slow = exportBundle(
        {
          collection: world.collection,
          images: [parseLocation(`${NGINX}=docker://${registry.host}/library/nginx:1.29`)],
          output: { kind: 'file', path: `${first.output}.slow` },
          platforms: [],
          lifetime: 90 * DAY,
          includeEvidence: true,
          dockerArchive: false,
          force: false,
          concurrency: 1,
          source: { ...SOURCE_OPTIONS, plainHttp: true, timeoutMs: 50 },
          passphrase: async () => TEST_PASSPHRASE,
          pid: process.pid,
        },
        world.context(at(1)),
      );
      expect(await codeOf(slow)).toBe('source-unreachable');
      expect(existsSync(`${first.output}.slow`)).toBe(false);
    } finally {
      await registry.stop();
    }
    await story.import(await story.bundle(2), 2);
    state = story.world.imagesState();
  });
});
