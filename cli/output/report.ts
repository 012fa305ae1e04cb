/** Results as text. Every text that comes from a bundle, an image or a registry goes through `inert`. */
import path from 'node:path';
import { volumeName } from '../../core/bundle/volumes/names.ts';
import { inert } from '../../core/errors.ts';
import type {
  BaseSummary,
  CheckResult,
  CollectionSummary,
  EvidenceSummary,
  ExportResult,
  GarbageResult,
  ImageSummary,
  ImageVerdict,
  ImportResult,
  InspectResult,
  KeySummary,
  PinResult,
  RehearsalSummary,
  RoleSummary,
  TrustStatus,
  Verdict,
  VerifyResult,
  Weakening,
} from '../../core/results.ts';
import type { StoreListing } from '../../core/store/store.ts';
import type { RootSummary } from '../../core/trust-admin.ts';
import type { TextView } from '../command.ts';
import { carrierLines } from './carrier-text.ts';
import { omittedNames } from './evidence-kinds.ts';
import {
  formatDistance,
  formatSize,
  formatTime,
  groupedFingerprint,
  plural,
  shellQuote,
  shortDigest,
  table,
} from './format.ts';
import { destinationLines } from './publish-text.ts';
import { statusLine } from './status.ts';
import type { Style } from './style.ts';
import { volumeRows } from './volumes.ts';

const lines = (...parts: readonly (string | readonly string[] | undefined)[]): string =>
  parts
    .flatMap((part) => (part === undefined ? [] : part))
    .map((line) => line.trimEnd())
    .join('\n');

/** `  label        value`, one pair a line. */
function facts(pairs: readonly (readonly [string, string] | undefined)[]): readonly string[] {
  return table(
    pairs.flatMap((pair) => (pair === undefined ? [] : [[...pair]])),
    '  ',
  );
}

function heading(style: Style, text: string): readonly string[] {
  return ['', style.bold(text)];
}

function scopesText(scopes: readonly string[]): string {
  if (scopes.length === 0 || scopes.includes('*')) return 'every name';
  return scopes.map((scope) => inert(scope)).join(', ');
}

function expiry(moment: string, now: Date): string {
  const past = new Date(moment).getTime() <= now.getTime();
  return `${formatTime(moment)} (${past ? 'expired ' : ''}${formatDistance(moment, now)})`;
}

function command(...words: readonly string[]): string {
  return `    ${words.map((word) => shellQuote(word)).join(' ')}`;
}

function collectionFacts(collection: CollectionSummary, now: Date): readonly (readonly [string, string])[] {
  return [
    ['collection', `${inert(collection.name)}, version ${collection.version}`],
    ['id', collection.id],
    ['made', formatTime(collection.created)],
    ['expires', expiry(collection.expires, now)],
    ['root', `version ${collection.rootVersion}, fingerprint ${collection.rootFingerprint}`],
  ];
}

function roleRows(roles: readonly RoleSummary[], now: Date): readonly string[] {
  const rows = roles.map((role) => [
    inert(role.role),
    `version ${role.version}`,
    `${role.threshold} of ${plural(role.keys.length, 'key')}`,
    expiry(role.expires, now),
  ]);
  return table(rows, '  ');
}

function keyText(key: KeySummary): string {
  const who = key.userId === undefined ? '' : `  ${inert(key.userId)}`;
  return `${inert(key.type)} ${inert(key.fingerprint ?? key.keyId)}${who}`;
}

function keyRows(roles: readonly RoleSummary[]): readonly string[] {
  const seen = new Map<string, string[]>();
  for (const role of roles) {
    for (const key of role.keys) {
      const row = seen.get(key.keyId);
      if (row !== undefined) row[1] = `${row[1]}, ${inert(role.role)}`;
      else {
        seen.set(key.keyId, [keyText(key), inert(role.role)]);
      }
    }
  }
  return [...seen.values()].flatMap(([key, names]) => [`  ${key}`, `      signs ${names}`]);
}

function platformsOf(image: { readonly platforms: readonly string[] }): string {
  return image.platforms.length === 0
    ? 'no platform'
    : image.platforms.map((platform) => inert(platform)).join(', ');
}

function evidenceLines(image: ImageSummary): readonly string[] {
  const carried = image.evidence.filter(({ state }) => state === 'carried');
  return [
    ...image.evidence.flatMap(({ state, format, reason }) =>
      state === 'carried'
        ? []
        : [`evidence ${state}: ${inert(format ?? 'signature')}: ${inert(reason ?? '')}`],
    ),
    ...carriedLines(carried),
    ...image.evidence.flatMap(({ contentTrust, subject }) =>
      contentTrust === undefined ? [] : contentTrustLines(contentTrust, subject),
    ),
  ];
}

function carriedLines(evidence: ImageSummary['evidence']): readonly string[] {
  if (evidence.length === 0) return [];
  const types = new Map<string, number>();
  for (const { artifactType } of evidence) {
    const type = artifactType === '' ? 'untyped' : inert(artifactType.replace(/^application\//, ''));
    types.set(type, (types.get(type) ?? 0) + 1);
  }
  return [
    `${plural(evidence.length, 'piece')} of evidence, carried as ${evidence.length === 1 ? 'it is' : 'they are'}, not judged:`,
    ...[...types].map(([type, count]) => `  ${count} x ${type}`),
  ];
}

/** What `inspect` read in notary's files. */
function contentTrustLines(
  { gun, tags, expires, expiresFirst }: NonNullable<EvidenceSummary['contentTrust']>,
  subject: string,
): readonly string[] {
  return [
    `Docker Content Trust of ${inert(gun)} claims (no signature was looked at):`,
    ...tags.map(({ role, tag, digest }) => {
      const what = digest === subject ? 'this image' : `another image, ${digest ?? 'without a sha256'}`;
      return `  ${inert(tag)} is ${what}, says ${inert(role)}`;
    }),
    `  it ends ${formatTime(expires)} (${inert(expiresFirst)})`,
  ];
}

function omittedOf(image: ImageSummary): string | undefined {
  if (image.omitted.length === 0) return undefined;
  const names = omittedNames(image);
  const shown =
    names.length > 6 ? `${names.slice(0, 6).join(', ')} and ${names.length - 6} more` : names.join(', ');
  return `left out: ${shown}`;
}

const POLICY_WORDS: Readonly<Record<RehearsalSummary['policy'], string>> = {
  none: 'none: the gate has none, and none was given',
  same: "the gate's own",
  other: 'another than the gate has: its verdict may be another one',
  'not-given': 'not asked: the gate has one that was not given, and may refuse what is accepted here',
};

function rehearsalFacts(rehearsal: RehearsalSummary | undefined): readonly (readonly [string, string])[] {
  if (rehearsal === undefined) return [];
  const { accepted, unchanged } = rehearsal;
  return [
    [
      'judged as',
      `gate ${rehearsal.gate}, by its receipt ${rehearsal.number} of ${formatTime(rehearsal.created)}`,
    ],
    [
      'there',
      `${accepted === undefined ? 'nothing accepted yet' : `version ${accepted} accepted`}, ${plural(unchanged.length, 'image')} of this bundle in the store already`,
    ],
    ['policy', POLICY_WORDS[rehearsal.policy]],
  ];
}

/** Of a delta: what it leaves out. */
function baseFact(base: BaseSummary | undefined): readonly [string, string] | undefined {
  if (base === undefined) return undefined;
  return [
    'delta',
    `on version ${base.version}: ${plural(base.blobs, 'layer')}, ${formatSize(base.bytes)}, left out because the other side holds them`,
  ];
}

function imageLines(image: ImageSummary, style: Style, indent: string): readonly string[] {
  const omitted = omittedOf(image);
  return [
    style.dim(image.digest),
    `${platformsOf(image)}, ${formatSize(image.size)}`,
    ...evidenceLines(image),
    ...(omitted === undefined ? [] : [omitted]),
    ...(image.digestMadeHere
      ? [
          'digest made here: the source knew none, so signatures of the image in a registry cannot apply to it',
        ]
      : []),
  ].map((line) => indent + line);
}

const VERDICTS: Readonly<Record<Verdict, 'pass' | 'attention' | 'fail'>> = {
  verified: 'pass',
  carried: 'attention',
  unsigned: 'fail',
  invalid: 'fail',
  expired: 'fail',
};

function verdictLines(image: ImageVerdict, style: Style): readonly string[] {
  const kind = VERDICTS[image.verdict];
  const paint = kind === 'pass' ? style.good : kind === 'fail' ? style.bad : style.warn;
  const word = kind === 'fail' ? `refused, ${image.verdict}` : image.verdict;
  const reason = image.reason === '' ? [] : [`    ${inert(image.reason)}`];
  return [
    `${style[kind]} ${paint(word)}  ${style.bold(inert(image.name))}`,
    ...reason,
    ...(image.requirement === undefined
      ? []
      : [
          `    ${style.dim(`policy: ${inert(image.policyScope ?? '')}; decided by ${inert(image.requirement)}`)}`,
        ]),
    ...imageLines(image, style, '    '),
  ];
}

function weakenedLines(weakened: readonly Weakening[], style: Style): readonly string[] {
  if (weakened.length === 0) return [];
  return [
    ...heading(style, 'Weakened checks'),
    ...weakened.map(({ option, effect }) => `${style.attention} ${inert(option)}: ${inert(effect)}`),
  ];
}

function checkLines(checks: readonly CheckResult[], view: TextView): readonly string[] {
  if (view.checksShown || checks.length === 0) return [];
  return [
    ...heading(view.style, 'Checks'),
    ...checks.map((check) => statusLine({ type: 'check', ...check }, view.style)),
  ];
}

export function exportText(result: ExportResult, view: TextView): string {
  const { style, now } = view;
  const { collection } = result;
  const toStream = result.output === '-';
  // There the medium is mounted somewhere else; the name of the file is what stays.
  const name = toStream ? 'BUNDLE' : path.basename(result.output);
  const { volumes } = result;
  const encrypted = result.encryptedTo !== undefined;
  const file = volumes ? `${volumeName(name, 1)}${encrypted ? '.gpg' : ''}` : name;
  const reused = result.written.resumedBytes;
  return lines(
    `${style.pass} ${style.good('written')}  ${style.bold(toStream ? 'to standard output' : inert(result.output, 4096))}  ${formatSize(result.size)}`,
    facts([
      ['collection', `${inert(collection.name)}, version ${collection.version}`],
      ['made', formatTime(collection.created)],
      ['expires', expiry(collection.expires, now)],
      ['blobs', `${result.blobs.count}, ${formatSize(result.blobs.bytes)}`],
      baseFact(result.base),
      ...(result.encryptedTo ?? []).map((fingerprint) => ['encrypted to', fingerprint] as const),
      result.resumed
        ? [
            'resumed',
            `${formatSize(reused)} were there from an earlier run, ${formatSize(result.written.bytes)} written now`,
          ]
        : undefined,
      result.sha256 === undefined ? undefined : ['sha256', result.sha256],
    ]),
    volumes === undefined
      ? undefined
      : [
          ...heading(
            style,
            volumes.written.length === volumes.total
              ? plural(volumes.total, 'volume')
              : `${volumes.written.length} of ${plural(volumes.total, 'volume')}, written now`,
          ),
          ...volumeRows(volumes.written),
        ],
    heading(style, plural(result.images.length, 'image')),
    result.images.flatMap((image) => [
      `  ${style.bold(inert(image.name))}`,
      ...imageLines(image, style, '    '),
    ]),
    weakenedLines(result.weakened, style),
    heading(style, 'On the sealed side'),
    '  the first time, pin the root; read the fingerprint out over the phone, it must not come from the stick:',
    groupedFingerprint(collection.rootFingerprint).map((group) => `    ${style.bold(group)}`),
    command(
      ...['sealift', 'trust', 'pin', file, '--fingerprint', collection.rootFingerprint],
      ...(encrypted ? ['--decrypt-key', 'KEY'] : []),
    ),
    '  every time:',
    command('sealift', 'import', file, ...(encrypted ? ['--decrypt-key', 'KEY'] : [])),
    '  by hand, with stock tools; README.txt in the bundle has the commands:',
    readmeCommand(name, file, volumes !== undefined, encrypted),
  );
}

function readmeCommand(name: string, file: string, cut: boolean, encrypted: boolean): string {
  const unpack = 'tar -xOf - README.txt';
  if (encrypted && cut)
    return `    for volume in ${shellQuote(inert(name))}.???.gpg; do gpg --decrypt "$volume"; done | ${unpack}`;
  if (encrypted) return `    gpg --decrypt ${shellQuote(inert(file))} | ${unpack}`;
  return cut ? `    cat ${inert(name)}.??? | ${unpack}` : command('tar', '-xOf', file, 'README.txt');
}

function withdrawnLines(result: VerifyResult, style: Style): readonly string[] {
  const gone = result.withdrawn.map(
    ({ name, reason, at }) =>
      `${style.attention} withdrawn ${inert(name)}: ${inert(reason)} (${formatTime(at)})`,
  );
  const vanished = result.vanished.map(
    (name) => `${style.attention} no longer listed, never withdrawn, kept: ${inert(name)}`,
  );
  return gone.length + vanished.length === 0
    ? []
    : [...heading(style, 'Withdrawn and vanished'), ...gone, ...vanished];
}

function verifiedLines(result: VerifyResult, view: TextView): readonly string[] {
  const { style, now } = view;
  return [
    ...facts([
      ...collectionFacts(result.collection, now),
      baseFact(result.base),
      ...rehearsalFacts(result.rehearsal),
    ]),
    ...checkLines(result.checks, view),
    ...heading(style, plural(result.images.length, 'image')),
    ...result.images.flatMap((image) => verdictLines(image, style)),
    ...withdrawnLines(result, style),
    ...carrierLines(result.collection.carrier, style, true),
    ...weakenedLines(result.weakened, style),
    '',
    style.dim(policyText(result)),
  ];
}

/** By which policy was judged; that there is none is said, too. */
export function policyText({ policy, rehearsal }: Pick<VerifyResult, 'policy' | 'rehearsal'>): string {
  if (rehearsal?.policy === 'not-given') return "The gate's policy was not applied; name it with --policy.";
  return policy === 'none'
    ? 'No policy is set: the signatures of the collection decide, and no evidence is demanded.'
    : `Judged by the policy ${policy.from === 'gate' ? 'of the gate' : 'that was named'}, sha256 ${policy.sha256}.`;
}

/** Images that must not be let in; `admitted` only tells whether this run let one in. */
export function refusedImages(result: VerifyResult): readonly ImageVerdict[] {
  return result.images.filter((image) => VERDICTS[image.verdict] === 'fail');
}

function bundleName(bundle: string): string {
  return bundle === '-' ? 'standard input' : inert(bundle, 4096);
}

/** @param opening options that open the bundle, for the next command */
export function verifyText(result: VerifyResult, view: TextView, opening: readonly string[] = []): string {
  const { style } = view;
  const refused = refusedImages(result).length;
  const failed = result.checks.some((check) => check.status === 'failed');
  const verdict =
    failed || refused > 0
      ? `${style.fail} ${style.bad('refused')}`
      : `${style.pass} ${style.good('verified')}`;
  return lines(
    `${verdict}  ${style.bold(bundleName(result.bundle))}  ${formatSize(result.size)}`,
    verifiedLines(result, view),
    result.deep
      ? undefined
      : style.dim('Layers were not read (--no-deep); an import reads and checks every byte all the same.'),
    failed || refused > 0 || result.bundle === '-' || result.rehearsal !== undefined
      ? undefined
      : [...heading(style, 'Next'), command('sealift', 'import', result.bundle, ...opening)],
  );
}

/** What is shown before the question whether to import. */
export function confirmationText(result: VerifyResult, view: TextView): string {
  return lines(
    `${view.style.bold(bundleName(result.bundle))}  ${formatSize(result.size)}`,
    verifiedLines(result, view),
    '',
  );
}

export function importText(result: ImportResult, view: TextView): string {
  const { style } = view;
  const refused = refusedImages(result);
  const name = (word: string) => (image: string) => `  ${word}  ${inert(image)}`;
  const known = new Set([...result.imported, ...result.unchanged]);
  const others = result.images.filter((image) => image.admitted && !known.has(image.name)).length;
  return lines(
    `${refused.length === 0 ? `${style.pass} ${style.good('imported')}` : `${style.attention} ${style.warn('partly imported')}`}  ${style.bold(bundleName(result.bundle))} into ${style.bold(inert(importedInto(result), 4096))}`,
    facts([
      ['collection', `${inert(result.collection.name)}, version ${result.collection.version}`],
      ['expires', expiry(result.collection.expires, view.now)],
      [
        'written',
        `${plural(result.written.blobs, 'blob')}, ${formatSize(result.written.bytes)}${
          result.written.reusedBytes === 0
            ? ''
            : `; ${formatSize(result.written.reusedBytes)} were there already`
        }`,
      ],
      result.code === undefined
        ? undefined
        : [
            'arrived',
            `${result.code}  (read it out to the other side: sealift export --since ${result.code} …)`,
          ],
      ...(result.media ?? []).map(
        ({ device, model, serial }) =>
          [
            'medium',
            [model ?? device, serial === undefined ? '' : `serial ${serial}`].filter(Boolean).join(', '),
          ] as const,
      ),
      ['audit log', `head ${result.auditHead}`],
    ]),
    checkLines(result.checks, view),
    heading(style, plural(result.imported.length + result.unchanged.length, 'image')),
    result.imported.map(name(style.good('imported '))),
    result.unchanged.map(name('unchanged')),
    result.removed.map(name(style.warn('removed, withdrawn'))),
    refused.map((image) => `  ${style.bad('refused  ')}  ${inert(image.name)}: ${inert(image.reason)}`),
    others > 0 ? `  ${plural(others, 'image')} of the bundle not asked for` : undefined,
    withdrawnLines(result, style),
    weakenedLines(result.weakened, style),
    (result.destinations ?? []).flatMap((one) => [
      ...heading(style, inert(one.location, 4096)),
      ...destinationLines(one, result.imported.length + result.unchanged.length, false, style),
      ...one.images.damaged.map(
        (image) =>
          `  ${style.fail} ${inert(image)}: a part of it is gone there, and this bundle does not carry it`,
      ),
    ]),
    result.store === '' ? undefined : nextWithStore(result, style),
  );
}

function importedInto({ store, destinations = [] }: ImportResult): string {
  return [...(store === '' ? [] : [store]), ...destinations.map(({ location }) => location)].join(', ');
}

function nextWithStore(result: ImportResult, style: Style): readonly string[] {
  const [name] = [...result.imported, ...result.unchanged];
  return [
    ...heading(style, 'Next'),
    '  let others pull from it:',
    command('sealift', 'serve', result.store),
    '  or read the store with any tool that knows OCI layouts:',
    ...(name === undefined ? [] : [command('skopeo', 'inspect', `oci:${result.store}:${name}`)]),
  ];
}

export function inspectText(result: InspectResult, view: TextView): string {
  const { style, now } = view;
  const { collection } = result;
  return lines(
    `${style.bold(inert(result.location, 4096))}  ${result.kind}`,
    result.verified
      ? undefined
      : `${style.attention} ${style.warn('not verified')}: this is what it claims; sealift verify tells what is true`,
    collection === undefined
      ? undefined
      : facts([...collectionFacts(collection, now), baseFact(result.base)]),
    collection === undefined || collection.roles.length === 0
      ? undefined
      : [
          ...heading(style, 'Roles'),
          ...roleRows(collection.roles, now),
          ...heading(style, 'Keys'),
          ...keyRows(collection.roles),
          ...carrierLines(collection.carrier, style),
        ],
    heading(style, plural(result.images.length, 'image')),
    result.images.flatMap((image) => [
      `  ${style.bold(inert(image.name))}`,
      ...imageLines(image, style, '    '),
    ]),
  );
}

export function initText(
  collection: CollectionSummary & {
    readonly directory: string;
    readonly recoveryFile: string;
    readonly samePassphrase: boolean;
  },
  view: TextView,
): string {
  const { style, now } = view;
  const rootExpiry = collection.roles.find((role) => role.role === 'root')?.expires ?? collection.expires;
  return lines(
    `${style.pass} ${style.good('made')}  the collection ${style.bold(inert(collection.name))}`,
    facts([
      ['directory', inert(collection.directory, 4096)],
      ['id', collection.id],
      ['root expires', expiry(rootExpiry, now)],
      ['recovery key', inert(collection.recoveryFile, 4096)],
    ]),
    collection.samePassphrase ? '  the recovery key has the same passphrase as the collection' : undefined,
    `${style.attention} ${style.warn('put the recovery key')} on another medium, away from this machine: with it a lost or stolen key is replaced`,
    heading(style, 'Fingerprint of the root'),
    '  what the sealed side pins; read it out over the phone, or hand it over on paper:',
    groupedFingerprint(collection.rootFingerprint).map((group) => `    ${style.bold(group)}`),
    heading(style, 'Next'),
    command('sealift', 'export', 'alpine:3.20', '--output', 'images.tar'),
  );
}

export function listText(listing: StoreListing, store: string, view: TextView): string {
  const { style, now } = view;
  const stale = listing.images.filter((image) => new Date(image.trustExpires).getTime() <= now.getTime());
  if (listing.images.length + listing.notAdmitted.length === 0) {
    return lines(`The store ${inert(store, 4096)} holds no images.`);
  }
  const rows = listing.images.map((image) => [
    inert(image.name),
    shortDigest(image.digest),
    formatSize(image.contentSize),
    image.platforms.length > 2 ? plural(image.platforms.length, 'platform') : platformsOf(image),
    formatTime(image.importedAt).slice(0, 10),
    stale.includes(image)
      ? `expired ${formatDistance(image.trustExpires, now)}`
      : formatDistance(image.trustExpires, now),
  ]);
  const [head, ...body] = table([
    ['NAME', 'DIGEST', 'SIZE', 'PLATFORMS', 'IMPORTED', 'TRUST EXPIRES'],
    ...rows,
  ]);
  return lines(
    listing.images.length === 0 ? undefined : [style.bold(head ?? ''), ...body],
    stale.length === 0
      ? undefined
      : [
          '',
          `${style.attention} ${style.warn('stale')}: the trust ${plural(stale.length, 'image')} came in on has expired; import a newer bundle`,
        ],
    listing.notAdmitted.length === 0
      ? undefined
      : [
          ...heading(style, 'Not let in by a gate'),
          ...listing.notAdmitted.map(
            ({ name, digest, reason }) =>
              `${style.fail} ${inert(name)}  ${shortDigest(inert(digest))}  ${inert(reason)}`,
          ),
        ],
  );
}

export function garbageText(result: GarbageResult, { style }: TextView): string {
  const what = `${plural(result.removedBlobs, 'blob')}, ${formatSize(result.removedBytes)}`;
  return lines(
    result.dryRun
      ? `${style.skip} would remove ${what}; ${plural(result.keptBlobs, 'blob')} are needed; nothing was changed (--dry-run)`
      : `${style.pass} ${style.good('removed')} ${what}; ${plural(result.keptBlobs, 'blob')} kept in ${inert(result.store, 4096)}`,
  );
}

/** @param opening as in verifyText() */
export function pinText(
  result: PinResult,
  source: string,
  { style }: TextView,
  opening: readonly string[] = [],
): string {
  return lines(
    result.alreadyPinned
      ? `${style.pass} was pinned already  the collection ${style.bold(inert(result.collectionName))}`
      : `${style.pass} ${style.good('pinned')}  the collection ${style.bold(inert(result.collectionName))}`,
    facts([
      ['id', result.collectionId],
      ['root', `version ${result.rootVersion}, fingerprint ${result.fingerprint}`],
      ['may sign', scopesText(result.scopes)],
      ['gate', inert(result.gate, 4096)],
    ]),
    heading(style, 'Next'),
    command('sealift', 'verify', source.endsWith('.json') ? 'BUNDLE' : source, ...opening),
  );
}

export function trustStatusText(status: TrustStatus, { style, now }: TextView): string {
  if (status.collections.length === 0) {
    return lines(
      `The gate ${inert(status.gate, 4096)} trusts no collection yet.`,
      heading(style, 'Next'),
      '  with the fingerprint that the other side read out:',
      '    sealift trust pin BUNDLE --fingerprint SHA256',
    );
  }
  return lines(
    status.collections.flatMap((collection) => {
      const state = collection.expired
        ? `${style.fail} ${style.bad('expired')}`
        : collection.version === undefined
          ? `${style.skip} nothing accepted yet`
          : `${style.pass} ${style.good('current')}`;
      return [
        `${state}  ${style.bold(inert(collection.name))}`,
        ...facts([
          ['id', collection.id],
          ['pinned', `${collection.pin}, ${formatTime(collection.pinnedAt)}`],
          ['root', `version ${collection.rootVersion}, fingerprint ${collection.rootFingerprint}`],
          ['may sign', scopesText(collection.scopes)],
          collection.version === undefined ? undefined : ['version', String(collection.version)],
          collection.expires === undefined ? undefined : ['expires', expiry(collection.expires, now)],
          collection.clockFloor === undefined
            ? undefined
            : ['clock floor', formatTime(collection.clockFloor)],
        ]),
        '',
      ];
    }),
    facts([
      ['gate', inert(status.gate, 4096)],
      ['audit log', `head ${status.auditHead}`],
    ]),
  );
}

export function rootText(root: RootSummary, { style, now }: TextView): string {
  const name = root.collectionName === '' ? 'a root file' : inert(root.collectionName);
  return lines(
    `${style.bold(name)}  root version ${root.rootVersion}`,
    facts([
      ['id', root.collectionId],
      ['fingerprint', root.fingerprint],
      ['expires', expiry(root.expires, now)],
      ['signed by', `${root.threshold} of ${plural(root.keys.length, 'key')}`],
    ]),
    root.keys.map((key) => `    ${keyText(key)}`),
    root.kind === 'collection'
      ? undefined
      : `${style.attention} ${style.warn('a claim')}: compare it with what the other side reads out`,
    heading(style, 'To read out'),
    groupedFingerprint(root.fingerprint).map((group) => `    ${style.bold(group)}`),
  );
}
