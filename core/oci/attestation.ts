/** Attestations that are children of an index beside the images they are about, as BuildKit makes them. */
import type { Descriptor } from './descriptor.ts';

const TYPE = 'vnd.docker.reference.type';
const SUBJECT = 'vnd.docker.reference.digest';

type Annotated = Pick<Descriptor, 'annotations'>;

export function isAttestation({ annotations }: Annotated): boolean {
  return annotations?.[TYPE] === 'attestation-manifest';
}

/** Digest of the child an attestation says it is about, as it stands there; empty where it does not say. */
export function attestationSubject({ annotations }: Annotated): string {
  return annotations?.[SUBJECT] ?? '';
}
