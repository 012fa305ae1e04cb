/** What of an export's content the other side holds already. */
import type { Digest } from '../oci/digest.ts';
import type { Content } from '../transport/collect.ts';
import type { Held } from './since.ts';

/** Layers that travel no second time. */
export interface LeftOut {
  readonly version: number;
  readonly digests: ReadonlySet<Digest>;
}

/** Layers only: what is decided before the first of them is read is in every bundle. Undefined where none is held. */
export function leaveOut(content: Content, held: Held): LeftOut | undefined {
  const layers = [...content.blobs.values()].filter(
    ({ kind, digest }) => kind === 'layer' && held.has(digest),
  );
  return layers.length === 0
    ? undefined
    : { version: held.version, digests: new Set(layers.map(({ digest }) => digest)) };
}
