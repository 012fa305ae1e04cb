/** Results of trust operations as text. Every text from metadata goes through `inert`. */
import { inert } from '../../core/errors.ts';
import type {
  AuditReport,
  ClockReport,
  RotateResult,
  StagedRoles,
  TrustListing,
  WithdrawResult,
} from '../../core/trust-ops/index.ts';
import type { TextView } from '../command.ts';
import { formatDistance, formatTime, table } from './format.ts';

const join = (...parts: readonly (string | readonly string[] | undefined)[]): string =>
  parts
    .flatMap((part) => (part === undefined ? [] : part))
    .map((line) => line.trimEnd())
    .join('\n');

function roleRows(staged: StagedRoles, { now }: TextView): readonly string[] {
  return table(
    staged.roles.map(({ role, version, expires }) => [
      inert(role),
      `version ${version}`,
      `expires ${formatTime(expires)} (${formatDistance(expires, now)})`,
    ]),
    '  ',
  );
}

function nextLines(view: TextView): readonly string[] {
  return [
    '',
    view.style.bold('Next'),
    '  it travels with the next bundle; one of metadata only is enough:',
    '    sealift export --metadata-only --output renewal.tar',
  ];
}

export function renewText(result: StagedRoles, view: TextView): string {
  const { style } = view;
  return join(
    `${style.pass} ${style.good('signed')}  ${style.bold(inert(result.name))}`,
    roleRows(result, view),
    nextLines(view),
  );
}

export function withdrawText(result: WithdrawResult, view: TextView): string {
  const { style } = view;
  return join(
    result.withdrawn.flatMap(({ name, digest, role, reason }) => [
      `${style.attention} ${style.warn('withdrawn')}  ${style.bold(inert(name))}`,
      `    ${style.dim(digest)}`,
      `    by role ${inert(role)}: ${inert(reason, 1000)}`,
    ]),
    nextLines(view),
    '  it comes back only when the name is exported again.',
  );
}

export function rotateText(result: RotateResult, view: TextView): string {
  const { style } = view;
  const { newKey } = result;
  return join(
    `${style.pass} ${style.good('new key')}  ${inert(newKey.type)} ${newKey.fingerprint ?? newKey.keyId}`,
    roleRows(result, view),
    ...result.retired.map((file) => `  the old secret key lies in ${inert(file, 4096)}`),
    ...result.revoked.map((fingerprint) => `  the certificate ${fingerprint} says now that it is revoked`),
    `  root: version ${result.rootVersion}; whoever pinned an earlier one follows by themselves`,
    nextLines(view),
  );
}

export function namesText(listing: TrustListing, { style }: TextView): string {
  const rows = listing.images.map(({ name, digest, size, role }) => [
    inert(name),
    digest,
    String(size),
    inert(role),
  ]);
  const [head, ...body] = table([['NAME', 'DIGEST', 'SIZE (BYTES)', 'ROLE'], ...rows]);
  return join(
    listing.images.length === 0 ? 'No names.' : [style.bold(head ?? ''), ...body],
    listing.withdrawn.map(
      ({ name, reason, at }) =>
        `${style.attention} withdrawn ${inert(name)}: ${inert(reason, 1000)} (${formatTime(at)})`,
    ),
    listing.staged
      ? `${style.attention} something is signed that no bundle has yet: sealift export takes it along`
      : undefined,
  );
}

export function auditText(report: AuditReport, { style }: TextView): string {
  return join(
    report.shown.map(({ seq, at, actor, event, fields }) =>
      inert(`${seq}  ${at}  ${actor}  ${event}  ${JSON.stringify(fields)}`, 2000),
    ),
    report.problems.map(
      ({ line, problem }) => `${style.fail} ${style.bad(`line ${line}`)}: ${inert(problem)}`,
    ),
    report.damaged.map((line) => `${style.attention} ${inert(line)}`),
    report.whole
      ? `${style.pass} ${style.good('whole')}  ${report.entries} entries, head ${report.head}`
      : `${style.fail} ${style.bad('broken')}  ${report.entries} entries, head ${report.head}`,
    report.whole
      ? '  lines cut off its end leave a whole chain: compare the head with one written down elsewhere (--head)'
      : undefined,
  );
}

export function clockText(report: ClockReport, { style }: TextView): string {
  return join(
    `this host  ${formatTime(report.now)}`,
    report.collections.flatMap(({ id, name, floor, time, reset }) => [
      `${style.bold(inert(name))}  ${id}`,
      reset
        ? `  ${style.attention} the floor was cleared; the audit log says so`
        : floor === undefined
          ? '  no floor yet'
          : `  floor ${formatTime(floor)}, judged by ${formatTime(time)}`,
    ]),
  );
}
