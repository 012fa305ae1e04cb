import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import type { Reference } from '../../oci/reference.ts';
import type { Source, SourceOptions } from '../source.ts';

/** A repository in a registry. */
export function openRegistrySource(
  _reference: Reference,
  _options: SourceOptions,
  _context: Context,
): Source {
  throw new SealiftError('internal', 'the registry source is not there yet');
}
