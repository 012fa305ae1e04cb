/**
 * The catalog: one static page beside the tree. No script, nothing from elsewhere, every text escaped; the policy in its
 * head forbids what the page does not do, so that a text that slipped through could do nothing.
 */
import { createHash } from 'node:crypto';
import { inert } from '../errors.ts';
import { EVIDENCE_KINDS, evidenceKind, KIND_WORDS } from '../evidence/kinds.ts';
import { parseImageName, repositoryName } from '../oci/reference.ts';
import type { EvidenceJudgement, EvidenceRecord } from '../store/records.ts';
import { formatBytes } from '../util/format.ts';
import type { Companion } from './destination.ts';
import type { PlannedImage, PublishPlan } from './plan.ts';

export interface CatalogOptions {
  /** How clients reach the destination; `HOST` is shown where nobody said. */
  readonly host?: string | undefined;
  /** Names that nobody should use any more, ascending. */
  readonly withdrawn?:
    | readonly {
        readonly name: string;
        readonly digest: string;
        readonly reason: string;
        readonly at: string;
      }[]
    | undefined;
  /** Tells trust that has expired from trust that has not. */
  readonly now: Date;
}

const STYLE = `
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--page:#fff;--card:#f6f8fa;--line:#d0d7de;--good:#116329;--bad:#a40e26;--link:#0550ae}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--page:#0d1117;--card:#161b22;--line:#30363d;--good:#56d364;--bad:#ff8f85;--link:#79b8ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:60rem;background:var(--page);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;overflow-wrap:anywhere}
h3{font-size:1rem;margin:0;overflow-wrap:anywhere}
p{margin:.25rem 0}
a{color:var(--link)}
.soft{color:var(--soft)}
nav li{break-inside:avoid}
nav ul{columns:18rem;margin:.5rem 0;padding-left:1.2rem;overflow-wrap:anywhere}
article{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;margin:.75rem 0}
article header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline;justify-content:space-between}
.evidence{margin:.25rem 0 0;padding-left:1.2rem}
.evidence li{margin:.25rem 0}
.good{color:var(--good);font-weight:600}
.bad{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:8rem minmax(0,1fr);gap:.25rem 1rem;margin:.5rem 0 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
code,pre{font:.875rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
pre{margin:0 0 .35rem;padding:.5rem .6rem;background:var(--page);border:1px solid var(--line);border-radius:.35rem;white-space:pre-wrap}
@media (max-width:32rem){dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:.5rem}}
`;

const NO_HOST = 'HOST';
export const CATALOG_KEY = 'index.html';

/** The page as a document of a destination. */
export function catalogDocument(plan: PublishPlan, options: CatalogOptions): readonly [string, Companion] {
  const bytes = Buffer.from(renderCatalog(plan, options));
  return [CATALOG_KEY, { bytes, mediaType: 'text/html; charset=utf-8' }];
}

/** Hosts by which a page may send clients to the destination: whoever serves it knows which is right. */
const HOST = /<pre>docker pull ([A-Za-z0-9.:[\]-]{1,255})\//;
/** Times at which trust ended, and a page that was right became another. */
const MOST_PAGES = 100;

/**
 * Whether `page` is what a sync has written for this plan, now or when less of its trust had expired. The host is taken from
 * the page itself, and handed back to be looked at by somebody who knows it.
 */
export function examineCatalog(
  page: Uint8Array,
  plan: PublishPlan,
  options: Omit<CatalogOptions, 'host'>,
): { readonly right: boolean; readonly host?: string | undefined } {
  const host = HOST.exec(Buffer.from(page).toString('utf8'))?.[1];
  const ended = plan.images
    .filter((image) => isExpired(image, options.now))
    .map(({ record }) => Date.parse(record.trustExpires));
  // Before the first of them ended, then before the second, and so on.
  const times = [...new Set(ended)].sort((a, b) => b - a).slice(0, MOST_PAGES);
  const right = [options.now, ...times.map((at) => new Date(at - 1))].some((now) =>
    Buffer.from(renderCatalog(plan, { ...options, host, now })).equals(page),
  );
  return { right, ...(host === undefined || host === NO_HOST ? {} : { host }) };
}

/** The page for everything in the plan. The same plan gives the same bytes until some trust expires. */
export function renderCatalog(plan: PublishPlan, options: CatalogOptions): string {
  const host = options.host ?? NO_HOST;
  const groups = new Map<string, PlannedImage[]>();
  for (const image of plan.images) {
    const name = repositoryName(parseImageName(image.record.name));
    const group = groups.get(name);
    if (group) group.push(image);
    else groups.set(name, [image]);
  }
  const repositories = [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
  const expired = plan.images.filter((image) => isExpired(image, options.now)).length;
  // The one style is allowed by its hash, so that none that was smuggled in is.
  const hash = createHash('sha256').update(STYLE).digest('base64');
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>Container images</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>Container images</h1>
<p class="soft">${count(plan.images.length, 'image')} in ${count(groups.size, 'repository', 'repositories')}, each verified by sealift before it was put here.</p>
${expired === 0 ? '' : `<p class="bad">The trust of ${count(expired, 'image')} has expired. Ask for a newer bundle.</p>\n`}${withdrawnNotice(options.withdrawn ?? [])}</header>
${repositories.length < 2 ? '' : navigation(repositories.map(([name]) => name))}<main>
${repositories.length === 0 ? '<p>There is nothing here yet.</p>\n' : ''}${repositories
  .map(([name, images], at) => section(name, images, at, host, options.now))
  .join('')}${withdrawnSection(options.withdrawn ?? [])}</main>
</body>
</html>
`;
}

function navigation(names: readonly string[]): string {
  const items = names.map((name, at) => `<li><a href="#r${at + 1}">${escapeHtml(name)}</a></li>\n`).join('');
  return `<nav aria-label="Repositories">\n<ul>\n${items}</ul>\n</nav>\n`;
}

function section(name: string, images: readonly PlannedImage[], at: number, host: string, now: Date): string {
  const sorted = [...images].sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  return `<section aria-labelledby="r${at + 1}">
<h2 id="r${at + 1}">${escapeHtml(name)}</h2>
${sorted.map((image) => article(image, host, now)).join('')}</section>
`;
}

function withdrawnNotice({ length }: NonNullable<CatalogOptions['withdrawn']>): string {
  if (length === 0) return '';
  return `<p class="bad"><a href="#withdrawn">${count(length, 'image')} ${length === 1 ? 'was' : 'were'} withdrawn</a></p>\n`;
}

function withdrawnSection(withdrawn: NonNullable<CatalogOptions['withdrawn']>): string {
  if (withdrawn.length === 0) return '';
  return `<section aria-labelledby="withdrawn">
<h2 id="withdrawn">Withdrawn</h2>
<p>Whoever signed these has taken them back. Do not use them; replace what was pulled.</p>
${withdrawn
  .map(
    ({ name, digest, reason, at }) => `<article>
<header><h3>${escapeHtml(name)}</h3>
<p>${state('invalid', 'withdrawn')}</p></header>
<dl>
<dt>Reason</dt><dd>${escapeHtml(reason) || 'none was given'}</dd>
<dt>Withdrawn on</dt><dd>${date(at)}</dd>
<dt>Digest</dt><dd><code>${escapeHtml(digest)}</code></dd>
</dl>
</article>
`,
  )
  .join('')}</section>
`;
}

function article(image: PlannedImage, host: string, now: Date): string {
  const { record, places } = image;
  const { tag } = parseImageName(record.name);
  const expired = isExpired(image, now);
  const place = places[0] ?? '';
  const repository =
    tag === undefined ? place.slice(0, place.indexOf('@')) : place.slice(0, place.lastIndexOf(':'));
  const pulls = [
    ...(tag === undefined ? [] : [`docker pull ${host}/${place}`]),
    `docker pull ${host}/${repository}@${record.digest}`,
  ];
  const facts: readonly (readonly [string, string])[] = [
    ['Pull', pulls.map((pull) => `<pre>${escapeHtml(pull)}</pre>`).join('')],
    ['Full name', `<code>${escapeHtml(record.name)}</code>`],
    ['Digest', `<code>${escapeHtml(record.digest)}</code>`],
    ['Platforms', escapeHtml(record.platforms.join(', ') || 'not bound to one')],
    ['Size', escapeHtml(formatBytes(record.contentSize))],
    ['Evidence', evidenceOf(record.evidence)],
    [
      'Trust',
      `${expired ? 'expired on' : 'expires on'} ${date(record.trustExpires)}; role <code>${escapeHtml(record.role)}</code>, bundle ${record.bundleVersion} of collection <code>${escapeHtml(record.collectionId.slice(0, 12))}</code>`,
    ],
    ['Let in', date(record.importedAt)],
  ];
  return `<article>
<header><h3>${escapeHtml(tag ?? `@${record.digest.slice(0, 19)}`)}</h3>
<p>${expired ? state('expired', 'verified, trust expired') : state('verified')}</p></header>
<dl>
${facts.map(([label, value]) => `<dt>${label}</dt><dd>${value}</dd>\n`).join('')}</dl>
</article>
`;
}

/** A state in words; the symbol before it says nothing more, and is not read out. */
function state(which: EvidenceJudgement['state'], words: string = which): string {
  const [style, symbol] = STATES[which];
  return `<span class="${style}"><span aria-hidden="true">${symbol} </span>${words}</span>`;
}

const STATES = {
  verified: ['good', '\u2713'],
  carried: ['soft', '\u2013'],
  invalid: ['bad', '\u2717'],
  expired: ['bad', '\u2717'],
} as const;
const CARRIED = 'carried (not judged)';

/** Each piece that was judged when the image was let in, and how many of what kind were not. */
function evidenceOf(evidence: readonly EvidenceRecord[]): string {
  if (evidence.length === 0) return 'none came with it';
  const judged = evidence.filter(({ judged: one }) => one !== undefined && one.state !== 'carried');
  const carried = evidence.filter((piece) => !judged.includes(piece));
  const counts = (['verified', 'invalid', 'expired'] as const).flatMap((which) => {
    const number = judged.filter((piece) => piece.judged?.state === which).length;
    return number === 0 ? [] : [`${number} ${which}`];
  });
  if (carried.length > 0) counts.push(`${carried.length} ${CARRIED}`);
  const kinds = EVIDENCE_KINDS.flatMap((kind) => {
    const types = carried
      .filter((piece) => evidenceKind(piece) === kind)
      .map(({ artifactType }) => artifactType || 'of no stated type');
    if (types.length === 0) return [];
    const distinct = [...new Set(types)].sort().map((type) => `<code>${escapeHtml(type)}</code>`);
    return [`${count(types.length, KIND_WORDS[kind])} (${distinct.join(', ')})`];
  });
  const items = [
    ...judged.map((piece) => piece.judged && judgedItem(piece, piece.judged)),
    ...(kinds.length === 0 ? [] : [`${state('carried', CARRIED)}: ${kinds.join(', ')}`]),
  ];
  return `${count(evidence.length, 'piece')}: ${counts.join(', ')}
<ul class="evidence">
${items.map((item) => `<li>${item}</li>\n`).join('')}</ul>`;
}

function judgedItem(piece: EvidenceRecord, { format, signer, ...found }: EvidenceJudgement): string {
  const what = format ?? (piece.artifactType || 'of no stated type');
  const facts = [
    ...(signer === undefined ? [] : [`by <code>${escapeHtml(signer)}</code>`]),
    ...(found.claimedName === undefined ? [] : [`for <code>${escapeHtml(found.claimedName)}</code>`]),
    ...(found.signedAt === undefined ? [] : [`signed on ${date(found.signedAt)}`]),
    ...(found.expires === undefined
      ? []
      : [`${found.state === 'expired' ? 'expired' : 'expires'} on ${date(found.expires)}`]),
    ...(found.state === 'verified' ? [] : [escapeHtml(found.reason)]),
  ];
  const kind = evidenceKind(piece);
  return `${state(found.state)}: ${kind === 'other' ? 'evidence' : KIND_WORDS[kind]} (<code>${escapeHtml(what)}</code>)${facts.map((fact) => `, ${fact}`).join('')}`;
}

function date(at: string): string {
  return `<time datetime="${escapeHtml(at)}">${escapeHtml(at.slice(0, 10))}</time>`;
}

function isExpired({ record }: PlannedImage, now: Date): boolean {
  return Date.parse(record.trustExpires) <= now.getTime();
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

/** Text for element content and quoted attributes; invisible and bidirectional characters are spelt out. */
function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text
    .split('\n')
    .map((line) => inert(line, 4096).replace(/[&<>"']/g, (c) => entities[c] ?? c))
    .join('\n');
}
