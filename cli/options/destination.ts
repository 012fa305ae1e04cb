import path from 'node:path';
import type { Context } from '../../core/context.ts';
import { inert, SealiftError } from '../../core/errors.ts';
import type { OpenDestination } from '../../core/publish/destination.ts';
import type { SyncOptions, SyncResult } from '../../core/sync.ts';
import { parseDuration } from './values.ts';

/** Where images are published to, as it was written on the command line. */
export type DestinationSpec = { readonly kind: 'static'; readonly directory: string };

const KINDS = 'static:DIRECTORY';

/** `static:DIR`. */
export function parseDestination(text: string, cwd: string): DestinationSpec {
  if (text.startsWith('static:') && text.length > 'static:'.length) {
    return { kind: 'static', directory: path.resolve(cwd, text.slice('static:'.length)) };
  }
  throw new SealiftError('unknown-location', `got ${inert(text)}, want ${KINDS}`, {
    subject: inert(text),
    want: KINDS,
    hint: 'images are published into a directory: static:/srv/images',
  });
}

/** As `parseDuration`; nothing but `0` is shorter than a minute. */
export function parseGrace(text: string, option: string): number {
  return text === '0' ? 0 : parseDuration(text, option);
}

/** What the command asks for, before anything of the library is loaded. */
export interface SyncRequest extends Omit<SyncOptions, 'destinations' | 'placement'> {
  readonly destinations: readonly DestinationSpec[];
  readonly prefix: string | undefined;
  /** `FROM=TO` */
  readonly map: readonly string[];
}

/** Loads what the destinations need, and syncs. */
export async function runSync(request: SyncRequest, context: Context): Promise<SyncResult> {
  const [{ syncStore }, { isRepository, parseMapping }] = await Promise.all([
    import('../../core/sync.ts'),
    import('../../core/publish/placement.ts'),
  ]);
  const { prefix, map, destinations, ...rest } = request;
  if (prefix !== undefined && !isRepository(prefix)) {
    throw new SealiftError('invalid-argument', `option --prefix: got ${inert(prefix)}, want a repository`, {
      subject: '--prefix',
    });
  }
  const openers = await Promise.all(destinations.map((spec) => openerOf(spec, request.pid)));
  return syncStore(
    { ...rest, destinations: openers, placement: { prefix, map: map.map(parseMapping) } },
    context,
  );
}

async function openerOf(spec: DestinationSpec, pid: number): Promise<OpenDestination> {
  const { openStaticDirectory } = await import('../../core/publish/static-directory.ts');
  return async (context) => openStaticDirectory({ directory: spec.directory, pid }, context);
}
