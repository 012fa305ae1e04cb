/** Clocks that are wrong, on either side. The gate's floor moves only by what was signed and accepted. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGate } from '../../core/gate/gate.ts';
import type { ExportResult } from '../../core/results.ts';
import { gateClock } from '../../core/trust-ops/index.ts';
import { DAY } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

const YEAR = 365;
/** 2036-03-01 */
const DAYS_TO_2036 = 3653;

let story: Story;
let first: ExportResult;
beforeEach(async () => {
  story = await tell();
  first = await story.bundle(0, { [ALPINE]: image('one') });
  await story.world.pin(first.output);
  await story.import(first, 0);
});
afterEach(async () => {
  await story?.world.close();
});

const floor = async (): Promise<string | undefined> => {
  const gate = await openGate(story.world.gate, { create: false });
  return (await gate.collections())[0]?.clockFloor;
};
const audit = (): string => readFileSync(path.join(story.world.gate, 'audit.log'), 'utf8');

describe('a clock set back a year', () => {
  it('on the gate lets nothing old in, and says that the clock is wrong', async () => {
    const { world } = story;
    const second = await story.bundle(60, { [NGINX]: image('two') });
    await story.import(second, 60);
    const before = world.imagesState();
    const back = 61 - YEAR;
    expect(await codeOf(story.import(first, back))).toBe('rollback');
    expect(await codeOf(world.import(first.output, { now: at(back), allowClockJump: true }))).toBe(
      'rollback',
    );
    const third = await story.bundle(70, { [NGINX]: image('three') });
    const error: unknown = await story.import(third, back).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'clock-jump', hint: expect.stringContaining('set the clock') });
    expect(world.imagesState()).toEqual(before);
    expect(await floor()).toBe('2026-04-30T00:00:00Z');
    // With the clock set right it goes on.
    expect((await story.import(third, 71)).imported).toEqual([NGINX]);
  });

  it('is overruled by what was accepted: time stands at the floor, and what ended before it has ended', async () => {
    const { world } = story;
    await story.import(await story.bundle(60), 60);
    const report = await gateClock(
      { gate: world.gate, pid: process.pid, actor: 'tester' },
      world.context(at(60 - YEAR)),
    );
    expect(report.collections.map(({ time }) => time)).toEqual(['2026-04-30T00:00:00Z']);
    // The clock of the exporting machine is wrong by as much: only the floor tells that the bundle has ended.
    const stale = await world.export({}, { now: at(61 - YEAR), metadataOnly: true, lifetime: 30 * DAY });
    expect(await codeOf(story.import(stale, 62 - YEAR))).toBe('metadata-expired');
    expect(await floor()).toBe('2026-04-30T00:00:00Z');
  });
});

describe('a clock set to 2036', () => {
  it('on the gate refuses everything and is forgotten when it is set right', async () => {
    const second = await story.bundle(1, { [NGINX]: image('two') });
    expect(await codeOf(story.import(second, DAYS_TO_2036))).toBe('metadata-expired');
    expect(await floor()).toBe('2026-03-01T00:00:00Z');
    expect((await story.import(second, 1)).imported).toEqual([NGINX]);
  });

  it('on the exporting machine makes no bundle, because every other role has ended by then', async () => {
    expect(await codeOf(story.bundle(DAYS_TO_2036))).toBe('metadata-expired');
    // Nothing of it stays: the next bundle is as good as ever.
    await story.import(await story.bundle(1), 1);
  });

  it('by somebody who signs with all keys moves no gate, unless its keeper lets the clock jump', async () => {
    const { world } = story;
    await story.renew(1, { roles: ['root', 'targets', 'images'], lifetime: 12 * YEAR * DAY });
    const future = await story.bundle(DAYS_TO_2036, { [ALPINE]: image('evil') });
    expect(await codeOf(story.import(future, 2))).toBe('clock-jump');
    expect(await floor()).toBe('2026-03-01T00:00:00Z');
    await world.import(future.output, { now: at(2), allowClockJump: true });
    expect(await floor()).toBe('2036-03-01T00:00:00Z');
    expect(audit()).toContain('--allow-clock-jump');
    // Now all that is honest has ended: until the floor is cleared, by hand and on record, …
    const honest = await story.bundle(3, { [ALPINE]: image('two') });
    expect(await codeOf(story.import(honest, 3))).toBe('metadata-expired');
    await gateClock(
      { gate: world.gate, reset: 'all', pid: process.pid, actor: 'tester' },
      world.context(at(3)),
    );
    expect(audit()).toContain('"event":"clock-reset"');
    expect((await story.import(honest, 3)).imported).toEqual([ALPINE]);
    // … or by a new timestamp key.
    const again = await story.bundle(DAYS_TO_2036, { [ALPINE]: image('evil again') });
    await world.import(again.output, { now: at(4), allowClockJump: true });
    await story.rotate(5, { roles: ['timestamp'] });
    const cured = await story.bundle(5, { [ALPINE]: image('three') });
    expect((await story.import(cured, 5)).imported).toEqual([ALPINE]);
    expect(await floor()).toBe('2026-03-06T00:00:00Z');
  });
});
