/** One image: what it is, its platforms with their layers, its evidence, what changes in the store. */
import { inert, toSealiftError } from '../../../core/errors.ts';
import type { ImageDetails } from '../../../core/image-details.ts';
import type { ImageSummary, ImageVerdict } from '../../../core/results.ts';
import { omittedNames } from '../../output/evidence-kinds.ts';
import { formatSize, formatTime, plural, shortDigest } from '../../output/format.ts';
import type { Style } from '../../output/style.ts';
import type { App } from '../app.ts';
import { otherFacts } from '../facts.ts';
import type { Page } from '../page.ts';
import { pair } from '../text.ts';
import { textPage } from './text.ts';
import { verdictWord } from './verdict-word.ts';

export interface ImagePageOptions {
  /** A bundle or a store. */
  readonly location: string;
  /** What the store has under this name; undefined where that is not known. */
  readonly change?: string | undefined;
  /** What else is known of it, as label and value. */
  readonly facts?: readonly (readonly [label: string, value: string])[];
}

/** Fields of an image that the page has words for. */
const SAID = [
  ...['name', 'digest', 'mediaType', 'platforms', 'omitted', 'size', 'evidence', 'digestMadeHere'],
  ...['verdict', 'reason', 'role', 'policyScope', 'requirement', 'admitted'],
];
const EVIDENCE_SAID = [
  ...['digest', 'artifactType', 'subject', 'via', 'size', 'state', 'reason'],
  ...['format', 'signer', 'claimedName', 'signedAt', 'expires'],
];

export function imagePage(
  app: App,
  image: ImageSummary & Partial<ImageVerdict>,
  { location, change, facts: more = [] }: ImagePageOptions,
): Page {
  const { style, workflows } = app.options;
  const controller = new AbortController();
  let details: ImageDetails | undefined;
  let failure = '';
  app
    .work((context) => workflows.imageDetails({ location, image: image.digest }, context), {
      signal: controller.signal,
    })
    .then(
      (found) => {
        details = found;
        app.changed();
      },
      (error: unknown) => {
        failure = toSealiftError(error).message;
        app.changed();
      },
    );

  return textPage({
    kind: 'image',
    title: inert(image.name, 60),
    keys: [{ action: 'copy' }, { action: 'json', label: 'JSON' }],
    closed: () => controller.abort(),
    act: (action) => {
      if (action === 'copy') app.copy(image.digest, 'the digest');
      else if (action === 'json') app.push(jsonPage(app, image));
      else return false;
      return true;
    },
    lines: ({ columns }) => {
      const facts = (label: string, value: string) => pair(label, value, columns, style);
      const { evidence, omitted, platforms } = image;
      return [
        style.bold(inert(image.name)),
        ...(image.verdict === undefined
          ? []
          : facts('verdict', `${verdictWord(image.verdict, style)}  ${inert(image.reason ?? '')}`)),
        ...(image.requirement === undefined
          ? []
          : facts('policy', `${inert(image.policyScope ?? '')}; decided by ${inert(image.requirement)}`)),
        ...(image.role === undefined ? [] : facts('role', inert(image.role))),
        ...facts('digest', image.digest),
        ...facts('type', inert(image.mediaType)),
        ...facts('size', formatSize(image.size)),
        ...facts(
          'platforms',
          platforms.length === 0 ? 'not told' : platforms.map((one) => inert(one)).join(', '),
        ),
        ...(omitted.length === 0 ? [] : facts('left out', omittedNames(image).join(', '))),
        ...(change === undefined ? [] : facts('in the store', change)),
        ...more.flatMap(([label, value]) => facts(label, value)),
        ...otherFacts(image, SAID, columns, style),
        ...(image.digestMadeHere
          ? facts('note', 'the source did not know this digest; it was made at the export')
          : []),
        '',
        style.bold(evidenceHeading(evidence)),
        ...evidence.flatMap((one) => evidenceLines(one, columns, style)),
        '',
        ...(details === undefined
          ? [
              style.dim(
                failure === '' ? 'reading manifests' : `manifests cannot be read: ${inert(failure, 500)}`,
              ),
            ]
          : details.platforms.flatMap((platform) => [
              `${style.bold(inert(platform.platform || 'no platform'))}  ${style.dim(shortDigest(platform.digest))}  ${plural(platform.layers.length, 'layer')}, ${formatSize(platform.layers.reduce((sum, { size }) => sum + size, 0))}`,
              ...platform.layers.map(
                (layer) =>
                  `  ${shortDigest(layer.digest)}  ${formatSize(layer.size).padStart(8)}  ${inert(layer.mediaType)}`,
              ),
              ...platform.labels.map(
                ([name, value]) => `  ${style.dim(inert(name, 80))} ${inert(value, 200)}`,
              ),
            ])),
      ];
    },
  });
}

function evidenceHeading(evidence: ImageSummary['evidence']): string {
  if (evidence.length === 0) return 'No evidence';
  const states = new Map<string, number>();
  for (const { state } of evidence) states.set(state, (states.get(state) ?? 0) + 1);
  const pieces = `${plural(evidence.length, 'piece')} of evidence`;
  if (states.size === 1 && states.has('carried')) return `${pieces}, carried, not judged`;
  return `${pieces}: ${[...states].map(([state, count]) => `${count} ${state === 'carried' ? 'carried, not judged' : state}`).join(', ')}`;
}

/** A piece of evidence; where it was judged, with what was found. */
function evidenceLines(
  one: ImageSummary['evidence'][number],
  columns: number,
  style: Style,
): readonly string[] {
  const line = `${shortDigest(one.digest)}  ${formatSize(one.size).padStart(8)}  ${inert(one.artifactType || 'untyped')}`;
  if (one.state === 'carried') return [`  ${line}`, ...belowEvidence(one, columns, style)];
  const symbol = one.state === 'verified' ? style.pass : style.fail;
  const paint = one.state === 'verified' ? style.good : style.bad;
  return [`${symbol} ${line}  ${paint(one.state)}`, ...belowEvidence(one, columns, style)];
}

function belowEvidence(
  one: ImageSummary['evidence'][number],
  columns: number,
  style: Style,
): readonly string[] {
  const known: readonly (readonly [string, string | undefined])[] = [
    ['why', one.reason],
    ['format', one.format],
    ['signer', one.signer],
    ['for', one.claimedName],
    ['signed', one.signedAt === undefined ? undefined : formatTime(one.signedAt)],
    ['ends', one.expires === undefined ? undefined : formatTime(one.expires)],
  ];
  return [
    ...known.flatMap(([label, value]) =>
      value === undefined ? [] : pair(label, inert(value, 400), columns - 4, style),
    ),
    ...otherFacts(one, EVIDENCE_SAID, columns - 4, style),
  ].map((line) => `    ${line}`);
}

/** Raw JSON of a result; what is dangerous to show is escaped by JSON or made inert. */
export function jsonPage(app: App, value: unknown): Page {
  const lines = JSON.stringify(value, undefined, 2)
    .split('\n')
    .map((line) => inert(line, 2000));
  return textPage({
    kind: 'json',
    title: 'JSON',
    lines: () => lines,
    keys: [{ action: 'copy', label: 'copy JSON' }],
    act: (action) => {
      if (action !== 'copy') return false;
      app.copy(lines.join('\n'), 'the JSON');
      return true;
    },
  });
}
