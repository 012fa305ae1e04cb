/** One image: what it is, its platforms with their layers, its evidence, what changes in the store. */
import { inert, toSealiftError } from '../../../core/errors.ts';
import type { ImageDetails } from '../../../core/image-details.ts';
import type { ImageSummary, ImageVerdict } from '../../../core/results.ts';
import { formatSize, plural, shortDigest } from '../../output/format.ts';
import type { App } from '../app.ts';
import type { Page } from '../page.ts';
import { pair } from '../text.ts';
import { textPage } from './text.ts';
import { verdictWord } from './verdict-word.ts';

export interface ImagePageOptions {
  /** A bundle or a store. */
  readonly location: string;
  /** What the store has under this name; undefined where that is not known. */
  readonly change?: string | undefined;
}

export function imagePage(
  app: App,
  image: ImageSummary & Partial<ImageVerdict>,
  { location, change }: ImagePageOptions,
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
        ...facts('digest', image.digest),
        ...facts('type', inert(image.mediaType)),
        ...facts('size', formatSize(image.size)),
        ...facts(
          'platforms',
          platforms.length === 0 ? 'not told' : platforms.map((one) => inert(one)).join(', '),
        ),
        ...(omitted.length === 0
          ? []
          : facts(
              'left out',
              omitted.map((one) => inert(one.platform ?? shortDigest(one.digest))).join(', '),
            )),
        ...(change === undefined ? [] : facts('in the store', change)),
        ...(image.digestMadeHere
          ? facts('note', 'the source did not know this digest; it was made at the export')
          : []),
        '',
        style.bold(
          evidence.length === 0
            ? 'No evidence'
            : `${plural(evidence.length, 'piece')} of evidence, carried, not judged`,
        ),
        ...evidence.map(
          (one) =>
            `  ${shortDigest(one.digest)}  ${formatSize(one.size).padStart(8)}  ${inert(one.artifactType || 'untyped')}`,
        ),
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

/** Raw JSON of a result; what is dangerous to show is escaped by JSON or made inert. */
export function jsonPage(app: App, value: unknown): Page {
  const lines = JSON.stringify(value, undefined, 2)
    .split('\n')
    .map((line) => inert(line, 2000));
  return textPage({
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
