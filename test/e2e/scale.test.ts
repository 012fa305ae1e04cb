/** What a run does must follow what has changed, not how much there is. Steps on the file system are counted, not time. */
import { createHash } from 'node:crypto';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { createWorkerPool } from '../../core/pool/worker-pool.ts';
import { addDelegation, addNames, exportKey, listKeys } from '../../core/trust-ops/index.ts';
import { succeeded } from '../../fixtures/cli.ts';
import { makeWalk, PASSPHRASE, type Walk } from '../../fixtures/walk.ts';

const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-step.cjs');
const walks: Walk[] = [];
afterEach(() => {
  for (const walk of walks.splice(0)) walk.sandbox.remove();
});

/** Changing steps on the file system of an import that brings one new name, where so many namespaces have one each. */
async function stepsOf(namespaces: number): Promise<number> {
  const walk = makeWalk();
  walks.push(walk);
  await walk.init({ keys: 'native' });
  const collection = walk.sandbox.path('collection');
  const ops = { collection, passphrase: async () => PASSPHRASE, pid: process.pid };
  const context = {
    now: new Date(),
    signal: new AbortController().signal,
    emit: () => undefined,
    limits: DEFAULT_LIMITS,
    pool: createWorkerPool({ size: 0 }),
  };
  const { keys } = await listKeys(ops, context);
  const half = await exportKey({ ...ops, key: keys[0]?.keyId ?? '' }, context);
  const open = walk.sandbox.path('open.pem');
  writeFileSync(open, half.text);
  const sha256 = createHash('sha256').update('image').digest('hex');
  const target = { length: 10, sha256, mediaType: 'application/vnd.oci.image.manifest.v1+json' };
  const add = (name: string) => addNames({ ...ops, images: new Map([[name, target]]) }, context);
  for (let index = 0; index < namespaces; index += 1) {
    await addDelegation({ ...ops, prefix: `registry.example/team-${index}/`, add: [open] }, context);
    await add(`registry.example/team-${index}/application:1`);
  }
  const counter = walk.sandbox.path('steps');
  const bundle = async (file: string): Promise<string> => {
    await walk.export([], file, { args: ['--metadata-only'] });
    return file;
  };
  const first = await bundle(walk.sandbox.path('first.tar'));
  await walk.pin(first, await walk.rootFingerprint());
  await walk.import(first);
  await add('registry.example/team-0/application:2');
  const second = await bundle(walk.sandbox.path('second.tar'));
  rmSync(counter, { force: true });
  const env = { NODE_OPTIONS: `--require ${HOOK}`, SEALIFT_KILL_COUNTER: counter };
  succeeded(await walk.tryImport(second, { env }), 'import');
  return statSync(counter).size;
}

it('an import of one changed role among eight writes as much as of one among two', async () => {
  const few = await stepsOf(2);
  expect(few).toBeGreaterThan(10);
  expect(await stepsOf(8)).toBe(few);
});
