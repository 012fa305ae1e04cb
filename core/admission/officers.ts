/** The officers of a gate: whose approval a bundle needs before it is let in, and how many of them. */
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { checkFormat, parseDocument } from '../fs/document.ts';
import { openGate } from '../gate/gate.ts';
import { readGateSetting, writeGateSetting } from '../gate/settings.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { Limits } from '../limits.ts';
import { readCertificate } from '../trust/certificates.ts';
import { keyIdOf, parseTufKey, type TufKey } from '../trust/keys.ts';
import { readPublicKey } from '../trust-ops/rekey.ts';
import { countPersons } from '../trust-ops/signatures.ts';
import type { GpgSettings } from '../workflow-options.ts';

export interface Officer {
  /** Of the certificate, or of the file the key came from; for people. */
  readonly name: string;
  readonly keyId: string;
  readonly key: TufKey;
  /** Of OpenPGP keys. */
  readonly fingerprint?: string | undefined;
  readonly certificate?: Uint8Array | undefined;
}

export interface Officers {
  /** How many of them have to approve. */
  readonly threshold: number;
  readonly officers: readonly Officer[];
}

const FORMAT = 1;
const MAX_OFFICERS = 100;
const MAX_FILE = 32 * 1024 * 1024;

/**
 * The officers of the gate at `directory`; undefined where none were set.
 * @throws SealiftError `officers-missing`, `state-damaged`, `format-unsupported`
 */
export async function readOfficers(directory: string, limits: Limits): Promise<Officers | undefined> {
  const setting = await readGateSetting(directory, 'officers');
  if (!setting) return undefined;
  const hint = 'set them again: sealift officers set KEY…';
  const document = parseDocument(setting.bytes, { file: setting.file, hint, maxBytes: MAX_FILE });
  checkFormat(document, setting.file, FORMAT, []);
  const officers: Officer[] = [];
  for (const one of document.objects('officers')) {
    const key = parseTufKey(one.string('keyId'), one.object('key').value, true);
    const encoded = one.optionalString('certificate');
    const certificate = encoded === undefined ? undefined : Buffer.from(encoded, 'base64');
    const fingerprint = key.keytype === 'openpgp' ? key.keyval.public : undefined;
    if (fingerprint !== undefined) {
      const read = certificate && (await readCertificate(certificate, limits));
      if (read?.fingerprint !== fingerprint) throw document.damaged('a certificate is not that of its key');
    }
    officers.push({ name: one.string('name'), keyId: keyIdOf(key), key, fingerprint, certificate });
  }
  const threshold = document.integer('threshold');
  if (threshold < 1 || threshold > officers.length) throw document.damaged('threshold cannot be met');
  return { threshold, officers };
}

export interface OfficersResult {
  readonly gate: string;
  /** 0 where no approvals are demanded. */
  readonly threshold: number;
  readonly officers: readonly {
    readonly name: string;
    readonly keyId: string;
    readonly fingerprint?: string | undefined;
  }[];
  /** Absent where nothing was changed. */
  readonly auditHead?: string | undefined;
}

/**
 * Sets who approves, or with `keys` empty that nobody has to.
 * @param options `keys`: files of public keys, or `gpg:FINGERPRINT`
 * @throws SealiftError `invalid-argument` where the keys belong to fewer people than have to approve; `not-pinned` where
 *   there is no gate; `weak-algorithm`
 */
export async function setOfficers(
  options: {
    readonly gate: string;
    readonly keys: readonly string[];
    readonly threshold: number;
    readonly gpg?: GpgSettings | undefined;
    readonly pid: number;
    readonly actor: string;
  },
  context: Context,
): Promise<OfficersResult> {
  const { keys, threshold, actor } = options;
  const officers = await Promise.all(keys.map((file) => readOfficer(file, options.gpg, context)));
  if (officers.length > 0) await refuseTooFew(officers, threshold, context);
  const bytes = officers.length === 0 ? undefined : encodeOfficers(officers, threshold);
  const gate = await openGate(options.gate, { create: false });
  const lock = await gate.lock(options.pid);
  try {
    // Told first: better an entry for a change that a crash has prevented than a change without an entry.
    const auditHead = await gate.audit({
      now: context.now,
      actor,
      event: 'officers',
      fields: bytes
        ? { threshold, officers: officers.map(({ name, keyId }) => ({ name, keyId })) }
        : { cleared: true },
    });
    await writeGateSetting(gate.directory, 'officers', bytes, context.now);
    return { ...summary(gate.directory, { threshold: bytes ? threshold : 0, officers }), auditHead };
  } finally {
    await lock.release();
  }
}

/** @throws SealiftError as {@link readOfficers} */
export async function listOfficers(
  options: { readonly gate: string },
  context: Context,
): Promise<OfficersResult> {
  const gate = await openGate(options.gate, { create: false });
  const found = await readOfficers(gate.directory, context.limits);
  return summary(gate.directory, found ?? { threshold: 0, officers: [] });
}

function summary(gate: string, { threshold, officers }: Officers): OfficersResult {
  return {
    gate,
    threshold,
    officers: officers.map(({ name, keyId, fingerprint }) => ({
      name,
      keyId,
      ...(fingerprint === undefined ? {} : { fingerprint }),
    })),
  };
}

async function readOfficer(file: string, gpg: GpgSettings | undefined, context: Context): Promise<Officer> {
  const { key, keyId, fingerprint, certificate } = await readPublicKey(file, context, gpg);
  const userId = certificate && (await readCertificate(certificate, context.limits)).userId;
  const name = inert(userId || (file.split('/').at(-1) ?? file), 120);
  return { name, keyId, key, fingerprint, certificate };
}

async function refuseTooFew(
  officers: readonly Officer[],
  threshold: number,
  context: Context,
): Promise<void> {
  const people = await countOfficers(officers, context);
  if (officers.length <= MAX_OFFICERS && people === officers.length && threshold >= 1 && threshold <= people)
    return;
  throw new SealiftError(
    'invalid-argument',
    people === officers.length
      ? `cannot ask for ${threshold} of ${people} officers`
      : `two of the keys are of one person: got ${officers.length} keys of ${people}`,
    { subject: '--need', got: threshold, want: `1 to ${Math.min(people, MAX_OFFICERS)}` },
  );
}

/** How many people these are: keys that share material or a primary key are one person's. */
export function countOfficers(officers: readonly Officer[], context: Context): Promise<number> {
  const ids = officers.map(({ keyId }) => keyId);
  const certificates = officers.flatMap(({ fingerprint, certificate }) =>
    fingerprint !== undefined && certificate ? [[fingerprint, certificate] as const] : [],
  );
  return countPersons(
    ids,
    new Map(ids.map((id) => [id, ''])),
    new Map(officers.map(({ keyId, key }) => [keyId, key])),
    new Map(certificates),
    context,
  );
}

function encodeOfficers(officers: readonly Officer[], threshold: number): Buffer {
  return canonicalJson({
    formatVersion: FORMAT,
    requires: [],
    threshold,
    officers: officers.map(({ name, keyId, key, certificate }) => ({
      name,
      keyId,
      key: { keytype: key.keytype, scheme: key.scheme, keyval: { public: key.keyval.public } },
      ...(certificate ? { certificate: Buffer.from(certificate).toString('base64') } : {}),
    })),
  });
}
