import { existsSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { exportBundle } from '../../core/export.ts';
import { parseLocation } from '../../core/transport/location.ts';
import type { ExportOptions } from '../../core/workflow-options.ts';
import {
  attachEvidence,
  largeImage,
  makeLayout,
  multiArchImage,
  schema2Image,
  sha512Image,
  singleImage,
} from '../../fixtures/images.ts';
import {
  DAY,
  filesOf,
  layerNames,
  makeWorld,
  SOURCE_OPTIONS,
  START,
  TEST_PASSPHRASE,
  type World,
} from '../../fixtures/world.ts';

const APP = 'registry.example/team/app:1';
let world: World;

beforeEach(async () => {
  world = await makeWorld();
});
afterEach(() => world.close());

/** An export from one layout that can be asked for again, with a count of how often the passphrase was wanted. */
function repeatable(images: Parameters<World['export']>[0], more: Partial<ExportOptions> = {}) {
  const layout = path.join(world.directory, 'layout');
  const file = path.join(world.directory, 'out.tar');
  makeLayout(
    layout,
    Object.entries(images).map(([name, root]) => ({ name, root })),
  );
  let asked = 0;
  const options: ExportOptions = {
    collection: world.collection,
    images: Object.keys(images).map((name) => parseLocation(`${name}=oci:${layout}:${name}`)),
    output: { kind: 'file', path: file },
    platforms: [],
    lifetime: 90 * DAY,
    includeEvidence: true,
    dockerArchive: false,
    force: false,
    concurrency: 1,
    source: SOURCE_OPTIONS,
    passphrase: async () => {
      asked += 1;
      return TEST_PASSPHRASE;
    },
    pid: process.pid,
    ...more,
  };
  return {
    file,
    layout,
    partial: path.join(world.directory, '.out.tar.partial'),
    asked: () => asked,
    run: (now = START, changes: Partial<ExportOptions> = {}) =>
      exportBundle({ ...options, ...changes }, world.context(now)),
    /** Stops after that many blobs are done. */
    async interrupt(after: number, now = START) {
      const stop = new AbortController();
      let done = 0;
      const context = world.context(now);
      const work = exportBundle(options, {
        ...context,
        signal: stop.signal,
        emit: (event) => {
          if (event.type === 'blob' && event.state === 'done') done += 1;
          if (done === after) stop.abort();
        },
      });
      await expect(work).rejects.toMatchObject({ name: expect.stringMatching(/AbortError|SealiftError/) });
    },
  };
}

describe('an interrupted export', () => {
  test('leaves nothing under the final name, goes on without a passphrase, and gives the same bytes', async () => {
    const reference = world.fork();
    const images = { [APP]: largeImage(6, 200_000) };
    const job = repeatable(images);
    await job.interrupt(4);
    expect(existsSync(job.file)).toBe(false);
    expect(existsSync(job.partial)).toBe(true);
    const result = await job.run();
    expect(result.resumed).toBe(true);
    expect(job.asked()).toBe(1);
    expect(existsSync(job.partial)).toBe(false);
    const straight = await reference.export(images, { file: path.join(reference.directory, 'straight.tar') });
    expect(readFileSync(job.file).equals(readFileSync(straight.output))).toBe(true);
  });

  test('goes on from nothing when its partial file is gone', async () => {
    const job = repeatable({ [APP]: largeImage(4, 100_000) });
    await job.interrupt(2);
    rmSync(job.partial);
    expect((await job.run()).written.resumedBytes).toBe(0);
    await world.pin(job.file);
    await world.verify(job.file);
    expect(job.asked()).toBe(1);
  });

  test('takes a partial file of another size for nothing', async () => {
    const job = repeatable({ [APP]: largeImage(4, 100_000) });
    await job.interrupt(3);
    truncateSync(job.partial, 5000);
    await job.run();
    await world.pin(job.file);
    await world.verify(job.file);
  });

  test('is planned anew when its trust is about to end, and uses what was transferred', async () => {
    const job = repeatable({ [APP]: largeImage(12, 20_000_000) }, { lifetime: 2 * DAY });
    await job.interrupt(9);
    const later = new Date(START.getTime() + 2 * DAY);
    rmSync(job.layout, { recursive: true });
    makeLayout(job.layout, [{ name: APP, root: largeImage(12, 20_000_000) }]);
    const result = await job.run(later);
    expect(result.resumed).toBe(false);
    expect(result.collection.version).toBeGreaterThan(2);
    expect(world.events).toContainEqual(expect.objectContaining({ type: 'notice', code: 'planned-anew' }));
    await world.pin(job.file);
    await world.verify(job.file, { now: later });
    expect(existsSync(`${job.partial}.old`)).toBe(false);
  });

  test('that was only not tidied up is recognised as done', async () => {
    const job = repeatable({ [APP]: singleImage() });
    await job.interrupt(1);
    await job.run();
    const bytes = readFileSync(job.file);
    // The state between rename and the end of the journal: play it by exporting again and putting the file there.
    rmSync(job.file);
    await job.interrupt(1);
    const again = await job.run();
    expect(again.collection.version).toBeGreaterThan(2);
    expect(readFileSync(job.file).equals(bytes)).toBe(false);
    await world.pin(job.file);
    await world.verify(job.file);
  });

  test('to the same file but of other images starts anew', async () => {
    const job = repeatable({ [APP]: largeImage(4, 100_000) });
    await job.interrupt(2);
    const result = await job.run(START, { dockerArchive: true });
    expect(result.resumed).toBe(false);
    expect(job.asked()).toBe(2);
  });

  test('whose journal is damaged says which file to remove', async () => {
    const job = repeatable({ [APP]: largeImage(4, 100_000) });
    await job.interrupt(2);
    const journals = path.join(world.collection, 'journal');
    const { readdirSync } = await import('node:fs');
    const plan = path.join(journals, readdirSync(journals)[0] as string, 'plan.json');
    writeFileSync(plan, '{');
    await expect(job.run()).rejects.toMatchObject({
      code: 'state-damaged',
      subject: plan,
      hint: expect.stringContaining('remove'),
    });
  });
});

describe('what is exported', () => {
  test('an existing output is left alone unless forced', async () => {
    const job = repeatable({ [APP]: singleImage() });
    writeFileSync(job.file, 'precious');
    await expect(job.run()).rejects.toMatchObject({ code: 'destination-exists' });
    expect(readFileSync(job.file, 'utf8')).toBe('precious');
    await job.run(START, { force: true });
    expect(statSync(job.file).size).toBeGreaterThan(1000);
  });

  test('a wrong passphrase changes nothing', async () => {
    const job = repeatable({ [APP]: singleImage() });
    await expect(job.run(START, { passphrase: async () => 'wrong' })).rejects.toMatchObject({
      code: 'passphrase-needed',
    });
    await expect(job.run(START, { passphrase: async () => undefined })).rejects.toMatchObject({
      code: 'passphrase-needed',
    });
    expect(existsSync(job.file)).toBe(false);
    expect(existsSync(job.partial)).toBe(false);
  });

  test('a layer that is damaged at the source fails the export and names the digest', async () => {
    const image = largeImage(2, 100_000);
    const job = repeatable({ [APP]: image });
    const layer = image.blobs.at(-1)?.digest.replace(':', '/') ?? '';
    const blob = path.join(job.layout, 'blobs', layer);
    const bytes = readFileSync(blob);
    bytes[50_000] = (bytes[50_000] ?? 0) ^ 1;
    writeFileSync(blob, bytes);
    await expect(job.run()).rejects.toMatchObject({ code: 'digest-mismatch' });
    expect(existsSync(job.file)).toBe(false);
  });

  test('one name cannot be two images', async () => {
    const first = path.join(world.directory, 'first');
    const second = path.join(world.directory, 'second');
    makeLayout(first, [{ name: APP, root: singleImage('one') }]);
    makeLayout(second, [{ name: APP, root: singleImage('two') }]);
    const job = repeatable({ [APP]: singleImage() });
    const images = [first, second].map((layout) => parseLocation(`${APP}=oci:${layout}:${APP}`));
    await expect(job.run(START, { images })).rejects.toMatchObject({ code: 'name-conflict', subject: APP });
  });

  test('a platform keeps the bytes of the index and says what was left out', async () => {
    const image = multiArchImage();
    const job = repeatable({ [APP]: image });
    const result = await job.run(START, { platforms: ['linux/arm64', 'linux/amd64'] });
    expect(result.images[0]).toMatchObject({
      digest: image.digest,
      platforms: ['linux/amd64', 'linux/arm64/v8'],
    });
    expect(result.images[0]?.omitted.map(({ platform }) => platform).sort()).toEqual([
      'linux/arm/v7',
      'linux/s390x',
    ]);
    expect(layerNames(job.file)).toHaveLength(3);
    await world.pin(job.file);
    await world.import(job.file);
  });

  test('a platform the image does not have is refused by name', async () => {
    const job = repeatable({ [APP]: multiArchImage() });
    await expect(job.run(START, { platforms: ['windows/amd64'] })).rejects.toMatchObject({
      code: 'source-not-found',
      want: 'windows/amd64',
    });
    await expect(job.run(START, { platforms: ['linux/amd64', 'linux/riscv64'] })).rejects.toMatchObject({
      want: 'linux/riscv64',
    });
    const lone = repeatable({ [APP]: singleImage() });
    await expect(lone.run(START, { platforms: ['linux/arm64'] })).rejects.toMatchObject({
      code: 'source-not-found',
    });
  });

  test('manifest.json is written for one single-platform image, and refused where it cannot be honest', async () => {
    const single = await world.export({ [APP]: schema2Image() });
    expect(JSON.parse(String(filesOf(single.output).get('manifest.json')))).toEqual([
      expect.objectContaining({ RepoTags: [APP] }),
    ]);
    const multi = await world.export({ [APP]: multiArchImage() });
    expect(filesOf(multi.output).has('manifest.json')).toBe(false);
    await expect(world.export({ [APP]: multiArchImage() }, { dockerArchive: true })).rejects.toMatchObject({
      code: 'invalid-argument',
    });
    const one = await world.export(
      { [APP]: multiArchImage() },
      { dockerArchive: true, platforms: ['linux/amd64'] },
    );
    expect(filesOf(one.output).has('manifest.json')).toBe(true);
    await world.pin(one.output);
    await world.verify(one.output);
  });

  test('an image whose digest is sha512 keeps it', async () => {
    const image = sha512Image();
    const result = await world.export({ [APP]: image });
    expect(result.images[0]?.digest).toBe(image.digest);
    expect(
      String(filesOf(result.output).get('SHA512SUMS')).split('\n').filter(Boolean).length,
    ).toBeGreaterThan(1);
    await world.pin(result.output);
    expect((await world.import(result.output)).imported).toEqual([APP]);
  });

  test('evidence is left out when it is not wanted', async () => {
    const image = singleImage();
    attachEvidence(image, 'application/vnd.example.signature', '{}');
    const without = await world.export({ [APP]: image }, { includeEvidence: false });
    expect(without.images[0]?.evidence).toEqual([]);
    const having = await world.export({ [APP]: image });
    expect(having.images[0]?.evidence).toHaveLength(1);
  });

  test('the collection is cumulative: a later bundle carries less and vouches for all', async () => {
    const first = await world.export({ [APP]: singleImage('one') });
    const second = await world.export(
      { 'registry.example/team/b:1': singleImage('two') },
      { now: new Date(START.getTime() + DAY) },
    );
    await world.pin(first.output);
    await world.import(first.output);
    const result = await world.import(second.output, { now: new Date(START.getTime() + DAY) });
    expect(result.vanished).toEqual([]);
    expect(result.imported).toEqual(['registry.example/team/b:1']);
  });

  test('a file in the way of the journal of another output is no concern', async () => {
    const job = repeatable({ [APP]: largeImage(4, 50_000) });
    await job.interrupt(2);
    const other = path.join(world.directory, 'other.tar');
    const result = await job.run(START, { output: { kind: 'file', path: other } });
    expect(result.resumed).toBe(false);
    // The first one is now behind the collection and must not be published over it.
    const back = await job.run();
    expect(back.collection.version).toBeGreaterThan(result.collection.version);
    renameSync(other, `${other}.kept`);
  });
});
