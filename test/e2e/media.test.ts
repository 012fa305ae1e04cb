/** Sticks as they are sold: FAT32 and exFAT, made by the real programs, on block devices that count what is written. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { runProgram, succeeded } from '../../fixtures/cli.ts';
import { largeImage, makeLayout, manyLayersImage } from '../../fixtures/images.ts';
import { makeStick, noStick, type Stick, type StickKind } from '../../fixtures/media.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { blobDigests } from '../../fixtures/store.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const MIB = 1024 * 1024;
/** FAT32 wants 65,525 clusters at least. */
const SIZES: Readonly<Record<StickKind, number>> = { exfat: 40 * MIB, fat32: 48 * MIB };

let walk: Walk;
let images: string[];

beforeAll(async () => {
  walk = makeWalk();
  const layout = walk.sandbox.path('layout');
  const roots = { large: largeImage(3, 5 * MIB), many: manyLayersImage(20) };
  makeLayout(
    layout,
    Object.entries(roots).map(([name, root]) => ({ name, root })),
  );
  images = Object.keys(roots).map((name) => `registry.example/${name}:v1=oci:${layout}:${name}`);
  await walk.init({ keys: 'native' });
});
afterAll(() => walk?.sandbox.remove());

const sizeOf = (directory: string): number =>
  readdirSync(directory)
    .filter((name) => name.startsWith('images.tar'))
    .reduce((sum, name) => sum + statSync(path.join(directory, name)).size, 0);

for (const kind of ['exfat', 'fat32'] as const) {
  const missing = noStick(kind);
  describe.skipIf(missing !== undefined)(
    missing === undefined ? `a stick with ${kind}` : `a stick with ${kind} (needs ${missing})`,
    () => {
      const sticks: Stick[] = [];
      const stick = (size = SIZES[kind]): Stick => {
        const made = makeStick(kind, walk.sandbox.path('sticks', `${kind}-${sticks.length}.img`), size);
        sticks.push(made);
        return made;
      };
      const place = (): string => walk.sandbox.path('media');
      afterEach(async () => {
        for (const one of sticks.splice(0)) await one.close();
      });

      it.each([
        ['one file', []],
        ['volumes', ['--volume-size', '4MiB']],
      ])('is written once, without zeros before the bytes: %s', async (_, args) => {
        const one = stick();
        await one.insert(place());
        const before = one.written();
        await walk.export(images, path.join(place(), 'images.tar'), { args });
        const size = sizeOf(place());
        expect(size).toBeGreaterThan(15 * MIB);
        await one.eject();
        expect((one.written() - before) / size).toBeLessThanOrEqual(1.02);
        one.check();
        await one.insert(place());
        const bundle = args.length > 0 ? place() : path.join(place(), 'images.tar');
        const shown = await walk.json<{ images: unknown[] }>(['inspect', bundle]);
        expect(shown.images).toHaveLength(2);
        await one.eject();
      });

      it('that is pulled out in the middle ends the run with a word, and the same command goes on', async () => {
        const one = stick();
        await one.insert(place());
        const output = path.join(place(), 'images.tar');
        const args = ['--volume-size', '4MiB'];
        let pulled: Promise<void> | undefined;
        const result = await walk.tryExport(images, output, {
          args: [...args, '--json', '--progress-json'],
          onStderr: (text) => {
            if (text.includes('"volume-written"')) pulled ??= one.pull();
          },
        });
        await pulled;
        expect(result.code, result.stderr).toBe(7);
        const { error } = JSON.parse(result.stdout) as { error: { code: string; hint: string } };
        expect(error.code).toBe('destination-failed');
        expect(error.hint).toContain('goes on');
        await one.insert(place());
        const whole = readdirSync(place()).filter((name) => /\.\d{3}$/.test(name));
        await walk.export(images, output, { args, passphrase: false });
        const shown = await walk.json<{ images: unknown[] }>(['inspect', place()]);
        expect(shown.images).toHaveLength(2);
        expect(whole.length).toBeLessThan(5);
        // What the file system itself thinks of being pulled out is between it and its checker.
        await one.eject();
      });

      it('that is pulled out while it is read, read-only, ends the import with a word, and the same command goes on', async () => {
        const one = stick();
        await one.insert(place());
        const output = path.join(place(), 'read.tar');
        await walk.export(images, output, { args: ['--volume-size', '4MiB'] });
        await walk.pin(`${output}.001`, await walk.rootFingerprint());
        const store = walk.sandbox.path(`store-${kind}`);
        await one.eject();
        const written = one.written();
        await one.insert(place(), { readOnly: true });
        let pulled: Promise<void> | undefined;
        const result = await walk.tryImport(`${output}.001`, {
          store,
          args: ['--json', '--progress-json'],
          onStderr: (text) => {
            if (text.includes('"check":"format"')) pulled ??= one.pull();
          },
        });
        await pulled;
        expect(result.code, result.stdout + result.stderr).toBe(6);
        expect((JSON.parse(result.stdout) as { error: { code: string } }).error.code).toBe(
          'bundle-unreadable',
        );
        await one.insert(place(), { readOnly: true });
        await walk.import(`${output}.001`, { store });
        expect(blobDigests(store).length).toBeGreaterThan(10);
        await one.eject();
        expect(one.written()).toBe(written);
      });
    },
  );
}

const missing = noStick('exfat');
describe.skipIf(missing !== undefined)(
  missing === undefined ? 'several sticks' : `several sticks (needs ${missing})`,
  () => {
    it('one after another, filled as far as each goes, and read back one after another in any order', async () => {
      const small = 12 * MIB;
      const sticks = [0, 1, 2].map((at) =>
        makeStick('exfat', walk.sandbox.path('sticks', `several-${at}.img`), small),
      );
      try {
        const place = walk.sandbox.path('drive');
        const output = path.join(place, 'images.tar');
        const first = sticks[0] as Stick;
        await first.insert(place);
        const args = ['--volume-size', '4MiB', '--json'];
        const found: string[] = [];
        // The medium is full; the run ends, nothing on it is open, and the same command goes on with the next stick.
        for (const [at, one] of sticks.entries()) {
          if (at > 0) await one.insert(place);
          const result = await walk.tryExport(images, output, { args, passphrase: at === 0 });
          const volumes = readdirSync(place).filter((name) => /\.\d{3}$/.test(name));
          expect(volumes.length, result.stdout + result.stderr).toBeGreaterThan(0);
          found.push(...volumes);
          await one.eject();
          if (result.code === 0) break;
          expect(result.code, result.stdout).toBe(8);
          expect((JSON.parse(result.stdout) as { error: { code: string } }).error.code).toBe('medium-needed');
        }
        expect(new Set(found).size).toBe(found.length);
        expect(found.length).toBe(4);
        // What was written in pieces is one bundle: the first stick, then the last one.
        await first.insert(place);
        await walk.pin(output.concat('.001'), await walk.rootFingerprint());
        const order = sticks.slice(0, new Set(found).size > 2 ? 2 : 3).reverse();
        const script = walk.sandbox.path('swap');
        writeFileSync(
          script,
          '#!/bin/sh\necho want $SEALIFT_VOLUMES_WANTED\ntouch "$0.asked"\nwhile [ -e "$0.asked" ]; do sleep 0.1; done\n',
        );
        chmodSync(script, 0o755);
        let inside = first;
        const swap = async (): Promise<void> => {
          await inside.eject();
          inside = order.find((one) => one !== inside) ?? inside;
          await inside.insert(place);
          execFileSync('rm', [`${script}.asked`]);
        };
        let swapped: Promise<void> | undefined;
        const result = await walk.tryImport(`${output}.001`, {
          args: ['--volume-command', script],
          onStderr: (text) => {
            if (text.includes('want '))
              swapped = new Promise((resolve) => setTimeout(resolve, 200)).then(swap);
          },
        });
        await swapped;
        succeeded(result, 'import');
        expect(blobDigests(walk.sandbox.path('store')).length).toBeGreaterThan(10);
        await inside.eject();
      } finally {
        for (const one of sticks) await one.close();
      }
    });
  },
);

describePeer(['mcopy', 'mkfs.vfat'], 'a FAT32 image that cannot be mounted', () => {
  it('takes the names of volumes as they are, and gives the same bytes back', async () => {
    const image = walk.sandbox.path('fat.img');
    execFileSync('mkfs.vfat', ['-C', '-F', '32', image, String(SIZES.fat32 / 1024)], { stdio: 'ignore' });
    const directory = walk.sandbox.path('to-copy');
    await walk.export(images, path.join(directory, 'images.tar'), { args: ['--volume-size', '4MiB'] });
    const files = readdirSync(directory).sort();
    succeeded(
      await runProgram('mcopy', ['-i', image, ...files.map((name) => path.join(directory, name)), '::']),
      'mcopy',
    );
    const back = walk.sandbox.path('copied');
    mkdirSync(back);
    succeeded(await runProgram('mcopy', ['-i', image, '::*', back]), 'mcopy');
    expect(readdirSync(back).sort()).toEqual(files);
    for (const name of files)
      expect(readFileSync(path.join(back, name)).equals(readFileSync(path.join(directory, name))), name).toBe(
        true,
      );
    const shown = await walk.json<{ images: unknown[] }>(['inspect', back]);
    expect(shown.images).toHaveLength(2);
  });
});
