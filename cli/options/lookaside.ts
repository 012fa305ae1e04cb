import { existsSync } from 'node:fs';
import path from 'node:path';
import type { LookasideSettings } from '../../core/evidence/registries-d.ts';
import type { OptionGroup } from '../args.ts';

export const lookasideOptions = {
  'registries-d': {
    kind: 'text',
    value: 'DIRECTORY',
    describe: 'where it says in which lookaside signatures are (default: as podman has it)',
  },
} as const satisfies OptionGroup;

/** Where signatures lie beside registries: the directory given, or the usual ones of podman and skopeo. */
export async function lookasideFrom(directory: string | undefined, home: string): Promise<LookasideSettings> {
  const { readRegistriesD } = await import('../../core/evidence/lookaside.ts');
  const own = path.join(home, '.config/containers/registries.d');
  const found = directory ?? (existsSync(own) ? own : '/etc/containers/registries.d');
  return readRegistriesD(found, path.join(home, '.local/share/containers/sigstore'));
}
