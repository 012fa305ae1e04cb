import { execFile } from 'node:child_process';
import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type AuditLog, EMPTY_HEAD, openAuditLog } from '../../../core/gate/audit.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { hex, NOW } from './samples.ts';

let directory: string;
let file: string;
let log: AuditLog;

beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'audit-'));
  file = path.join(directory, 'audit.log');
  log = openAuditLog(file);
});

afterEach(() => rm(directory, { recursive: true, force: true }));

async function fill(count: number): Promise<string> {
  let head = EMPTY_HEAD;
  for (let number = 1; number <= count; number += 1) {
    const fields = { bundleVersion: number, names: ['docker.io/acme/app:v1'] };
    head = await log.append({ now: NOW, actor: 'keeper', event: 'import', fields });
  }
  return head;
}

const lines = async (): Promise<string[]> => (await readFile(file, 'utf8')).split('\n').slice(0, -1);
const rewrite = (content: readonly string[]): Promise<void> =>
  writeFile(file, content.map((line) => `${line}\n`).join(''));
const fresh = (): AuditLog => openAuditLog(file);

describe('append', () => {
  it('begins with zeros and chains by hash', async () => {
    expect(await log.head()).toBe(EMPTY_HEAD);
    const head = await fill(3);
    const written = await lines();
    expect(written.map((line) => JSON.parse(line).seq)).toEqual([1, 2, 3]);
    expect(written.map((line) => JSON.parse(line).prev)).toEqual([
      EMPTY_HEAD,
      hex(written[0]!),
      hex(written[1]!),
    ]);
    expect(head).toBe(hex(written[2]!));
    expect(await fresh().head()).toBe(head);
    expect(await fresh().verify()).toEqual({ entries: 3, head, damaged: [], problems: [] });
  });

  it('goes on in another process', async () => {
    await fill(2);
    log = fresh();
    const head = await log.append({ now: NOW, actor: 'keeper', event: 'gc' });
    expect(await log.verify()).toEqual({ entries: 3, head, damaged: [], problems: [] });
  });

  it('finds the last line behind a very long one', async () => {
    const names = Array.from({ length: 20_000 }, (_, number) => `docker.io/acme/app-${number}:v1`);
    await fill(1);
    const head = await log.append({ now: NOW, actor: 'keeper', event: 'import', fields: { names } });
    expect(await fresh().head()).toBe(head);
    log = fresh();
    await log.append({ now: NOW, actor: 'keeper', event: 'gc' });
    expect((await log.verify()).problems).toEqual([]);
  });

  it('makes texts from outside inert, so that nobody can forge a line', async () => {
    const fields = { reason: 'x"}\n{"seq":9', 'k\n': ['\u001b[2J'] };
    await log.append({ now: NOW, actor: 'eve\u202e\n', event: 'refused', fields });
    expect(await lines()).toHaveLength(1);
    expect(JSON.parse((await lines())[0]!)).toMatchObject({
      actor: 'eve\\u{202e}\\u{a}',
      fields: { reason: 'x"}\\u{a}{"seq":9', 'k\\u{a}': ['\\u{1b}[2J'] },
    });
  });

  it('does not write into a log that another has written to meanwhile', async () => {
    await fill(1);
    await fresh().append({ now: NOW, actor: 'other', event: 'gc' });
    await expect(log.append({ now: NOW, actor: 'keeper', event: 'gc' })).rejects.toMatchObject({
      code: 'state-damaged',
    });
    log.forget();
    await log.append({ now: NOW, actor: 'keeper', event: 'gc' });
    expect((await log.verify()).problems).toEqual([]);
  });

  it('stays what it is', async () => {
    await log.append({
      now: NOW,
      actor: 'keeper@host',
      event: 'pin',
      fields: { collection: hex('acme'), scopes: ['*'] },
    });
    await log.append({ now: NOW, actor: 'keeper@host', event: 'import', fields: { bundleVersion: 7 } });
    await expect(await readFile(file, 'utf8')).toMatchFileSnapshot(
      path.resolve('test/golden/gate/audit.log'),
    );
  });
});

describe('tampering', () => {
  let head: string;
  beforeEach(async () => {
    head = await fill(5);
  });

  const problems = async (knownHead?: string): Promise<number[]> =>
    (await fresh().verify({ knownHead })).problems.map((problem) => problem.line);

  it('an edited line is found', async () => {
    const written = await lines();
    written[2] = written[2]!.replace('keeper', 'nobody');
    await rewrite(written);
    expect(await problems()).toEqual([4]);
  });

  it('an edited last line is found by the head that was written down', async () => {
    const written = await lines();
    written[4] = written[4]!.replace('keeper', 'nobody');
    await rewrite(written);
    expect(await problems()).toEqual([]);
    expect(await problems(head)).toEqual([5]);
  });

  it('a deleted line is found', async () => {
    const written = await lines();
    await rewrite(written.toSpliced(1, 1));
    expect(new Set(await problems())).toEqual(new Set([2]));
  });

  it('a deleted first line is found', async () => {
    await rewrite((await lines()).slice(1));
    expect((await problems())[0]).toBe(1);
  });

  it('reordered lines are found', async () => {
    const [a, b, c, d, e] = await lines();
    await rewrite([a!, c!, b!, d!, e!]);
    expect((await problems()).length).toBeGreaterThan(0);
  });

  it('a doubled line is found', async () => {
    const written = await lines();
    await rewrite(written.toSpliced(3, 0, written[2]!));
    expect((await problems()).length).toBeGreaterThan(0);
  });

  it('lines cut off at the end are found by the head that was written down', async () => {
    await rewrite((await lines()).slice(0, 3));
    expect(await problems()).toEqual([]);
    expect(await problems(head)).toEqual([3]);
    await rm(file);
    expect(await problems(head)).toEqual([0]);
  });

  it('the same entry in other JSON is found', async () => {
    const written = await lines();
    written[1] = written[1]!.replace('{"actor"', '{ "actor"');
    await rewrite(written);
    expect(await problems()).toContain(2);
  });

  it('an empty line is found', async () => {
    const written = await lines();
    await rewrite(written.toSpliced(2, 0, ''));
    expect(await problems()).toContain(3);
  });
});

describe('a line that broke off', () => {
  it.each([
    ['in the middle', async () => truncate(file, (await readFile(file)).length - 40)],
    ['before its newline', async () => truncate(file, (await readFile(file)).length - 1)],
    [
      'as blocks of zeros',
      async () => {
        const bytes = await readFile(file);
        const start = bytes.lastIndexOf(0x0a, bytes.length - 2) + 1;
        await writeFile(
          file,
          Buffer.concat([
            bytes.subarray(0, start),
            Buffer.alloc(bytes.length - start - 1),
            Buffer.from('\n'),
          ]),
        );
      },
    ],
  ])('%s is kept aside and reported, and the chain goes on', async (_how, damage) => {
    await fill(4);
    await damage();
    expect((await fresh().verify()).problems).toHaveLength(1);
    log = fresh();
    const head = await log.append({ now: NOW, actor: 'keeper', event: 'gc' });
    const written = (await lines()).map((line) => JSON.parse(line));
    expect(written.map((entry) => entry.event)).toEqual(['import', 'import', 'import', 'log-damaged', 'gc']);
    const aside = 'audit.log.damaged-4';
    expect(written[3].fields).toMatchObject({
      file: aside,
      sha256: hex(await readFile(path.join(directory, aside), 'latin1')),
    });
    expect(await log.verify()).toEqual({ entries: 5, head, damaged: [aside], problems: [] });
  });

  it('is reported also where the first repair broke off', async () => {
    await fill(2);
    // What a crash leaves between cutting the torn line off and writing the entry about it.
    await writeFile(path.join(directory, 'audit.log.damaged-3'), '{"actor":"kee');
    expect((await fresh().verify()).problems).toHaveLength(1);
    log = fresh();
    await log.append({ now: NOW, actor: 'keeper', event: 'gc' });
    expect(await log.verify()).toMatchObject({ entries: 4, damaged: ['audit.log.damaged-3'], problems: [] });
  });

  it('may be the only one', async () => {
    await appendFile(file, '{"actor"');
    await log.append({ now: NOW, actor: 'keeper', event: 'gc' });
    expect(await log.verify()).toMatchObject({ entries: 2, damaged: ['audit.log.damaged-1'], problems: [] });
    expect((await readdir(directory)).sort()).toEqual(['audit.log', 'audit.log.damaged-1']);
  });

  it('is one only: a log with a damaged middle is not gone on with', async () => {
    await fill(3);
    await appendFile(file, 'garbage\n{"actor"');
    await expect(fresh().append({ now: NOW, actor: 'keeper', event: 'gc' })).rejects.toMatchObject({
      code: 'state-damaged',
    });
  });
});

describePeer(['sha256sum'], 'stock tools', () => {
  it('compute the head as docs/state.md says', async () => {
    const head = await fill(3);
    const { stdout } = await promisify(execFile)(
      'sh',
      ['-c', "tail -n 1 audit.log | tr -d '\\n' | sha256sum"],
      { cwd: directory },
    );
    expect(stdout.split(' ')[0]).toBe(head);
  });
});
