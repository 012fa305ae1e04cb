/** Receipts: what they say, what they do not, and what nobody can make them do. */
import { createPublicKey, verify } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keptByReceipts } from '../../../core/delta/kept.ts';
import { openLedger } from '../../../core/delta/ledger.ts';
import { makeReceipt, type ReceiptOptions } from '../../../core/delta/make-receipt.ts';
import { pinGateOfReceipt } from '../../../core/delta/pin-gate.ts';
import { encodeReceipt, keyedHash, parseReceipt, type ReceiptContent } from '../../../core/delta/receipt.ts';
import { openGate } from '../../../core/gate/gate.ts';
import { inspectLocation } from '../../../core/inspect.ts';
import { canonicalJson } from '../../../core/json/canonical.ts';
import type { ReceiptResult } from '../../../core/results.ts';
import { openStore } from '../../../core/store/store.ts';
import { openCollection } from '../../../core/trust/collection.ts';
import { makeGateKey } from '../../../core/trust/gate-key.ts';
import { makeImage, makeLayer, signedImage, singleImage } from '../../../fixtures/images.ts';
import { DAY, layerNames, makeWorld, START, type World } from '../../../fixtures/world.ts';

const APP = 'registry.example/team/app:1';
const LIB = 'registry.example/team/lib:2';
const later = (days: number) => new Date(START.getTime() + days * DAY);
const grown = (label: string) =>
  makeImage({
    layers: [
      makeLayer({ 'base.txt': 'the same in all'.repeat(500) }),
      makeLayer({ 'own.txt': label.repeat(300) }),
    ],
  });

async function refusal(work: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  return work.then(
    () => ({ code: 'accepted', message: '', hint: '' }),
    (error: { code: string; message: string; hint: string }) => error,
  );
}

let world: World;
let receipt: string;
beforeEach(async () => {
  world = await makeWorld();
  receipt = path.join(world.directory, 'receipt.json');
  const { output } = await world.export({ [APP]: grown('one') });
  await world.pin(output);
  await world.import(output);
});
afterEach(() => world.close());

function make(options: Partial<ReceiptOptions> & { now?: Date; file?: string } = {}): Promise<ReceiptResult> {
  const { now = START, file = receipt, ...more } = options;
  return makeReceipt(
    {
      gate: world.gate,
      store: world.store,
      lifetime: 90 * DAY,
      output: { kind: 'file', path: file, force: false },
      pid: process.pid,
      actor: 'tester',
      ...more,
    },
    world.context(now),
  );
}

async function pinned(options: Parameters<typeof make>[0] = {}): Promise<ReceiptResult> {
  const made = await make(options);
  await pinGateOfReceipt(
    {
      collection: world.collection,
      receipt: options.file ?? receipt,
      fingerprint: made.receipt.gate,
      pid: process.pid,
    },
    world.context(),
  );
  return made;
}

const since = (
  file = receipt,
  now = later(1),
  images: Parameters<World['export']>[0] = { [APP]: grown('two') },
) => world.export(images, { now, since: { kind: 'file', path: file } });

describe('a receipt', () => {
  test('makes the next bundle a delta, and confirms the version', async () => {
    const made = await pinned();
    expect(made).toMatchObject({
      newKey: true,
      receipt: { number: 1, images: 1, blobs: 2, accepted: { version: 2 } },
    });
    const { base, output } = await since();
    expect(base).toMatchObject({ version: 2, blobs: 1 });
    expect(await world.import(output, { now: later(1) })).toMatchObject({ imported: [APP] });
    const collection = await openCollection(world.collection, world.context().limits);
    expect(await openLedger(world.collection, collection.id).confirmed()).toEqual([
      { by: made.receipt.gate, version: 2, at: '2026-03-02T00:00:00Z' },
    ]);
  });

  test('tells no name and no digest, and is another one each time', async () => {
    await world.import((await world.export({ [LIB]: signedImage() }, { now: later(1) })).output, {
      now: later(1),
    });
    await make({ now: later(1) });
    const text = readFileSync(receipt, 'utf8');
    const store = await openStore(world.store, { create: false });
    for (const { name, digest, evidence } of (await store.list()).images) {
      for (const secret of [name, digest, ...evidence.map((piece) => piece.digest)])
        for (const spelt of [secret, secret.replace(/^sha256:/, ''), Buffer.from(secret).toString('base64')])
          expect(text).not.toContain(spelt);
    }
    for (const blob of readdirSync(path.join(world.store, 'blobs/sha256'))) {
      expect(text).not.toContain(blob);
      expect(text).not.toContain(Buffer.from(blob, 'hex').subarray(0, 16).toString('base64').slice(0, 20));
    }
    const one = parseReceipt(readFileSync(receipt), receipt);
    await make({ now: later(1) });
    const two = parseReceipt(readFileSync(receipt), receipt);
    expect([...one.blobs].filter((hash) => two.blobs.has(hash))).toEqual([]);
    expect(two.number).toBe(2);
    expect(two.gate).toBe(one.gate);
  });

  test('lists what a person with openssl can verify', async () => {
    await make();
    const { signatures, signed } = JSON.parse(readFileSync(receipt, 'utf8')) as {
      signatures: [{ sig: string }];
      signed: { gate: { keyval: { public: string } } };
    };
    const key = createPublicKey({
      key: Buffer.concat([
        Buffer.from('302a300506032b6570032100', 'hex'),
        Buffer.from(signed.gate.keyval.public, 'hex'),
      ]),
      format: 'der',
      type: 'spki',
    });
    expect(verify(null, canonicalJson(signed), key, Buffer.from(signatures[0].sig, 'hex'))).toBe(true);
  });

  test('lists layers that are there whole, and none that are not', async () => {
    const { output } = await world.export(
      { [APP]: grown('one') },
      { now: later(1), file: path.join(world.directory, 'x.tar') },
    );
    const [lost = '', kept = ''] = layerNames(output);
    rmSync(path.join(world.store, lost));
    await pinned();
    const { blobs, nonce } = parseReceipt(readFileSync(receipt), receipt);
    const hash = (name: string) => keyedHash(nonce, 'blob', `sha256:${name.slice(-64)}`);
    expect([blobs.has(hash(lost)), blobs.has(hash(kept)), blobs.size]).toEqual([false, true, 1]);
    const delta = await since(receipt, later(2), { [APP]: grown('one') });
    expect(layerNames(delta.output)).toEqual([lost]);
    await world.import(delta.output, { now: later(2) });
    expect(existsSync(path.join(world.store, lost))).toBe(true);
  });

  test('is entered in the audit log, and its key is nobody else’s', async () => {
    const gate = await openGate(world.gate, { create: false });
    const head = await gate.auditHead();
    const made = await make();
    expect(made.receipt.auditHead).toBe(head);
    expect(made.auditHead).not.toBe(head);
    const last = readFileSync(path.join(world.gate, 'audit.log'), 'utf8').trim().split('\n').at(-1) ?? '';
    expect(JSON.parse(last)).toMatchObject({
      event: 'receipt',
      fields: { number: 1, sha256: made.sha256, images: 1, layers: 2 },
    });
    expect((await (await openGate(world.gate, { create: false })).verifyAudit()).problems).toEqual([]);
    expect(statSync(path.join(world.gate, 'receipt-key.json')).mode & 0o777).toBe(0o600);
  });

  test('is shown by inspect', async () => {
    const made = await make();
    expect(await inspectLocation({ location: receipt, names: [] }, world.context())).toMatchObject({
      kind: 'receipt',
      receipt: made.receipt,
    });
  });

  test('on paper only writes nothing, and gives the code', async () => {
    const made = await make({ output: undefined });
    expect(made.code).toMatch(/^2-/);
    expect(made.output).toBeUndefined();
    const { base } = await world.export(
      { [APP]: grown('two') },
      { now: later(1), since: { kind: 'code', code: made.code ?? '' } },
    );
    expect(base).toMatchObject({ version: 2, blobs: 1 });
  });

  test('gives the code of the last images, also after a renewal, and none where they are not all in', async () => {
    const { code } = await make({ output: undefined });
    const renewal = await world.export({}, { now: later(1), metadataOnly: true });
    await world.import(renewal.output, { now: later(1) });
    expect((await make({ output: undefined, now: later(1) })).code).toBe(code);
    const both = await world.export({ [APP]: grown('two'), [LIB]: grown('two') }, { now: later(2) });
    await world.import(both.output, { now: later(2), only: [LIB] });
    expect((await make({ output: undefined, now: later(2) })).code).toBeUndefined();
  });

  test('replaces a receipt, and nothing else', async () => {
    await make();
    await make();
    writeFileSync(receipt, 'my notes');
    expect(await refusal(make())).toMatchObject({ code: 'destination-exists' });
    await make({ output: { kind: 'file', path: receipt, force: true } });
  });

  test('of a gate with several collections wants to know which', async () => {
    const other = await makeWorld();
    const { output } = await other.export({ [LIB]: singleImage('x') });
    const gate = await openGate(world.gate, { create: false });
    const [mine] = await gate.collections();
    await world.pin(output, { fingerprint: 'f'.repeat(64) }).catch(() => undefined);
    expect(await refusal(make({ collection: 'ffff' }))).toMatchObject({ code: 'not-pinned' });
    expect((await make({ collection: mine?.collectionId.slice(0, 6) ?? '' })).receipt.number).toBe(1);
    await other.close();
  });
});

describe('a receipt is refused', () => {
  test('by a gate that nobody pinned, and pinning wants the right fingerprint', async () => {
    const made = await make();
    expect(await refusal(since())).toMatchObject({
      code: 'gate-unknown',
      hint: expect.stringContaining('pin-gate') as string,
    });
    const pin = (fingerprint: string) =>
      pinGateOfReceipt(
        { collection: world.collection, receipt, fingerprint, pid: process.pid },
        world.context(),
      );
    expect(await refusal(pin('0'.repeat(64)))).toMatchObject({ code: 'pin-mismatch' });
    expect(await pin(made.receipt.gate)).toMatchObject({ alreadyPinned: false });
    expect(await pin(made.receipt.gate)).toMatchObject({ alreadyPinned: true });
  });

  test('by a gate of one’s own making that names the pinned key', async () => {
    await pinned();
    const real = parseReceipt(readFileSync(receipt), receipt);
    const mine = makeGateKey();
    const { gate: _gate, generator: _generator, ...content } = real;
    const forged = JSON.parse(encodeReceipt(content, mine).toString()) as {
      signatures: object[];
      signed: object;
    };
    writeFileSync(receipt, canonicalJson(forged));
    expect(await refusal(since())).toMatchObject({ code: 'gate-unknown' });
    writeFileSync(
      receipt,
      canonicalJson({ ...forged, signatures: [{ ...forged.signatures[0], keyid: real.gate }] }),
    );
    expect(await refusal(since())).toMatchObject({ code: 'signature-invalid' });
  });

  test('when any byte of it was changed', async () => {
    await pinned();
    const genuine = readFileSync(receipt);
    const codes = new Set<string>();
    for (let at = 0; at < genuine.length; at += 7) {
      const bytes = Buffer.from(genuine);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      try {
        parseReceipt(bytes, receipt);
        codes.add(`accepted at ${at}`);
      } catch (error) {
        codes.add((error as { code: string }).code);
      }
    }
    expect(
      [...codes].filter(
        (code) => !['receipt-invalid', 'signature-invalid', 'format-unsupported'].includes(code),
      ),
    ).toEqual([]);
    expect(codes).toContain('signature-invalid');
  });

  test('when it has expired', async () => {
    await pinned({ lifetime: 30 * DAY });
    expect(await refusal(since(receipt, later(30)))).toMatchObject({ code: 'receipt-expired' });
    expect(await refusal(since(receipt, later(29)))).toMatchObject({ code: 'accepted' });
  });

  test('when it is about another collection', async () => {
    const stranger = await world.stranger();
    await make();
    expect(
      await refusal(stranger.export({ [APP]: grown('two') }, { since: { kind: 'file', path: receipt } })),
    ).toMatchObject({ code: 'gate-unknown' });
    const { gate } = parseReceipt(readFileSync(receipt), receipt);
    expect(
      await refusal(
        pinGateOfReceipt(
          { collection: stranger.collection, receipt, fingerprint: gate, pid: process.pid },
          world.context(),
        ),
      ),
    ).toMatchObject({ code: 'receipt-mismatch' });
    // One gate may hold several collections: its key is pinned, and still the receipt is about one.
    writeFileSync(
      path.join(stranger.collection, 'gates.json'),
      canonicalJson({
        formatVersion: 1,
        requires: [],
        gates: [{ gate, number: 0, pinnedAt: '2026-03-01T00:00:00Z' }],
      }),
    );
    expect(
      await refusal(stranger.export({ [APP]: grown('two') }, { since: { kind: 'file', path: receipt } })),
    ).toMatchObject({ code: 'receipt-mismatch' });
  });

  test('when the gate took a version that a copy of the collection made, or one that is not made yet', async () => {
    const copy = world.fork();
    const theirs = await copy.export({ [APP]: grown('theirs') }, { now: later(1) });
    await world.import(theirs.output, { now: later(1) });
    await pinned({ now: later(1) });
    expect(await refusal(since(receipt, later(2)))).toMatchObject({ code: 'rollback' });
    await world.export({ [APP]: grown('ours') }, { now: later(2) });
    expect(await refusal(since(receipt, later(2)))).toMatchObject({ code: 'fork' });
  });

  test('when it is malformed in any way', async () => {
    const key = makeGateKey();
    const good = baseContent();
    const sign = (change: object) => () => encodeReceipt({ ...good, ...change } as ReceiptContent, key);
    expect(sign({})).not.toThrow();
    for (const change of [
      { expires: '2028-03-01T00:00:00Z' },
      { expires: good.created },
      { created: 'yesterday' },
      { nonce: 'ab' },
      { imports: Array.from({ length: 65 }, () => good.imports[0]) },
      { pin: { ...good.pin, scopes: [] } },
      { collection: { id: '../../etc', name: 'x' } },
      { number: -1 },
    ])
      expect(sign(change), JSON.stringify(change)).toThrow(
        expect.objectContaining({ code: 'receipt-invalid' }),
      );
    for (const text of [
      '',
      '{}',
      '[]',
      '{"signatures":[]}',
      '{"signatures":[],"signed":{}}',
      '{"signatures":[',
    ])
      expect(() => parseReceipt(Buffer.from(text), 'x'), text).toThrow(
        expect.objectContaining({ code: 'receipt-invalid' }),
      );
  });

  test('whatever bytes it is made of, with a code of its own', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(`{"signatures":[],"signed":${text}}`)),
        ),
        (bytes) => {
          expect(() => parseReceipt(bytes, 'x')).toThrow(
            expect.objectContaining({ code: 'receipt-invalid' }),
          );
        },
      ),
    );
  });
});

function baseContent(): ReceiptContent {
  return {
    number: 1,
    collection: { id: 'a'.repeat(64), name: 'test' },
    created: '2026-03-01T00:00:00Z',
    expires: '2026-04-01T00:00:00Z',
    pin: { fingerprint: 'b'.repeat(64), rootVersion: 1, scopes: ['*'] },
    root: { version: 1, fingerprint: 'b'.repeat(64) },
    imports: [
      {
        version: 2,
        manifest: 'c'.repeat(64),
        at: '2026-03-01T00:00:00Z',
        images: 1,
        admitted: 1,
        refused: 0,
      },
    ],
    auditHead: '0'.repeat(64),
    nonce: 'd'.repeat(64),
    images: new Set(),
    blobs: new Set([keyedHash('d'.repeat(64), 'blob', 'sha256:x')]),
  };
}

describe('a forged or mistaken receipt', () => {
  test('costs a bundle that asks for its base, and a request mends it', async () => {
    await pinned();
    const [shared = '', own = ''] = layerNames(
      (
        await world.export(
          { [APP]: grown('one') },
          { now: later(1), file: path.join(world.directory, 'x.tar') },
        )
      ).output,
    );
    // The store loses what the receipt says it has.
    for (const name of [shared, own]) rmSync(path.join(world.store, name));
    const delta = (await since(receipt, later(2), { [APP]: grown('one') })).output;
    const request = path.join(world.directory, 'request.json');
    const images = () =>
      Object.entries(world.imagesState() as object).filter(([file]) => !file.startsWith('.sealift/receipts'));
    const before = images();
    expect(await refusal(world.import(delta, { now: later(2), request }))).toMatchObject({
      code: 'base-needed',
    });
    expect(images()).toEqual(before);
    const asked = parseReceipt(readFileSync(request), request);
    expect(asked.request).toMatchObject({ version: 4, images: 1, blobs: 2 });
    const mended = await since(request, later(3), { [APP]: grown('one') });
    expect(layerNames(mended.output).sort()).toEqual([shared, own].sort());
    await world.import(mended.output, { now: later(3) });
    for (const name of [shared, own]) expect(existsSync(path.join(world.store, name))).toBe(true);
  });

  test('that is older than the last one is taken, and said to be', async () => {
    const old = path.join(world.directory, 'old.json');
    await pinned({ file: old });
    await make();
    await since(receipt, later(1));
    await since(old, later(2));
    expect(world.events).toContainEqual(expect.objectContaining({ type: 'notice', code: 'receipt-older' }));
  });

  test('writes no request over something else, and none unless asked', async () => {
    await pinned();
    const files = readdirSync(world.directory);
    rmSync(
      path.join(
        world.store,
        layerNames(
          (
            await world.export(
              { [APP]: grown('one') },
              { now: later(1), file: path.join(world.directory, 'bundle-1.tar'), force: true },
            )
          ).output,
        )[0] ?? '',
      ),
    );
    const delta = (await since(receipt, later(2), { [APP]: grown('one') })).output;
    const request = path.join(world.directory, 'notes.txt');
    writeFileSync(request, 'my notes');
    expect(await refusal(world.import(delta, { now: later(2), request }))).toMatchObject({
      code: 'destination-exists',
    });
    expect(readFileSync(request, 'utf8')).toBe('my notes');
    expect(await refusal(world.import(delta, { now: later(2) }))).toMatchObject({ code: 'base-needed' });
    expect(readdirSync(world.directory).filter((name) => name.endsWith('.json'))).toEqual(
      files.filter((name) => name.endsWith('.json')),
    );
  });
});

describe('garbage collection', () => {
  async function collect(now: Date): Promise<number> {
    const store = await openStore(world.store, { create: false });
    const lock = await store.lock(process.pid);
    try {
      return (await store.gc({ dryRun: false, keep: await keptByReceipts(world.store, now, true) }))
        .removedBlobs;
    } finally {
      await lock.release();
    }
  }

  test('keeps what an unexpired receipt lists, so that the delta made with it still fits', async () => {
    await pinned({ lifetime: 30 * DAY });
    const back = (await since(receipt, later(1), { [APP]: grown('one'), [LIB]: grown('new') })).output;
    // Meanwhile the image moves on, and nothing else needs its old layer.
    const moved = await world.export({ [APP]: grown('two') }, { now: later(2) });
    await world.import(moved.output, { now: later(2) });
    await collect(later(3));
    const again = (await since(receipt, later(4), { [APP]: grown('one') })).output;
    expect(await world.import(again, { now: later(4) })).toMatchObject({ imported: [APP] });
    expect(existsSync(back)).toBe(true);
  });

  test('forgets a receipt that has expired', async () => {
    await make({ lifetime: 30 * DAY });
    await world.import((await world.export({ [APP]: grown('two') }, { now: later(1) })).output, {
      now: later(1),
    });
    const [own = ''] = [...(await keptByReceipts(world.store, later(29), false))];
    expect(own).not.toBe('');
    await collect(later(29));
    expect(readdirSync(path.join(world.store, '.sealift/receipts'))).toHaveLength(1);
    expect(await collect(later(31))).toBe(1);
    expect(readdirSync(path.join(world.store, '.sealift/receipts'))).toEqual([]);
  });

  test('removes nothing where a note is damaged', async () => {
    await make();
    const [note = ''] = readdirSync(path.join(world.store, '.sealift/receipts'));
    writeFileSync(path.join(world.store, '.sealift/receipts', note), '{');
    expect(await refusal(collect(later(1)))).toMatchObject({ code: 'state-damaged' });
  });
});
