/** What waits for the next bundle, in words. */
import { inert } from '../../core/errors.ts';
import type { NameLookup, ResetResult, StagedListing } from '../../core/trust-ops/index.ts';
import type { TextView } from '../command.ts';
import { formatDistance, formatTime } from './format.ts';

function roleLines(listing: StagedListing, { style, now }: TextView): readonly string[] {
  return listing.roles.flatMap(({ role, version, expires, statements }) => [
    `${style.bold(inert(role))}  version ${version}, expires ${formatTime(expires)} (${formatDistance(expires, now)})`,
    ...(statements.length === 0
      ? ['    renewed, nothing else']
      : statements.map((said) => `    ${inert(said, 4000)}`)),
  ]);
}

export function stagedListText(listing: StagedListing, view: TextView): string {
  if (!listing.staged) return `Nothing waits for a bundle of ${inert(listing.name)}.`;
  return [
    ...roleLines(listing, view),
    ...(listing.roles.length === 0 ? ['A renewed certificate waits; no role changes.'] : []),
    '',
    view.style.bold('Next'),
    '    sealift export --metadata-only --output changes.tar',
    '    sealift trust reset                                   throws it away',
  ].join('\n');
}

export function resetText(result: ResetResult, view: TextView): string {
  const { style } = view;
  if (!result.staged) return `${style.skip} nothing was waiting for a bundle of ${inert(result.name)}`;
  return [
    `${style.pass} ${style.good('thrown away')}  what waited for the next bundle of ${style.bold(inert(result.name))}`,
    ...roleLines(result, view),
    ...result.restored.map((file) => `  signs again: ${inert(file, 4096)}`),
  ].join('\n');
}

export function lookupText(found: NameLookup, { style }: TextView): string {
  return [
    style.bold(inert(found.name)),
    `  digest  ${found.digest}`,
    `  size    ${found.size} bytes`,
    `  type    ${inert(found.mediaType)}`,
    `  role    ${inert(found.role)}`,
    ...(found.staged ? [`${style.attention} no bundle says so yet: sealift export takes it along`] : []),
  ].join('\n');
}
