import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { SinceSpec } from '../../core/workflow-options.ts';
import type { Runtime } from '../command.ts';

/** What `--since` starts from: `last`, a code, or a file; a file that has the form of a code is written with ./ before it. */
export async function sinceFrom({
  args,
  cwd,
}: Pick<Runtime, 'args' | 'cwd'>): Promise<SinceSpec | undefined> {
  const text = args.text('since');
  if (text === undefined) return undefined;
  if (args.flag('metadata-only')) {
    throw new SealiftError('invalid-argument', 'a bundle of metadata only has no layers to leave out', {
      subject: '--since',
      hint: 'leave --since out, or leave --metadata-only out',
    });
  }
  if (text === 'last') return { kind: 'last' };
  const { looksLikeCode, parseCode } = await import('../../core/delta/code.ts');
  if (looksLikeCode(text)) return { kind: 'code', code: parseCode(text).code };
  return { kind: 'file', path: path.resolve(cwd, text.startsWith('bundle:') ? text.slice(7) : text) };
}
