/**
 * Time to decide about evidence and policy of many images: from the end of the check `manifests` to the end of the
 * check `policy`, for a bundle in a file and for one that is streamed.
 *
 *   node test/bench/evidence.ts [--images 1000] [--rounds 3] [--seconds 3]
 *
 * Each image has three signatures of its own by an RSA key; the last is the one that the policy takes.
 * Exit 1 where the median is above --seconds.
 */
import { createReadStream, mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { parseRegistriesD } from '../../core/evidence/registries-d.ts';
import type { Digest } from '../../core/oci/digest.ts';
import { makeSimpleSignature } from '../../core/trust/evidence/simple-signing.ts';
import { verifyBundle } from '../../core/verify.ts';
import { type FixtureManifest, singleImage } from '../../fixtures/images.ts';
import { unlockTestKey } from '../../fixtures/keys/test-keys.ts';
import { makeWorld, START } from '../../fixtures/world.ts';

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
  },
});
const [count, rounds, limit] = [values.images, values.rounds, values.seconds].map(Number) as [
  number,
  number,
  number,
];

const world = await makeWorld();
try {
  const key = await unlockTestKey('rsa-a');
  const base = path.join(world.directory, 'lookaside');
  const images: Record<string, FixtureManifest> = {};
  for (let index = 0; index < count; index += 1) {
    const image = singleImage(`image ${index}`);
    const repository = `team/app-${index}`;
    const place = path.join(base, `${repository}@${image.digest.replace(':', '=')}`);
    mkdirSync(place, { recursive: true });
    for (const [number, tag] of ['old', 'other', 'v1'].entries()) {
      const name = `a.example/${repository}:${tag}`;
      const signature = await makeSimpleSignature(key, name, image.digest as Digest, START);
      writeFileSync(path.join(place, `signature-${number + 1}`), signature);
    }
    images[`a.example/${repository}:v1`] = image;
  }
  const bundle = path.join(world.directory, 'bundle.tar');
  await world.export(images, { file: bundle, lookaside: await parseRegistriesD([], base) });
  await world.pin(bundle);
  const keyData = Buffer.from(key.toPublic().write()).toString('base64');
  const policy = path.join(world.directory, 'policy.json');
  writeFileSync(policy, JSON.stringify({ default: [{ type: 'signedBy', keyType: 'GPGKeys', keyData }] }));

  async function decide(streamed: boolean): Promise<{ readonly wall: number; readonly cpu: number }> {
    let [begun, done] = [0, 0];
    let [usedBefore, used] = [process.cpuUsage(), process.cpuUsage()];
    const result = await verifyBundle(
      {
        bundle: streamed
          ? { kind: 'stream', stream: createReadStream(bundle) }
          : { kind: 'file', path: bundle },
        gate: world.gate,
        names: [],
        deep: false,
        policy,
        overrides: { allowClockJump: false },
      },
      {
        ...world.context(),
        emit: (event) => {
          if (event.type !== 'check') return;
          if (event.check === 'manifests') {
            begun = performance.now();
            usedBefore = process.cpuUsage();
          }
          if (event.check === 'policy') {
            done = performance.now();
            used = process.cpuUsage(usedBefore);
          }
        },
      },
    );
    const verified = result.images.filter(({ verdict }) => verdict === 'verified').length;
    const pieces = result.images.reduce((sum, { evidence }) => sum + evidence.length, 0);
    if (verified !== count || pieces !== count * 3)
      throw new Error(`got ${verified} images and ${pieces} pieces, want ${count} and ${count * 3}`);
    return { wall: (done - begun) / 1000, cpu: (used.user + used.system) / 1e6 };
  }

  let missed = false;
  for (const streamed of [false, true]) {
    const found = [];
    for (let round = 0; round < rounds; round += 1) found.push(await decide(streamed));
    const times = found.map(({ wall }) => wall);
    // On a machine with other work this tells more than the clock.
    const cpu = Math.min(...found.map((one) => one.cpu));
    const median = times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
    missed ||= !(median <= limit);
    process.stdout.write(
      `${streamed ? 'stream' : 'file  '}  ${count} images, ${count * 3} pieces, ${os.cpus().length} cores: median ${median.toFixed(2)} s (${times.map((time) => time.toFixed(2)).join(', ')}), CPU ${cpu.toFixed(2)} s, want <= ${limit} s\n`,
    );
  }
  process.exitCode = missed ? 1 : 0;
} finally {
  await world.close();
}
