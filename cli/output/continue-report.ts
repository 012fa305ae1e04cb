/** A collection that goes on, in words. */
import { inert } from '../../core/errors.ts';
import type { ContinueResult } from '../../core/trust-ops/index.ts';
import type { TextView } from '../command.ts';
import { formatTime } from './format.ts';

export function continueText(result: ContinueResult, { style }: TextView): string {
  return [
    `${style.pass} ${style.good('continued')}  the collection ${style.bold(inert(result.name))}`,
    `  directory  ${inert(result.directory, 4096)}`,
    `  id         ${result.id}`,
    `  from       version ${result.version}, made ${formatTime(result.created)}, ${result.images} names`,
    `  next       version ${result.lastVersion + 1} at least`,
    ...result.keys.map(({ file }) => `  key        ${inert(file, 4096)}`),
    ...(result.expired
      ? [`${style.attention} that bundle has expired: roles may have to be renewed first`]
      : []),
    ...(result.version === result.lastVersion
      ? [
          `${style.attention} a gate that has seen more than version ${result.version} refuses what comes next: compare with sealift trust status there, and give --last-version N`,
        ]
      : []),
    ...(result.unsigned.length > 0
      ? [
          `${style.attention} too few keys are here for ${result.unsigned.map((role) => inert(role)).join(', ')}`,
          '  bring them: sealift trust key import FILE; or replace what is lost: sealift trust key rotate --role all --recovery-key FILE',
        ]
      : []),
    '',
    style.bold('Next'),
    ...(result.expired ? ['    sealift trust renew'] : []),
    '    sealift export --metadata-only --output renewal.tar',
  ].join('\n');
}
