/**
 * The ledger of past exports (docs/receipts-and-deltas.md): what each bundle of the collection had in it, so that a
 * version or a code says what the other side holds. Written under the collection's lock.
 */
import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { BundleManifest } from '../bundle/manifest.ts';
import { checkFormat, formatTimestamp, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import { type Digest, digestOfBlobPath, isDigest } from '../oci/digest.ts';
import { paperCode } from './code.ts';

const FORMAT = 1;
/** A million layers. */
const MAX_ENTRY = 128 * 1024 * 1024;
const MAX_CONFIRMED = 1024 * 1024;
/** Past exports that are remembered. */
const REMEMBERED = 64;
const HINT = 'remove it; exports that refer to it with --since are then not known';

export interface PastExport {
  readonly version: number;
  readonly created: string;
  readonly expires: string;
  /** SHA-256 of sealift.json, lower-case hex. */
  readonly manifest: string;
  readonly code: string;
  /** Version of the base, where it was a delta. */
  readonly base?: number | undefined;
  readonly images: readonly { readonly name: string; readonly digest: string }[];
  /** Every layer of these images, whether it was in the bundle or left out. */
  readonly layers: readonly { readonly digest: Digest; readonly size: number }[];
}

export interface Ledger {
  /** @throws SealiftError `state-damaged`, `format-unsupported` */
  read(version: number): Promise<PastExport | undefined>;
  /** Versions that are remembered, ascending. */
  versions(): Promise<readonly number[]>;
  /** Enters an export; the same once more changes nothing. */
  record(manifest: BundleManifest, manifestBytes: Uint8Array, expires: string): Promise<void>;
  /** The newest version that was confirmed, by whom and when. */
  confirmed(): Promise<readonly Confirmation[]>;
  /** Moves on what `by` has confirmed; never back. */
  confirm(confirmation: Omit<Confirmation, 'at'>, now: Date): Promise<void>;
}

export interface Confirmation {
  /** Key id of a gate, or `code`. */
  readonly by: string;
  readonly version: number;
  readonly at: string;
}

/** Layers that are on the other side when the bundle has arrived whole: those in it, and those it left out. */
export function layersOf(manifest: BundleManifest): { digest: Digest; size: number }[] {
  const inside = manifest.entries.filter(({ kind }) => kind === 'layer');
  return [...inside, ...(manifest.base?.missing ?? [])].map(({ name, size = 0 }) => ({
    digest: digestOfBlobPath(name),
    size,
  }));
}

/** @param directory of the collection */
export function openLedger(directory: string, collectionId: string): Ledger {
  const home = path.join(directory, 'exports');
  const fileOf = (version: number) => path.join(home, `${version}.json`);
  const confirmedFile = path.join(home, 'confirmed.json');

  async function read(version: number): Promise<PastExport | undefined> {
    const file = fileOf(version);
    const bytes = await readFileLimited(file, MAX_ENTRY);
    if (!bytes) return undefined;
    const document = parseDocument(bytes, { file, hint: HINT, maxBytes: MAX_ENTRY });
    checkFormat(document, file, FORMAT, []);
    if (document.integer('version') !== version) throw document.damaged('it is about another version');
    const manifest = document.string('manifest', SHA256_HEX);
    const asDigest = (text: string): Digest => {
      if (!isDigest(text)) throw document.damaged('malformed digest');
      return text;
    };
    return {
      version,
      created: document.string('created', TIMESTAMP),
      expires: document.string('expires', TIMESTAMP),
      manifest,
      code: paperCode({ collection: collectionId, version, manifest }),
      base: document.optionalInteger('base'),
      images: document
        .objects('images')
        .map((item) => ({ name: item.string('name'), digest: item.string('digest') })),
      layers: document
        .objects('layers')
        .map((item) => ({ digest: asDigest(item.string('digest')), size: item.integer('size') })),
    };
  }

  async function versions(): Promise<readonly number[]> {
    const names = await readdir(home).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names
      .flatMap((name) => (/^[1-9][0-9]{0,15}\.json$/.test(name) ? [Number(name.slice(0, -5))] : []))
      .sort((a, b) => a - b);
  }

  async function confirmed(): Promise<readonly Confirmation[]> {
    const bytes = await readFileLimited(confirmedFile, MAX_CONFIRMED);
    if (!bytes) return [];
    const document = parseDocument(bytes, { file: confirmedFile, hint: HINT, maxBytes: MAX_CONFIRMED });
    checkFormat(document, confirmedFile, FORMAT, []);
    return document.objects('confirmed').map((item) => ({
      by: item.string('by', /^(?:code|[0-9a-f]{64})$/),
      version: item.integer('version'),
      at: item.string('at', TIMESTAMP),
    }));
  }

  return {
    read,
    versions,
    confirmed,
    async record(manifest, manifestBytes, expires) {
      await makeDirectory(home, 'state');
      const bytes = canonicalJson({
        formatVersion: FORMAT,
        requires: [],
        version: manifest.version,
        created: manifest.created,
        expires,
        manifest: createHash('sha256').update(manifestBytes).digest('hex'),
        ...(manifest.base ? { base: manifest.base.version } : {}),
        images: manifest.images.map(({ name, digest }) => ({ name, digest })),
        layers: layersOf(manifest),
      });
      const file = fileOf(manifest.version);
      const there = await readFileLimited(file, MAX_ENTRY).catch(() => undefined);
      if (!there?.equals(bytes)) await writeFileDurably(file, bytes, 'state');
      for (const old of (await versions()).slice(0, -REMEMBERED)) await rm(fileOf(old), { force: true });
    },
    async confirm({ by, version }, now) {
      const before = await confirmed();
      if (before.some((known) => known.by === by && known.version >= version)) return;
      await makeDirectory(home, 'state');
      const all = [
        ...before.filter((known) => known.by !== by),
        { by, version, at: formatTimestamp(now) },
      ].sort((a, b) => (a.by < b.by ? -1 : 1));
      await writeFileDurably(
        confirmedFile,
        canonicalJson({ formatVersion: FORMAT, requires: [], confirmed: all }),
        'state',
      );
    },
  };
}
