import { readFileSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Args, OptionGroup } from '../args.ts';

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

/** Options of commands that may have to write an archive out before they can read it. */
export const archiveOptions = {
  tmpdir: {
    kind: 'text',
    value: 'DIR',
    describe: 'where compressed archives and those of engines are written out (default: TMPDIR or /tmp)',
  },
} as const satisfies OptionGroup;

/** The directory for archives: option before environment before default. */
export function temporaryDirectory(
  args: Pick<Args, 'text'>,
  env: Readonly<Record<string, string | undefined>>,
  cwd: string,
): string {
  const set = env['TMPDIR'];
  return path.resolve(cwd, args.text('tmpdir') ?? (set === undefined || set === '' ? os.tmpdir() : set));
}

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
