/**
 * A verification as one page to print and sign with a pen. No script, no style from elsewhere, nothing that is
 * fetched; every text from a bundle is escaped, and words say what symbols say.
 */

import { inert } from '../../core/errors.ts';
import type { EvidenceSummary, ImageVerdict, VerifyResult } from '../../core/results.ts';
import { omittedNames } from './evidence-kinds.ts';
import { formatSize, formatTime } from './format.ts';

const STYLE = `
body { font: 11pt/1.4 Georgia, serif; color: #000; background: #fff; max-width: 48em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.6em; border-bottom: 1px solid #000 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .25em .6em .25em 0 }
th { font-weight: normal; white-space: nowrap } code { font: .85em monospace; overflow-wrap: anywhere }
section { break-inside: avoid } .word { font-weight: bold } .refused { border-left: 4px solid #000; padding-left: .6em }
.sign { margin-top: 3em; display: flex; gap: 2em } .sign div { flex: 1; border-top: 1px solid #000; padding-top: .2em }
@page { margin: 2cm }
`;

const REFUSED = new Set(['unsigned', 'invalid', 'expired']);
const SYMBOLS: Readonly<Record<string, string>> = {
  verified: '\u2713',
  passed: '\u2713',
  carried: '\u2013',
  skipped: '\u2013',
};

/** Text as HTML: nothing of it is markup, and no character of it is invisible. */
function escaped(text: string): string {
  return inert(text, 4096).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function word(state: string, text: string = state): string {
  return `<span class="word">${SYMBOLS[state] ?? '\u2717'} ${escaped(text)}</span>`;
}

function rows(pairs: readonly (readonly [string, string])[]): string {
  return `<table>${pairs.map(([label, html]) => `<tr><th>${escaped(label)}</th><td>${html}</td></tr>`).join('')}</table>`;
}

const code = (text: string): string => `<code>${escaped(text)}</code>`;

function evidenceRow(piece: EvidenceSummary): string {
  const facts = [
    piece.reason,
    piece.claimedName === undefined ? undefined : `for ${piece.claimedName}`,
    piece.signer === undefined ? undefined : `by ${piece.signer}`,
    piece.signedAt === undefined ? undefined : `at ${formatTime(piece.signedAt)}`,
    piece.expires === undefined ? undefined : `expires ${formatTime(piece.expires)}`,
  ].filter((fact) => fact !== undefined);
  const what = piece.format ?? (piece.artifactType === '' ? 'untyped' : piece.artifactType);
  return `<tr><td>${word(piece.state)}</td><td>${escaped(what)}<br>${code(piece.digest)}${facts.map((fact) => `<br>${escaped(fact)}`).join('')}</td></tr>`;
}

function imageSection(image: ImageVerdict): string {
  const refused = REFUSED.has(image.verdict);
  const evidence =
    image.evidence.length === 0 ? 'none' : `<table>${image.evidence.map(evidenceRow).join('')}</table>`;
  return [
    `<section${refused ? ' class="refused"' : ''}><h3>${escaped(image.name)}</h3>`,
    rows([
      [
        'verdict',
        `${word(image.verdict, refused ? `refused, ${image.verdict}` : image.verdict)}<br>${escaped(image.reason)}`,
      ],
      ['digest', code(image.digest)],
      ['platforms', escaped(image.platforms.join(', ') || 'none')],
      ...(image.omitted.length === 0
        ? []
        : ([['left out', escaped(omittedNames(image).join(', '))]] as const)),
      ['size', escaped(formatSize(image.size))],
      ...(image.requirement === undefined
        ? []
        : ([['decided by', `${escaped(image.policyScope ?? '')}; ${escaped(image.requirement)}`]] as const)),
      ['evidence', evidence],
    ]),
    '</section>',
  ].join('\n');
}

/** The page. `now` is the time of the run. */
export function reportHtml(result: VerifyResult, now: Date): string {
  const { collection } = result;
  const refused = result.images.filter(({ verdict }) => REFUSED.has(verdict)).length;
  const failed = result.checks.some(({ status }) => status === 'failed');
  const policy =
    result.policy === 'none'
      ? 'none is set: the signatures of the collection decide, and no evidence is demanded'
      : `${result.policy.from === 'gate' ? 'of the gate' : 'a file that was named'}, sha256 ${result.policy.sha256}`;
  const gone = [
    ...result.withdrawn.map(({ name, reason, at }) => `withdrawn: ${name} (${reason}, ${at})`),
    ...result.vanished.map((name) => `no longer listed, never withdrawn, kept: ${name}`),
    ...(result.collection.carrier?.namespaces ?? []).flatMap(({ role, prefix, canSign }) =>
      role === 'images'
        ? []
        : [
            canSign
              ? `whoever signs the bundles could sign ${prefix} in the place of ${role}`
              : `whoever signs the bundles cannot sign ${prefix}: only ${role} can`,
          ],
    ),
    ...result.weakened.map(({ option, effect }) => `weakened by ${option}: ${effect}`),
  ];
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<title>Verification of ${escaped(result.bundle)}</title><style>${STYLE}</style></head><body>`,
    `<h1>${failed || refused > 0 ? word('failed', 'refused') : word('verified')} ${escaped(result.bundle)}</h1>`,
    rows([
      ['verified at', escaped(formatTime(now.toISOString()))],
      ['collection', `${escaped(collection.name)}, version ${collection.version}`],
      ['id', code(collection.id)],
      ['made', escaped(formatTime(collection.created))],
      ['expires', escaped(formatTime(collection.expires))],
      ['root', `version ${collection.rootVersion}<br>${code(collection.rootFingerprint)}`],
      ['policy', escaped(policy)],
      ['layers', result.deep ? 'read and hashed' : 'not read'],
      ['images', `${result.images.length}, of which ${refused} refused`],
    ]),
    '<h2>Checks</h2>',
    `<table>${result.checks.map(({ check, status, detail }) => `<tr><td>${word(status)}</td><td>${escaped(check)}</td><td>${escaped(detail)}</td></tr>`).join('')}</table>`,
    '<h2>Images</h2>',
    ...result.images.map(imageSection),
    ...(gone.length === 0
      ? []
      : [`<h2>To be noted</h2><ul>${gone.map((line) => `<li>${escaped(line)}</li>`).join('')}</ul>`]),
    '<div class="sign"><div>name</div><div>date</div><div>signature</div></div>',
    '</body></html>',
    '',
  ].join('\n');
}
