/** Configurations of web servers are written from names of files that anybody may have put there. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import { makeWorld, type World } from '../../../fixtures/world.ts';

let world: World;
let directory: string;
beforeEach(async () => {
  world = await makeWorld();
  directory = mkdtempSync(path.join(os.tmpdir(), 'sl-names-'));
});
afterEach(async () => {
  await world.close();
  rmSync(directory, { recursive: true, force: true });
});

it('a file that is named like a line of a configuration is in none', async () => {
  const manifests = path.join(directory, 'v2', 'library', 'alpine', 'manifests');
  mkdirSync(manifests, { recursive: true });
  writeFileSync(path.join(manifests, '3.20'), '{}');
  writeFileSync(path.join(manifests, 'x" "y";}\nserver { root "'), '{}');
  const destination = openStaticDirectory({ directory, pid: process.pid }, world.context());
  const companions = await destination.companions([]);
  const maps = Buffer.from(companions.get('config/nginx/maps.conf')?.bytes ?? '').toString();
  expect(maps).toContain('"/v2/library/alpine/manifests/3.20"');
  expect(maps).not.toContain('server {');
});
