/** Why an image is in: what the audit log of the gate and the store say of it. */
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import type { AuditEntry } from '../gate/gate.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';
import { isDigest } from '../oci/digest.ts';
import { imageName, parseImageName, parseReference, repositoryName } from '../oci/reference.ts';
import type { ApprovalSummary } from '../results.ts';
import { openStore, type StoreListing } from '../store/store.ts';
import { auditGate } from '../trust-ops/look.ts';

/** An image that an import let in, as the audit log has it. Empty texts where an older entry does not say. */
export interface Admission {
  /** Number of the entry in the audit log. */
  readonly entry: number;
  readonly at: string;
  readonly actor: string;
  readonly name: string;
  readonly digest: string;
  /** Path of the bundle, as it was given. */
  readonly bundle: string;
  readonly store: string;
  readonly collection: string;
  readonly collectionName: string;
  readonly version: number;
  /** The role that answered for the name, and fingerprints or ids of its keys. */
  readonly role: string;
  readonly threshold: number;
  readonly keys: readonly string[];
  readonly reason: string;
  /** Absent where no policy was set. */
  readonly policy?:
    | { readonly sha256: string; readonly scope: string; readonly requirement: string }
    | undefined;
  /** Officers who had approved the bundle. */
  readonly approvals: readonly ApprovalSummary[];
  /** Who signed the evidence that was found good. */
  readonly signers: readonly { readonly digest: string; readonly format: string; readonly signer: string }[];
}

export interface Removal {
  readonly entry: number;
  readonly at: string;
  readonly actor: string;
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
}

export interface WhyReport {
  readonly asked: string;
  readonly gate: string;
  readonly auditHead: string;
  /** False where the chain of the audit log is broken: what it says may have been changed. */
  readonly auditWhole: boolean;
  /** Newest last. */
  readonly admissions: readonly Admission[];
  readonly removals: readonly Removal[];
  readonly store: {
    readonly directory: string;
    /** Names under which the image is in the store now. */
    readonly images: readonly {
      readonly name: string;
      readonly digest: string;
      readonly collectionId: string;
      readonly bundleVersion: number;
      readonly importedAt: string;
      readonly trustExpires: string;
    }[];
  };
}

/**
 * Looks an image up.
 * @param options `image`: NAME@DIGEST, a name alone for all its digests, or a digest alone
 * @throws SealiftError `invalid-reference`, `invalid-digest`; `name-not-found` where the gate never let it in;
 *   `not-pinned` where there is no gate
 */
export async function explainAdmission(
  options: { readonly image: string; readonly gate: string; readonly store: string },
  context: Context,
): Promise<WhyReport> {
  const isMeant = matcherOf(options.image);
  const audit = await auditGate({ gate: options.gate }, context);
  const admissions = audit.shown.flatMap((entry) =>
    entry.event === 'import' ? admissionsIn(entry).filter(isMeant) : [],
  );
  const removals = audit.shown.flatMap((entry) =>
    entry.event === 'removed' ? removalsIn(entry).filter(isMeant) : [],
  );
  const { directory, images } = await listImages(options.store, context);
  const present = images.filter(isMeant);
  if (admissions.length === 0 && present.length === 0) {
    throw new SealiftError('name-not-found', 'this gate has never let in such an image', {
      subject: inert(options.image),
      hint: 'sealift ls shows what is in the store; sealift trust audit shows the whole log',
    });
  }
  return {
    asked: options.image,
    gate: audit.gate,
    auditHead: audit.head,
    auditWhole: audit.whole,
    admissions,
    removals,
    store: {
      directory,
      images: present.map(({ name, digest, collectionId, bundleVersion, importedAt, trustExpires }) => ({
        name,
        digest,
        collectionId,
        bundleVersion,
        importedAt,
        trustExpires,
      })),
    },
  };
}

/** A store that is not there holds nothing; the log tells all the same. */
async function listImages(
  directory: string,
  { limits }: Context,
): Promise<{ directory: string; images: StoreListing['images'] }> {
  try {
    const store = await openStore(directory, { create: false, limits });
    return { directory: store.directory, images: (await store.list()).images };
  } catch (error) {
    if (isSealiftError(error) && error.code === 'store-not-found') return { directory, images: [] };
    throw error;
  }
}

function matcherOf(text: string): (image: { readonly name: string; readonly digest: string }) => boolean {
  if (isDigest(text)) return ({ digest }) => digest === text;
  const wanted = parseReference(text);
  const { digest: digestWanted } = wanted;
  const repository = repositoryName(wanted);
  return ({ name, digest }) => {
    if (digestWanted !== undefined && digest !== digestWanted) return false;
    // `alpine@sha256:…` stands for every name of that image in the repository.
    if (digestWanted !== undefined && wanted.tag === undefined)
      return repositoryName(parseImageName(name)) === repository;
    return name === nameWithoutDigest(text);
  };
}

function nameWithoutDigest(text: string): string {
  return imageName(parseReference(text.replace(/@[^@]*$/, '')));
}

function admissionsIn(entry: AuditEntry): readonly Admission[] {
  const { fields, seq, at, actor } = entry;
  const roles = objects(fields['roles']);
  return objects(fields['images']).map((image) => {
    const role = roles.find((one) => one['role'] === image['role']) ?? {};
    const policy = text(fields['policy']);
    return {
      entry: seq,
      at,
      actor,
      name: text(image['name']),
      digest: text(image['digest']),
      bundle: text(fields['bundle']),
      store: text(fields['store']),
      collection: text(fields['collection']),
      collectionName: text(fields['collectionName']),
      version: number(fields['version']),
      role: text(image['role']),
      threshold: number(role['threshold']),
      keys: list(role['keys']).map(text),
      reason: text(image['reason']),
      ...(policy === ''
        ? {}
        : {
            policy: { sha256: policy, scope: text(image['scope']), requirement: text(image['requirement']) },
          }),
      approvals: objects(fields['approvals']).map((one) => ({
        officer: text(one['officer']),
        keyId: text(one['keyId']),
        approvedAt: text(one['approvedAt']),
      })),
      signers: objects(image['signers']).map((one) => ({
        digest: text(one['digest']),
        format: text(one['format']),
        signer: text(one['signer']),
      })),
    };
  });
}

function removalsIn({ fields, seq, at, actor }: AuditEntry): readonly Removal[] {
  return objects(fields['withdrawn']).map((one) => ({
    entry: seq,
    at,
    actor,
    name: text(one['name']),
    digest: text(one['digest']),
    reason: text(one['reason']),
  }));
}

// What an entry says is shown, never acted on: a field of another form is taken for one that is not there.
function list(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? value : [];
}

function objects(value: JsonValue | undefined): readonly JsonObject[] {
  return list(value).filter(
    (item): item is JsonObject => typeof item === 'object' && item !== null && !Array.isArray(item),
  );
}

function text(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : '';
}

function number(value: JsonValue | undefined): number {
  return typeof value === 'number' ? value : 0;
}
