/** Volumes as text. */
import path from 'node:path';
import { volumeName } from '../../core/bundle/volumes/names.ts';
import { inert } from '../../core/errors.ts';
import type { JoinResult, SplitResult, VolumeSummary } from '../../core/results.ts';
import type { TextView } from '../command.ts';
import { formatSize, plural, shellQuote, table } from './format.ts';

/** A line for each volume. */
export function volumeRows(volumes: readonly VolumeSummary[]): readonly string[] {
  return table(
    volumes.map(({ path: file, size, sha256 }) => [
      inert(path.basename(file)),
      formatSize(size),
      `sha256 ${sha256}`,
    ]),
    '  ',
  );
}

export function splitText(result: SplitResult, { style }: TextView): string {
  const { volumes, total, directory } = result;
  const some =
    volumes.length === total ? plural(total, 'volume') : `${volumes.length} of ${plural(total, 'volume')}`;
  const name = path.basename(volumes[0]?.path ?? '').replace(/\.\d{3}$/, '');
  return [
    `${style.pass} ${style.good('split')}  into ${some}  ${inert(directory, 4096)}`,
    ...volumeRows(volumes),
    '',
    style.bold('Next'),
    '  on the other side, from any of them:',
    `    sealift import ${shellQuote(inert(path.join(directory, volumeName(name, 1)), 4096))}`,
    '  or put together with stock tools:',
    `    cat ${inert(name)}.??? > ${inert(name)}`,
  ].join('\n');
}

export function joinText({ output, size, sha256 }: JoinResult, { style }: TextView): string {
  return [
    `${style.pass} ${style.good('joined')}  ${inert(output, 4096)}`,
    ...table(
      [
        ['size', formatSize(size)],
        ['sha256', sha256],
      ],
      '  ',
    ),
    '',
    style.bold('Next'),
    '  signatures were not looked at:',
    `    sealift verify ${shellQuote(inert(output, 4096))}`,
  ].join('\n');
}
