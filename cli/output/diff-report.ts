/** A diff as text: one outline, indented or drawn as a tree. */

import type {
  DiffResult,
  DiffSide,
  EvidenceDiff,
  FileChange,
  FileFacts,
  ImageDiff,
  PackageChange,
  PlatformDiff,
  ValueChange,
} from '../../core/diff/result.ts';
import { inert } from '../../core/errors.ts';
import type { TextView } from '../command.ts';
import { formatSize, formatTime, plural, shortDigest } from './format.ts';
import type { Style } from './style.ts';

/** Lines of one list, after which only their number is told; JSON has them all. */
const MOST_LINES = 40;

interface Outline {
  readonly text: string;
  readonly below?: readonly Outline[];
}

export function diffText(result: DiffResult, view: TextView, drawTree: boolean): string {
  const { style } = view;
  const sections = [
    ...result.added.map((image) => ({
      text: `${style.good(result.before.kind === 'receipt' ? '+ new or moved' : '+ added')}  ${style.bold(inert(image.name))}`,
      below: [
        { text: style.dim(image.digest) },
        {
          text: `${image.platforms.map((platform) => inert(platform)).join(', ') || 'no platform'}, ${formatSize(image.bytes)} to carry`,
        },
      ],
    })),
    ...result.moved.map((image) => imageOutline(image, 'moved', style)),
    ...result.evidenceChanged.map((image) => imageOutline(image, 'other evidence', style)),
    ...result.withdrawn.map(({ name, digest, reason, at }) => ({
      text: `${style.bad('- withdrawn')}  ${style.bold(inert(name))}`,
      below: [{ text: style.dim(digest) }, { text: `${inert(reason)} (${formatTime(at)})` }],
    })),
    ...result.removed.map(({ name, digest }) => ({
      text: `${style.bad('- gone')}  ${style.bold(inert(name))}`,
      below: [{ text: style.dim(digest) }],
    })),
    ...notCarriedOutline(result.notCarried),
  ];
  return [
    sideLine('first ', result.before, style),
    sideLine('second', result.after, style),
    `${style.attention} ${style.warn('not verified')}: this compares what they claim; sealift verify tells what is true`,
    '',
    summaryOf(result),
    `to carry: ${sizeOf(result.carry)}; there already: ${sizeOf(result.shared)}`,
    ...sections.flatMap((section) => ['', ...(drawTree ? drawn(section, style) : indented(section))]),
  ].join('\n');
}

/** Most of a collection, where each bundle brings what is new: one line an image. */
function notCarriedOutline(images: DiffResult['notCarried']): readonly Outline[] {
  if (images.length === 0) return [];
  return [
    {
      text: `  not carried by the second, which still speaks for ${images.length === 1 ? 'it' : 'them'}`,
      below: capped(images, ({ name, digest, moved }) => ({
        text: `${inert(name)}  ${shortDigest(digest)}${moved ? ', and speaks for another digest now' : ''}`,
      })),
    },
  ];
}

function sideLine(label: string, side: DiffSide, style: Style): string {
  const { collection } = side;
  const what =
    collection === undefined
      ? side.kind
      : `${side.kind} of ${inert(collection.name)}, version ${collection.version}, expires ${formatTime(collection.expires)}`;
  const count =
    side.kind === 'images' ? plural(side.images, 'image') : `${what}, ${plural(side.images, 'image')}`;
  return `${label}  ${style.bold(inert(side.location, 4096))}  ${count}`;
}

function sizeOf({ blobs, bytes }: DiffResult['carry']): string {
  return `${formatSize(bytes)} in ${plural(blobs, 'blob')}`;
}

function summaryOf(result: DiffResult): string {
  const parts = (
    [
      [result.before.kind === 'receipt' ? 'new or moved' : 'added', result.added],
      ['moved', result.moved],
      ['with other evidence', result.evidenceChanged],
      ['withdrawn', result.withdrawn],
      ['gone', result.removed],
      ['not carried', result.notCarried],
      ['unchanged', result.unchanged],
    ] as const
  ).flatMap(([word, list]) => (list.length === 0 ? [] : [`${list.length} ${word}`]));
  return parts.length === 0 ? 'no images on either side' : `images: ${parts.join(', ')}`;
}

function imageOutline(image: ImageDiff, word: string, style: Style): Outline {
  const other = image.afterName === undefined ? '' : `  ->  ${style.bold(inert(image.afterName))}`;
  return {
    text: `${style.warn(`~ ${word}`)}  ${style.bold(inert(image.name))}${other}`,
    below: [
      {
        text: style.dim(
          image.before === image.after ? image.before : `${shortDigest(image.before)} -> ${image.after}`,
        ),
      },
      { text: `${formatSize(image.bytes)} to carry` },
      ...image.platforms.map((platform) => platformOutline(platform, style)),
      ...image.evidence.map(evidenceOutline),
      ...(image.packages === undefined ? [] : [packagesOutline(image.packages)]),
    ],
  };
}

function platformOutline(platform: PlatformDiff, style: Style): Outline {
  const { layers } = platform;
  const name = inert(platform.platform) || 'no platform';
  return {
    text:
      platform.state === 'changed'
        ? `${name}: layers: ${layers.kept} kept, ${layers.added.length} new, ${layers.removed.length} gone`
        : `${name}: ${platform.state}, ${plural(Math.max(layers.added.length, layers.removed.length), 'layer')}`,
    below: [
      ...capped(layers.added, ({ digest, size }) => ({
        text: `${style.good('+')} layer ${digest}  ${formatSize(size)}`,
      })),
      ...capped(layers.removed, ({ digest, size }) => ({
        text: `${style.bad('-')} layer ${digest}  ${formatSize(size)}`,
      })),
      ...capped(platform.labels, (change) => ({ text: `label ${valueText(change)}` })),
      ...capped(platform.settings, (change) => ({ text: valueText(change) })),
      ...(platform.files === undefined ? [] : [filesOutline(platform.files, style)]),
    ],
  };
}

function valueText({ name, before, after }: ValueChange): string {
  const shown = (value: string) => (value === '' ? '""' : inert(value, 120));
  if (before === undefined) return `${inert(name, 120)}: added ${shown(after ?? '')}`;
  if (after === undefined) return `${inert(name, 120)}: gone, was ${shown(before)}`;
  return `${inert(name, 120)}: ${shown(before)} -> ${shown(after)}`;
}

function filesOutline(files: readonly FileChange[], style: Style): Outline {
  const count = (state: FileChange['state']) => files.filter((file) => file.state === state).length;
  return {
    text: `files: ${count('added')} added, ${count('removed')} gone, ${count('changed')} changed`,
    below: capped(files, (file) => ({ text: fileText(file, style) })),
  };
}

function fileText({ path, state, before, after, what }: FileChange, style: Style): string {
  const name = inert(path, 4096);
  if (state === 'added') return `${style.good('+')} ${name}  ${factsText(after)}`;
  if (state === 'removed') return `${style.bad('-')} ${name}  ${factsText(before)}`;
  const details = what.map((aspect) => {
    if (aspect === 'content')
      return `content, ${formatSize(before?.size ?? 0)} -> ${formatSize(after?.size ?? 0)}`;
    const key = aspect as 'type' | 'mode' | 'owner' | 'target';
    return `${key} ${inert(String(before?.[key] ?? '-'))} -> ${inert(String(after?.[key] ?? '-'))}`;
  });
  return `${style.warn('~')} ${name}  ${details.join(', ')}`;
}

function factsText(facts: FileFacts | undefined): string {
  if (facts === undefined) return '';
  if (facts.type === 'file') return `${facts.mode}  ${formatSize(facts.size)}`;
  return facts.target === undefined ? facts.type : `${facts.type} to ${inert(facts.target, 4096)}`;
}

function evidenceOutline({ artifactType, before, after, same }: EvidenceDiff): Outline {
  const type = artifactType === '' ? 'untyped' : inert(artifactType);
  const lost = before - same;
  const gained = after - same;
  const renewed = Math.min(lost, gained);
  const parts = [
    renewed > 0 ? `${renewed} replaced` : undefined,
    gained > renewed ? `${gained - renewed} gained` : undefined,
    lost > renewed ? `${lost - renewed} lost` : undefined,
  ].filter((part) => part !== undefined);
  return { text: `evidence ${type}: ${parts.join(', ')}` };
}

function packagesOutline(packages: readonly PackageChange[]): Outline {
  const versions = (list: readonly string[] | undefined) =>
    list?.map((version) => inert(version, 80) || 'no version').join(', ');
  return {
    text:
      packages.length === 0 ? 'packages: the same' : `packages: ${packages.length} changed, as the SBOMs say`,
    below: capped(packages, ({ name, before, after }) => ({
      text: valueText({ name, before: versions(before), after: versions(after) }),
    })),
  };
}

function capped<T>(list: readonly T[], outline: (item: T) => Outline): readonly Outline[] {
  const shown = list.slice(0, MOST_LINES).map(outline);
  if (list.length <= MOST_LINES) return shown;
  return [...shown, { text: `and ${list.length - MOST_LINES} more; --format json lists them all` }];
}

function indented({ text, below }: Outline, indent = ''): readonly string[] {
  return [`${indent}${text}`, ...(below ?? []).flatMap((part) => indented(part, `${indent}    `))];
}

function drawn({ text, below = [] }: Outline, style: Style): readonly string[] {
  const [fork, corner, line] = style.unicode ? ['├── ', '└── ', '│   '] : ['|-- ', '`-- ', '|   '];
  const branch = (parts: readonly Outline[], prefix: string): readonly string[] =>
    parts.flatMap((part, i) => {
      const last = i === parts.length - 1;
      return [
        `${prefix}${last ? corner : fork}${part.text}`,
        ...branch(part.below ?? [], `${prefix}${last ? '    ' : line}`),
      ];
    });
  return [text, ...branch(below, '')];
}
