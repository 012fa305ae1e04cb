/** States of a gate that tests compare; the gate does not look into the bytes. */
import { createHash } from 'node:crypto';
import type { KeptChange, KeptState, PinRequest } from '../../../core/gate/gate.ts';

export const NOW = new Date('2026-03-01T12:00:00Z');
export const FPR = 'ab'.repeat(20);

export function hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export function pinOf(name: string, scopes: readonly string[] = []): PinRequest {
  return {
    collectionId: hex(name),
    collectionName: name,
    root: { version: 1, fingerprint: hex(`${name} root 1`), bytes: Buffer.from(`${name} root 1`) },
    certificates: new Map([[FPR, Buffer.from(`${name} certificate`)]]),
    scopes,
    now: NOW,
  };
}

/** Everything a bundle of that version changes. */
export function changeOf(version: number): KeptChange {
  return {
    root: { version: 2, fingerprint: hex('root 2'), bytes: Buffer.from('root 2') },
    timestamp: Buffer.from(`timestamp ${version}`),
    snapshot: Buffer.from(`snapshot ${version}`),
    targets: Buffer.from('targets'),
    delegated: new Map([
      ['bundles', Buffer.from(`bundles ${version}`)],
      ['images', Buffer.from('images')],
    ]),
    clockFloor: '2026-03-01T11:00:00Z',
    version,
    expires: '2026-06-01T00:00:00Z',
  };
}

/** A state as comparable plain data. */
export function plain(state: KeptState | undefined): unknown {
  if (!state) return undefined;
  const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();
  return {
    ...state,
    root: { ...state.root, bytes: text(state.root.bytes) },
    timestamp: text(state.timestamp),
    snapshot: text(state.snapshot),
    targets: text(state.targets),
    delegated: [...state.delegated].map(([name, bytes]) => [name, text(bytes)]),
    certificates: [...state.certificates].map(([name, bytes]) => [name, text(bytes)]),
  };
}
