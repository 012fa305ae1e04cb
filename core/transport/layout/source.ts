import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import type { Location } from '../location.ts';
import type { Source } from '../source.ts';

/** An OCI image layout on disk. */
export async function openLayoutSource(
  _location: Extract<Location, { kind: 'oci' }>,
  _context: Context,
): Promise<Source> {
  throw new SealiftError('internal', 'the layout source is not there yet');
}
