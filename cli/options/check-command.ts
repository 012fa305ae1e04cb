/** The program that is asked about every image before it is let in. */
import type { CheckCommand } from '../../core/admission/check-command.ts';
import { inert, SealiftError } from '../../core/errors.ts';
import { programEnvironment } from '../../core/programs.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';
import { endGroup } from './end-group.ts';
import { temporaryDirectory } from './source.ts';
import { parseDuration } from './values.ts';

export const checkCommandOptions = {
  'check-command': {
    kind: 'text',
    value: 'CMD',
    describe:
      'ask this program about each image, as an OCI layout, before it is let in; any exit code but 0 refuses the image. No shell: CMD is split at blanks; {} stands for the directory, which is otherwise the last argument',
  },
  'check-timeout': {
    kind: 'text',
    value: 'TIME',
    describe: 'how long the program may take for one image, such as 30m (default 1h)',
  },
  tmpdir: {
    kind: 'text',
    value: 'DIR',
    describe:
      'where each image in turn is written out for the program when no store has it (default: TMPDIR or /tmp)',
  },
} as const satisfies OptionGroup;

const DEFAULT_TIMEOUT = '1h';

export function checkCommandFrom({ args, env, cwd }: Runtime): CheckCommand | undefined {
  const text = args.text('check-command');
  const timeout = args.text('check-timeout');
  if (text === undefined) {
    if (timeout === undefined) return undefined;
    throw new SealiftError('invalid-argument', '--check-timeout goes with --check-command', {
      subject: '--check-timeout',
    });
  }
  const [program, ...more] = text.split(/\s+/).filter((word) => word !== '');
  if (program === undefined || /["'`$|;&<>]/.test(text)) {
    throw new SealiftError('invalid-argument', 'no shell reads the command: no quotes, pipes or variables', {
      subject: '--check-command',
      got: inert(text),
      hint: 'put them into a script, and give its path',
    });
  }
  return {
    command: [program, ...more],
    environment: programEnvironment(env),
    temporary: temporaryDirectory(args, env, cwd),
    timeoutMs: parseDuration(timeout ?? DEFAULT_TIMEOUT, '--check-timeout'),
    kill: endGroup,
  };
}
