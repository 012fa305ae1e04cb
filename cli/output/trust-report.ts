/** Results of trust operations as text. Every text from metadata goes through `inert`. */
import { inert } from '../../core/errors.ts';
import type {
  AuditReport,
  ClockReport,
  DelegationListing,
  HeldKey,
  KeyListing,
  MissingSignatures,
  Pending,
  PublishedRequest,
  RefreshedKey,
  RequestSummary,
  RotateResult,
  StagedRoles,
  TrustListing,
  WithdrawResult,
  WitnessResult,
} from '../../core/trust-ops/index.ts';
import type { TextView } from '../command.ts';
import { formatDistance, formatTime, table } from './format.ts';

const join = (...parts: readonly (string | readonly string[] | undefined)[]): string =>
  parts
    .flatMap((part) => (part === undefined ? [] : part))
    .map((line) => line.trimEnd())
    .join('\n');

function roleRows(staged: Pick<StagedRoles, 'roles'>, { now }: TextView): readonly string[] {
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

/** Everything is signed, and waits for the next bundle. */
export function stagedText(result: StagedRoles, view: TextView): string {
  const { style } = view;
  return join(
    `${style.pass} ${style.good('signed')}  ${style.bold(inert(result.name))}`,
    roleRows(result, view),
    nextLines(view),
  );
}

/** What a rotation leaves behind. */
function goneLines({ retired, revoked }: Pick<RotateResult, 'retired' | 'revoked'>): readonly string[] {
  return [
    ...retired.map((file) => `  the old secret key lies in ${inert(file, 4096)}`),
    ...revoked.map((fingerprint) => `  the certificate ${fingerprint} says now that it is revoked`),
  ];
}

/** A request that everybody has signed. */
export function publishedText(result: PublishedRequest, view: TextView): string {
  const { style } = view;
  return join(
    `${style.pass} ${style.good('signed')}  ${style.bold(inert(result.name))}`,
    roleRows(result, view),
    goneLines(result),
    nextLines(view),
  );
}

function missingLines(missing: readonly MissingSignatures[], { style }: TextView): readonly string[] {
  return missing.map(
    ({ role, have, want, by }) =>
      `${style.attention} ${inert(role)} has ${have} of ${want} signatures; missing: ${by.join(', ')}`,
  );
}

/** What was witnessed, and how badly it needed it. */
export function witnessText(result: WitnessResult, view: TextView): string {
  const rows = result.witnessed.map(({ role, images, withdrawn, counted, threshold }) => [
    inert(role),
    `${images} image${images === 1 ? '' : 's'}${withdrawn > 0 ? `, ${withdrawn} withdrawn` : ''}`,
    `${counted} of ${threshold} signature${threshold === 1 ? '' : 's'} counted`,
  ]);
  return join(
    view.style.bold('Unchanged, and vouched for anew'),
    table(rows, '  '),
    pendingText(result, view),
  );
}

/** Staged, or written to a request. */
export function pendingText(result: Pending, view: TextView, publishOptions = ''): string {
  if (result.request === undefined) return stagedText(result, view);
  const { style } = view;
  const file = inert(result.request, 4096);
  return join(
    `${style.pass} ${style.good('written')}  ${style.bold(file)}`,
    roleRows(result, view),
    missingLines(result.missing, view),
    '',
    style.bold('Next'),
    ...(result.missing.length === 0
      ? []
      : ['  each holder, on their own machine:', `    sealift trust sign ${file} --key FILE`]),
    '  where the bundles are made:',
    `    sealift trust publish ${file}${publishOptions}`,
  );
}

export function addText(
  result: Pending & { readonly names: readonly { readonly name: string; readonly digest: string }[] },
  view: TextView,
): string {
  return join(
    result.names.flatMap(({ name, digest }) => [
      view.style.bold(inert(name)),
      `    ${view.style.dim(digest)}`,
    ]),
    pendingText(result, view),
  );
}

/** A request in words. */
export function requestText(summary: RequestSummary, view: TextView): string {
  const { style } = view;
  return join(
    `${style.bold(inert(summary.collectionName))}  ${summary.collectionId}`,
    summary.compared
      ? '  differences from the copy of the collection that is here:'
      : '  there is no copy of the collection to compare with; this is all it says:',
    summary.files.flatMap(({ role, version, expires, statements }) => [
      style.bold(`${inert(role)}, version ${version}, until ${expires}`),
      ...(statements.length === 0 ? ['  nothing but a later expiry'] : statements.map((line) => `  ${line}`)),
    ]),
    summary.added.length === 0
      ? undefined
      : `${style.pass} ${style.good('signed')}  ${summary.added.map((role) => inert(role)).join(', ')}`,
    missingLines(summary.missing, view),
    summary.added.length > 0 && summary.missing.length === 0
      ? `  all signatures are there; where the bundles are made: sealift trust publish ${inert(summary.request, 4096)}`
      : undefined,
  );
}

export function keysText(listing: KeyListing, { style, now }: TextView): string {
  return join(
    listing.keys.flatMap(({ keyId, type, fingerprint, userId, expires, roles, file, heldByGpg }) => [
      `${style.bold(fingerprint ?? keyId)}  ${inert(type)}${userId === undefined ? '' : `  ${inert(userId)}`}`,
      `    signs ${roles.map((role) => inert(role)).join(', ')}`,
      `    ${heldByGpg ? 'secret half held by gpg' : file === undefined ? 'secret half elsewhere' : `secret half ${inert(file, 4096)}`}`,
      ...(expires === undefined
        ? []
        : [`    expires ${formatTime(expires)} (${formatDistance(expires, now)})`]),
    ]),
    listing.unused.map((file) => `${style.skip} signs nothing: ${inert(file, 4096)}`),
  );
}

export function refreshedText(key: RefreshedKey, { style, now }: TextView): string {
  const until =
    key.expires === undefined
      ? 'never expires'
      : `expires ${formatTime(key.expires)} (${formatDistance(key.expires, now)})`;
  return join(
    key.changed
      ? `${style.pass} ${style.good('taken in')}  the certificate of ${key.fingerprint}  ${inert(key.userId)}`
      : `${style.skip} the collection has this certificate of ${key.fingerprint} already`,
    `    ${until}`,
    key.changed ? '  the next bundle carries it' : undefined,
  );
}

export function heldKeyText(done: string, key: HeldKey, { style }: TextView): string {
  return join(
    `${style.pass} ${style.good(done)}  ${inert(key.type)} ${key.fingerprint ?? key.keyId}`,
    `  ${inert(key.file, 4096)}`,
  );
}

export function delegationsText(listing: DelegationListing, { style }: TextView): string {
  const [head, ...body] = table([
    ['ROLE', 'PREFIX', 'SIGNED BY', 'NAMES', 'DELEGATED BY'],
    ...listing.delegations.map(({ role, prefix, threshold, keys, images, delegator }) => [
      inert(role),
      prefix === '' ? 'all others' : inert(prefix),
      `${threshold} of ${keys.length}`,
      String(images),
      inert(delegator),
    ]),
  ]);
  const open = listing.delegations.filter(({ role, carrierCanSign }) => role !== 'images' && carrierCanSign);
  return join(
    style.bold(head ?? ''),
    body,
    open.map(
      ({ role }) =>
        `${style.attention} the key that signs exports also holds ${inert(role)}, the role above it or the root: whoever has it can sign these names, or take them over`,
    ),
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
    result.request === undefined
      ? [...nextLines(view), '  it comes back only when the name is exported again.']
      : pendingText(result, view),
  );
}

export function rotateText(result: RotateResult, view: TextView, stolen = false): string {
  const { style } = view;
  const { newKey } = result;
  const made = `${style.pass} ${style.good('new key')}  ${inert(newKey.type)} ${newKey.fingerprint ?? newKey.keyId}`;
  if (result.request !== undefined) {
    return join(
      made,
      '  it signs nothing until the request is published; the old key stays in use',
      pendingText(result, view, stolen ? ' --stolen' : ''),
    );
  }
  return join(
    made,
    roleRows(result, view),
    goneLines(result),
    `  root: version ${result.rootVersion}; whoever pinned an earlier one follows by themselves`,
    nextLines(view),
    recoveryLines(result, view),
  );
}

/** What is left to do after the recovery key was out of its safe. */
function recoveryLines(result: RotateResult, { style }: TextView): readonly string[] {
  if (!result.byRecoveryKey) return [];
  return [
    '',
    style.bold('After the recovery key was used'),
    ...(result.revoked.length > 0
      ? [
          '  bring that bundle at once: until a gate has seen it, bundles of the thief are as good as yours there',
        ]
      : []),
    '  on the sealed side, import it, and see that sealift trust status shows this root:',
    `    version ${result.rootVersion}, ${result.rootFingerprint}`,
    '  look through what was signed meanwhile: sealift trust list, and on the sealed side sealift trust audit',
    '  put the recovery key back on its medium, away from this machine; it signs the next root too',
    '  if others may have read it, replace it as well:',
    '    sealift trust key generate',
    '    sealift trust key add --role root NEW --replace RECOVERY-KEY',
  ];
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
