/** What is being put together for an export: images and settings, and what is known of them so far. */
import path from 'node:path';
import { SealiftError, toSealiftError } from '../../../../core/errors.ts';
import type { ImagePreview, PreviewOptions } from '../../../../core/preview.ts';
import type { NamedLocation } from '../../../../core/transport/location.ts';
import type { SourceOptions } from '../../../../core/transport/source.ts';
import type { ExportOptions } from '../../../../core/workflow-options.ts';
import { contentTrustFrom } from '../../../options/content-trust.ts';
import { lookasideFrom } from '../../../options/lookaside.ts';
import { temporaryDirectory } from '../../../options/source.ts';
import { DEFAULT_RETRY_TIMES, sourceOptionsFrom } from '../../../options/source-settings.ts';
import { parseDuration } from '../../../options/values.ts';
import type { App } from '../../app.ts';

export const DEFAULT_LIFETIME = '90d';
/** Questions to sources under way at once. */
const LOOKS = 4;

export type Connection = 'tls' | 'plain' | 'unverified';

/** Settings that decide what is fetched and how. */
export interface SourceChoices {
  readonly connection: Connection;
  /** Empty where none is given, like the next. */
  readonly caFile: string;
  readonly authFile: string;
  readonly evidence: boolean;
  readonly foreign: boolean;
}

export interface Item {
  readonly text: string;
  readonly named: NamedLocation;
  /** Of all images the location stands for; undefined while nothing is known. */
  previews?: readonly ImagePreview[];
  failure?: string;
}

export interface Draft {
  items: readonly Item[];
  /** Texts of the items to carry. */
  readonly chosen: Set<string>;
  sources: SourceChoices;
  /** Empty for all. */
  platforms: readonly string[];
  collection: string;
  expires: string;
  /** As it was typed. */
  output: string;
  replace: boolean;
  dockerArchive: boolean;
  policy: string;
  /** Stops what is asked of sources when the pages are left. */
  readonly controller: AbortController;
}

export function createDraft(app: App): Draft {
  return {
    items: [],
    chosen: new Set(),
    sources: { connection: 'tls', caFile: '', authFile: '', evidence: true, foreign: false },
    platforms: [],
    collection: app.options.paths.collection.path,
    expires: DEFAULT_LIFETIME,
    output: 'images.tar',
    replace: false,
    dockerArchive: false,
    policy: '',
    controller: new AbortController(),
  };
}

export function chosenItems({ items, chosen }: Draft): readonly Item[] {
  return items.filter(({ text }) => chosen.has(text));
}

/** A path as a person types it; `~/` is the home directory. */
export function expandPath(app: App, text: string): string {
  const { cwd, home } = app.options;
  const plain = text.trim();
  return path.resolve(cwd, plain.startsWith('~/') ? path.join(home, plain.slice(2)) : plain);
}

/** @param retryTimes few while somebody waits for a list, as many as the command has for the transfer */
export async function sourceOptions(
  app: App,
  { sources }: Pick<Draft, 'sources'>,
  retryTimes: number,
): Promise<SourceOptions> {
  const { workflows, env, home, cwd } = app.options;
  const file = (text: string): string | undefined => (text === '' ? undefined : expandPath(app, text));
  return sourceOptionsFrom(
    {
      plainHttp: sources.connection === 'plain',
      insecureSkipTlsVerify: sources.connection === 'unverified',
      caFile: file(sources.caFile),
      authFile: file(sources.authFile),
      mirrors: [],
      cache: undefined,
      retryTimes,
      concurrency: LOOKS,
      temporary: temporaryDirectory({ text: () => undefined }, env, cwd),
    },
    { env, homedir: home, cwd, workflows },
  );
}

/** What a preview and an export of the same draft have in common, so that the one shows what the other does. */
async function contentOptions(
  app: App,
  draft: Draft,
  images: readonly NamedLocation[],
  retryTimes: number,
): Promise<PreviewOptions> {
  const { evidence, foreign } = draft.sources;
  return {
    images,
    platforms: draft.platforms,
    includeEvidence: evidence,
    ...(evidence
      ? {
          lookaside: await lookasideFrom(undefined, app.options.home),
          ...contentTrustFrom([], app.options.env),
        }
      : {}),
    includeForeign: foreign,
    concurrency: LOOKS,
    source: await sourceOptions(app, draft, retryTimes),
  };
}

export async function exportOptions(
  app: App,
  draft: Draft,
  passphrase: ExportOptions['passphrase'],
): Promise<ExportOptions> {
  const images = chosenItems(draft).map(({ named }) => named);
  return {
    ...(await contentOptions(app, draft, images, DEFAULT_RETRY_TIMES)),
    collection: draft.collection,
    output: { kind: 'file', path: expandPath(app, draft.output) },
    lifetime: parseDuration(draft.expires, 'expires in'),
    dockerArchive: draft.dockerArchive,
    force: draft.replace,
    ...(draft.policy === '' ? {} : { policy: expandPath(app, draft.policy) }),
    passphrase,
    pid: app.options.pid,
  };
}

/** The command that does the same, as words. */
export function commandWords(app: App, draft: Draft): readonly string[] {
  const { paths } = app.options;
  const { connection, caFile, authFile, evidence, foreign } = draft.sources;
  const option = (name: string, value: string): readonly string[] => (value === '' ? [] : [name, value]);
  const file = (text: string): string => (text === '' ? '' : expandPath(app, text));
  const flag = (name: string, given: boolean): readonly string[] => (given ? [name] : []);
  const usual = paths.collection.from === 'default' && draft.collection === paths.collection.path;
  return [
    'sealift',
    'export',
    ...chosenItems(draft).map(({ text }) => text),
    ...draft.platforms.flatMap((platform) => ['--platform', platform]),
    ...flag('--plain-http', connection === 'plain'),
    ...flag('--insecure-skip-tls-verify', connection === 'unverified'),
    ...option('--ca-file', file(caFile)),
    ...option('--authfile', file(authFile)),
    ...(evidence ? [] : ['--exclude-evidence', 'all']),
    ...flag('--include-foreign', foreign),
    ...flag('--docker-archive', draft.dockerArchive),
    ...option('--policy', file(draft.policy)),
    ...option('--expires', draft.expires === DEFAULT_LIFETIME ? '' : draft.expires),
    ...option('--collection', usual ? '' : draft.collection),
    ...flag('--force', draft.replace),
    '-o',
    expandPath(app, draft.output),
  ];
}

/** Forgets what was found, where a setting has changed that decides what is found. */
export function forget(draft: Draft): void {
  draft.items = draft.items.map(({ text, named }) => ({ text, named }));
}

/** Fetches manifests and evidence of items that were not looked at yet, a few at a time. */
export function createLooker(app: App, draft: Draft): () => void {
  const asked = new WeakSet<Item>();
  let busy = 0;
  /** Items before this one were taken up. */
  let next = 0;
  let items: readonly Item[] = [];
  async function look(item: Item): Promise<void> {
    try {
      const options = await contentOptions(app, draft, [item.named], 1);
      const previews = await app.work((context) => app.options.workflows.previewImages(options, context), {
        signal: draft.controller.signal,
      });
      if (previews.length === 0) throw new SealiftError('source-not-found', 'there is no image');
      item.previews = previews;
    } catch (error) {
      const { message, hint } = toSealiftError(error);
      item.failure = `${message}${hint === undefined ? '' : `; ${hint}`}`;
    } finally {
      busy -= 1;
      start();
      app.changed();
    }
  }
  function start(): void {
    if (items !== draft.items) {
      ({ items } = draft);
      next = 0;
    }
    for (; next < items.length && busy < LOOKS; next += 1) {
      const item = items[next];
      if (item === undefined || asked.has(item) || item.previews !== undefined) continue;
      asked.add(item);
      busy += 1;
      look(item).catch(() => {});
    }
  }
  return start;
}

export interface Totals {
  /** Bytes of all distinct blobs of what is chosen. */
  readonly bytes: number;
  /** For each item, bytes that what is chosen above it brings already. */
  readonly shared: ReadonlyMap<string, number>;
  readonly waiting: number;
  readonly failed: readonly Item[];
  /** Every platform that was seen, and in how many of the chosen images. */
  readonly platforms: ReadonlyMap<string, number>;
}

/** Kept until something changes: thousands of images are not added up for every key. */
export function createTotals(draft: Draft): () => Totals {
  let known: Totals | undefined;
  let before: readonly unknown[] = [];
  return () => {
    const { items, chosen } = draft;
    const answered = items.filter((item) => item.previews !== undefined || item.failure !== undefined);
    const now = [items, answered.length, sumOfPlaces(items, chosen)];
    if (known === undefined || now.some((part, at) => part !== before[at])) known = addUp(draft);
    before = now;
    return known;
  };
}

/** Another number where others are chosen. */
function sumOfPlaces(items: readonly Item[], chosen: ReadonlySet<string>): number {
  let sum = 0;
  for (const [at, { text }] of items.entries())
    if (chosen.has(text)) sum = (sum * 31 + at + 1) % 2_147_483_647;
  return sum;
}

function addUp(draft: Draft): Totals {
  const seen = new Set<string>();
  const shared = new Map<string, number>();
  const platforms = new Map<string, number>();
  const failed: Item[] = [];
  let bytes = 0;
  let waiting = 0;
  for (const item of draft.items) {
    const chosen = draft.chosen.has(item.text);
    if (chosen && item.failure !== undefined) failed.push(item);
    else if (chosen && item.previews === undefined) waiting += 1;
    let mine = 0;
    for (const preview of item.previews ?? []) {
      for (const { digest, size } of preview.blobs) {
        if (seen.has(digest)) mine += size;
        else if (chosen) bytes += size;
        if (chosen) seen.add(digest);
      }
      if (chosen)
        for (const platform of [...preview.platforms, ...preview.omitted].filter((one) => one.includes('/')))
          platforms.set(platform, (platforms.get(platform) ?? 0) + 1);
    }
    shared.set(item.text, mine);
  }
  return { bytes, shared, waiting, failed, platforms };
}
