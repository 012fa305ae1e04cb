/**
 * The catalog: one static page beside the tree. No script, nothing from elsewhere, every text escaped; the policy in its
 * head forbids what the page does not do, so that a text that slipped through could do nothing.
 */
import { createHash } from 'node:crypto';
import { inert } from '../errors.ts';
import { parseImageName, repositoryName } from '../oci/reference.ts';
import { formatBytes } from '../util/format.ts';
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
.good{color:var(--good);font-weight:600}
.bad{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:8rem minmax(0,1fr);gap:.25rem 1rem;margin:.5rem 0 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
code,pre{font:.875rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
pre{margin:0;padding:.5rem .6rem;background:var(--page);border:1px solid var(--line);border-radius:.35rem;white-space:pre-wrap}
@media (max-width:32rem){dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:.5rem}}
`;

/** The page for everything in the plan. The same plan gives the same bytes until some trust expires. */
export function renderCatalog(plan: PublishPlan, options: CatalogOptions): string {
  const host = options.host ?? 'HOST';
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
  return `<p><a href="#withdrawn">${count(length, 'image')} ${length === 1 ? 'was' : 'were'} withdrawn</a></p>\n`;
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
<p class="bad">withdrawn</p></header>
<dl>
<dt>Reason</dt><dd>${escapeHtml(reason) || 'none was given'}</dd>
<dt>Withdrawn on</dt><dd><time datetime="${escapeHtml(at)}">${escapeHtml(at.slice(0, 10))}</time></dd>
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
  const kinds = [
    ...new Set(record.evidence.map(({ artifactType }) => artifactType || 'of no stated type')),
  ].sort();
  const day = escapeHtml(record.trustExpires.slice(0, 10));
  const until = `<time datetime="${escapeHtml(record.trustExpires)}">${day}</time>`;
  const facts: readonly (readonly [string, string])[] = [
    ['Full name', `<code>${escapeHtml(record.name)}</code>`],
    ['Digest', `<code>${escapeHtml(record.digest)}</code>`],
    ['Platforms', escapeHtml(record.platforms.join(', ') || 'not bound to one')],
    ['Size', escapeHtml(formatBytes(record.contentSize))],
    [
      'Evidence',
      record.evidence.length === 0
        ? 'none came with it'
        : `${count(record.evidence.length, 'piece')}: ${escapeHtml(kinds.join(', '))}`,
    ],
    [
      'Trust',
      `${expired ? 'expired on' : 'expires on'} ${until}; role <code>${escapeHtml(record.role)}</code>, bundle ${record.bundleVersion} of collection <code>${escapeHtml(record.collectionId.slice(0, 12))}</code>`,
    ],
    [
      'Let in',
      `<time datetime="${escapeHtml(record.importedAt)}">${escapeHtml(record.importedAt.slice(0, 10))}</time>`,
    ],
    ['Pull', `<pre>${escapeHtml(pulls.join('\n'))}</pre>`],
  ];
  return `<article>
<header><h3>${escapeHtml(tag ?? `@${record.digest.slice(0, 19)}`)}</h3>
<p class="${expired ? 'bad' : 'good'}">${expired ? 'verified, trust expired' : 'verified'}</p></header>
<dl>
${facts.map(([label, value]) => `<dt>${label}</dt><dd>${value}</dd>\n`).join('')}</dl>
</article>
`;
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
