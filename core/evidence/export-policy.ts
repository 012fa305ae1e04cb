/** The policy at export: an image that it refuses is found out before anything is signed or transferred. */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { isAttestation } from '../oci/attestation.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import type { CollectedImage, Content, ImageRequest } from '../transport/collect.ts';
import { MAX_SIMPLE_SIGNATURE, simpleSigningVerifier } from '../trust/evidence/simple-signing.ts';
import type { Evidence, EvidenceSubject } from '../trust/evidence/verifier.ts';
import { type PolicyDecision, PolicyJudge } from '../trust/policy/evaluate.ts';
import { loadPolicyFile } from '../trust/policy/load.ts';

/**
 * Judges what was collected as an import with that policy would, and notes in `content` what was found good.
 * @param policy path of the policy file
 * @throws SealiftError `requirement-unmet` for the first image that is refused; `policy-invalid`
 */
export async function assertPolicyMet(
  policy: string,
  content: Content,
  requests: readonly ImageRequest[],
  context: Context,
): Promise<void> {
  const judge = new PolicyJudge(await loadPolicyFile(policy, context.limits), context.now);
  const refused = [];
  for (const image of content.images) {
    const source = requests.find(({ name }) => name === image.name)?.source;
    const read = async (blob: {
      readonly digest: Digest;
      readonly size: number;
      readonly mediaType: string;
    }) => {
      const held = content.blobs.get(blob.digest)?.bytes;
      if (held || blob.size > MAX_SIMPLE_SIGNATURE || !source) return held ?? new Uint8Array();
      const chunks: Uint8Array[] = [];
      for await (const chunk of await source.blob(blob)) chunks.push(Uint8Array.from(chunk));
      const bytes = Buffer.concat(chunks);
      return digestOf(bytes, digestAlgorithm(blob.digest)) === blob.digest ? bytes : new Uint8Array();
    };
    const decision = await judge.judge({
      name: image.name,
      top: image.manifest,
      children: childrenOf(image, content, context),
      pieces: await piecesOf(image, content, read, context),
    });
    if (!decision.allowed) refused.push(decision);
    noteVerified(decision, content);
  }
  const [first] = refused;
  if (!first) return;
  const more = refused.length > 1 ? ` (and ${refused.length - 1} more images)` : '';
  throw new SealiftError(
    'requirement-unmet',
    `the policy refuses it: ${first.verdict}: ${first.reason}${more}`,
    {
      subject: first.name,
      check: 'policy',
      hint: `sealift policy explain ${first.name} --policy FILE shows what is demanded`,
    },
  );
}

/** What was found good goes into the bundle manifest: it may expire before it is imported. */
function noteVerified({ pieces }: PolicyDecision, content: Content): void {
  for (const [digest, { state, verified }] of pieces) {
    const known = content.evidence.get(digest);
    if (state === 'verified' && verified && known)
      content.evidence.set(digest, { ...known, verified: { signer: verified.signer } });
  }
}

function parsedOf(digest: Digest, content: Content, context: Context): ParsedManifest | undefined {
  const blob = content.blobs.get(digest);
  return (
    blob?.bytes && parseManifest(blob.bytes, { mediaType: blob.mediaType, digest, limits: context.limits })
  );
}

export function childrenOf(
  image: CollectedImage,
  content: Content,
  context: Context,
): readonly EvidenceSubject[] {
  const omitted = new Set<string>(image.omitted.map(({ digest }) => digest));
  const found = new Map<Digest, EvidenceSubject>();
  const visit = (manifest: ParsedManifest): void => {
    for (const child of manifest.manifests) {
      if (omitted.has(child.digest) || found.has(child.digest)) continue;
      if (isAttestation(child)) continue;
      if (content.blobs.get(child.digest)?.kind !== 'manifest') continue;
      const parsed = parsedOf(child.digest, content, context);
      if (!parsed) continue;
      if (parsed.kind === 'image') found.set(child.digest, parsed);
      visit(parsed);
    }
  };
  visit(image.manifest);
  return [...found.values()];
}

async function piecesOf(
  image: CollectedImage,
  content: Content,
  read: (blob: ParsedManifest['layers'][number]) => Promise<Uint8Array>,
  context: Context,
): Promise<readonly Evidence[]> {
  const pieces: Evidence[] = [];
  for (const digest of image.evidence) {
    const listed = content.evidence.get(digest);
    if (!listed || !simpleSigningVerifier.accepts(listed.artifactType)) continue;
    const parsed = parsedOf(digest, content, context);
    const payloads: Uint8Array[] = [];
    for (const layer of parsed?.layers ?? []) payloads.push(await read(layer));
    pieces.push({ digest, artifactType: listed.artifactType, subject: listed.subject, payloads });
  }
  return pieces;
}
