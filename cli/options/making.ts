/** What every command that makes a bundle asks about it. */
import type { ExportOptions } from '../../core/workflow-options.ts';
import type { Args, OptionGroup } from '../args.ts';
import { parseDuration, parseMoment } from './values.ts';

const DEFAULT_LIFETIME = '90d';

export const makingOptions = {
  expires: {
    kind: 'text',
    value: 'TIME',
    describe: `how long the bundle can be imported, such as 30d or 12h (default ${DEFAULT_LIFETIME})`,
  },
  created: {
    kind: 'text',
    value: 'TIME',
    describe: 'the moment of making, such as 2026-11-23T12:00:00Z (default: now)',
  },
  'docker-archive': {
    kind: 'flag',
    describe: 'write manifest.json too, so that docker load and podman load read the file',
  },
  force: { kind: 'flag', describe: 'replace a file that is already there' },
} as const satisfies OptionGroup;

/** @throws SealiftError `invalid-argument` */
export function makingFrom(
  args: Args,
): Pick<ExportOptions, 'lifetime' | 'created' | 'dockerArchive' | 'force'> {
  const created = args.text('created');
  return {
    lifetime: parseDuration(args.text('expires') ?? DEFAULT_LIFETIME, '--expires'),
    created: created === undefined ? undefined : parseMoment(created, '--created'),
    dockerArchive: args.flag('docker-archive'),
    force: args.flag('force'),
  };
}
