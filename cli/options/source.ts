import { readFileSync, statSync } from 'node:fs';
import { inert, SealiftError } from '../../core/errors.ts';
import type { OptionGroup } from '../args.ts';

/** Options of commands that read from registries. */
export const sourceOptions = {
  authfile: {
    kind: 'text',
    value: 'FILE',
    describe: 'registry credentials (default: those of podman, skopeo and docker)',
  },
  'ca-file': {
    kind: 'text',
    value: 'FILE',
    describe: 'certificates (PEM) that a registry may be signed by, beside those of the system',
  },
  'plain-http': { kind: 'flag', describe: 'registries are spoken to without TLS' },
  'insecure-skip-tls-verify': { kind: 'flag', describe: "registries' certificates are not checked" },
  'retry-times': {
    kind: 'text',
    value: 'N',
    describe: 'how often a failed request is tried again (default 5)',
  },
} as const satisfies OptionGroup;

const MOST_CA_BYTES = 4 * 1024 * 1024;

/** A PEM file the user named. */
export function readCaFile(file: string): Uint8Array {
  try {
    if (statSync(file).size > MOST_CA_BYTES) throw new Error(`larger than ${MOST_CA_BYTES} bytes`);
    const bytes = readFileSync(file);
    if (!bytes.includes('-----BEGIN CERTIFICATE-----')) throw new Error('it holds no PEM certificate');
    return bytes;
  } catch (error) {
    throw new SealiftError('invalid-argument', `cannot use the CA file: ${inert((error as Error).message)}`, {
      subject: inert(file),
      cause: error,
    });
  }
}
