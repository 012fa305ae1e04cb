/** Inspect: what a bundle, a store or a collection holds, who signs for it, until when. Shows claims, judges nothing. */
import path from 'node:path';
import { inert } from '../../../core/errors.ts';
import type { ImageSummary, InspectResult } from '../../../core/results.ts';
import type { ImageRecord } from '../../../core/store/store.ts';
import { formatDistance, formatSize, formatTime, groupedFingerprint, plural } from '../../output/format.ts';
import type { Style } from '../../output/style.ts';
import type { App } from '../app.ts';
import { otherFacts } from '../facts.ts';
import { row } from '../frame.ts';
import { createList } from '../list.ts';
import { HIDDEN_LIST_KEYS, type Page } from '../page.ts';
import { padTo, pair } from '../text.ts';
import { choosePage } from './choose.ts';
import { imagePage, jsonPage } from './image.ts';
import { findBundles, startImport } from './import/start.ts';
import { refusalPage } from './refusal.ts';
import { textPage } from './text.ts';
import { workPage } from './work.ts';

export function chooseInspect(app: App): void {
  const { machine, paths } = app.options;
  app.push(
    choosePage(app, {
      title: 'Inspect',
      heading: 'A bundle, a store or a collection?',
      nothing: 'nothing was found here; type the path of a bundle, a store or a collection',
      find: async () => [
        ...(await findBundles(app)),
        ...(machine.exists(paths.store.path) ? [{ path: paths.store.path, detail: 'store' }] : []),
        ...(await machine.collections(paths.collection)).map((directory) => ({
          path: directory,
          detail: 'collection',
        })),
      ],
      chosen: (location) => startInspect(app, location),
    }),
  );
}

/** What an inspection was given beside what the location itself says. */
interface Inspected {
  readonly result: InspectResult;
  /** Of a store: how each image came in, by name. */
  readonly records: ReadonlyMap<string, ImageRecord>;
}

export function startInspect(app: App, location: string): void {
  const name = inert(path.basename(location), 60);
  app.push(
    workPage<Inspected>(app, {
      title: name,
      heading: `Reading ${inert(location, 300)}`,
      harmless: true,
      run: async (context) => {
        const { workflows } = app.options;
        const result = await workflows.inspect({ location, names: [] }, context);
        const images = result.kind === 'store' ? (await workflows.listStore(location)).images : [];
        return { result, records: new Map(images.map((record) => [record.name, record])) };
      },
      done: ({ result, records }, self) => app.replace(self, inspectPage(app, result, records)),
      failed: (error, self, checks) =>
        app.replace(self, refusalPage(app, error, { what: name, effect: 'it was only looked at', checks })),
    }),
  );
}

function recordFacts(record: ImageRecord | undefined, now: Date): readonly (readonly [string, string])[] {
  if (record === undefined) return [];
  const { importedAt, bundleVersion, collectionId, role, trustExpires } = record;
  const ended = new Date(trustExpires) <= now;
  return [
    ['let in', `${formatTime(importedAt)}, by version ${bundleVersion}, role ${inert(role)}`],
    ['collection', inert(collectionId)],
    [
      'trust ends',
      `${formatTime(trustExpires)} (${ended ? 'expired ' : ''}${formatDistance(trustExpires, now)})`,
    ],
  ];
}

export function inspectPage(
  app: App,
  result: InspectResult,
  records: ReadonlyMap<string, ImageRecord> = new Map(),
): Page {
  const { style } = app.options;
  const { collection, kind, location } = result;
  const list = createList<ImageSummary>({
    items: result.images,
    key: ({ name, digest }) => `${name} ${digest}`,
    text: ({ name, platforms }) => `${name} ${platforms.join(' ')}`,
  });
  return {
    kind: 'inspect',
    title: inert(path.basename(location), 60),
    keys: [
      { action: 'open' },
      { action: 'copy' },
      ...(collection === undefined ? [] : [{ action: 'next', label: 'roles and keys' } as const]),
      { action: 'filter' },
      { action: 'json' },
      ...(kind === 'bundle' ? [{ action: 'proceed', label: 'import' } as const] : []),
      ...HIDDEN_LIST_KEYS,
    ],
    get field() {
      return list.field;
    },
    typed: () => list.filterChanged(),
    act: (action) => {
      if (action === 'next') {
        app.push(rolesPage(app, result));
        return true;
      }
      if (list.act(action)) return true;
      const image = list.current();
      if (action === 'open') {
        if (image && kind === 'collection') app.push(jsonPage(app, image));
        else if (image) {
          const facts = recordFacts(records.get(image.name), app.options.readNow());
          app.push(imagePage(app, image, { location, facts }));
        }
      } else if (action === 'copy') {
        if (image) app.copy(image.digest, `the digest of ${inert(image.name, 60)}`);
      } else if (action === 'json') app.push(jsonPage(app, result));
      else if (action === 'proceed' && kind === 'bundle') startImport(app, location);
      else return false;
      return true;
    },
    lines: (view) => {
      const { columns, now } = view;
      const head = [
        `${style.bold(kind)} ${inert(location, 400)}`,
        ...(collection === undefined
          ? []
          : [
              `${inert(collection.name, 60)}, version ${collection.version}, expires ${formatTime(collection.expires)} (${formatDistance(collection.expires, now)})`,
            ]),
        kind === 'bundle'
          ? style.warn(`${style.attention} these are claims of the bundle; an import checks them`)
          : style.dim(plural(result.images.length, 'image')),
        ...staleText(records, now, style),
        ...otherFacts(result, SAID, columns, style).slice(0, 2),
      ];
      const width = Math.max(20, columns - 2 - 9 - 14 - (columns >= 100 ? 30 : 0) - 2);
      return [
        ...head,
        '',
        style.dim(
          `  ${'image'.padEnd(width)} ${'size'.padStart(8)}  evidence${columns >= 100 ? '    platforms' : ''}`,
        ),
        ...(result.images.length === 0 ? [style.dim('  no images')] : []),
        ...list.lines(view.rows - head.length - 2, style, (image, here) =>
          row(
            view,
            here,
            `${padTo(inert(image.name), width, style.unicode)} ${formatSize(image.size).padStart(8)}  ${String(image.evidence.length).padStart(8)}${columns >= 100 ? `    ${inert(image.platforms.join(', '))}` : ''}`,
          ),
        ),
      ];
    },
  };
}

/** Fields the page has words for. */
const SAID = ['kind', 'location', 'collection', 'images', 'verified'];
const COLLECTION_SAID = [
  ...['id', 'name', 'version', 'created', 'expires', 'rootFingerprint', 'rootVersion', 'roles'],
];

function staleText(records: ReadonlyMap<string, ImageRecord>, now: Date, style: Style): readonly string[] {
  const stale = [...records.values()].filter(({ trustExpires }) => new Date(trustExpires) <= now).length;
  if (stale === 0) return [];
  return [
    style.warn(`${style.attention} trust in ${plural(stale, 'image')} has ended; a newer bundle renews it`),
  ];
}

function rolesPage(app: App, { collection }: InspectResult): Page {
  const { style } = app.options;
  return textPage({
    kind: 'roles',
    title: 'Roles and keys',
    keys: [{ action: 'copy', label: 'copy fingerprint' }],
    act: (action) => {
      if (action !== 'copy' || collection === undefined) return false;
      app.copy(collection.rootFingerprint, 'the fingerprint of the root');
      return true;
    },
    lines: ({ columns, now }) =>
      collection === undefined
        ? []
        : [
            ...pair('collection', `${inert(collection.name)}, version ${collection.version}`, columns, style),
            ...pair('id', collection.id, columns, style),
            ...pair('made', formatTime(collection.created), columns, style),
            ...pair('root', `version ${collection.rootVersion}, fingerprint`, columns, style),
            ...groupedFingerprint(collection.rootFingerprint).map((group) => `             ${group}`),
            ...otherFacts(collection, COLLECTION_SAID, columns, style),
            ...collection.roles.flatMap((role) => [
              '',
              `${style.bold(inert(role.role))}  version ${role.version}, ${role.threshold} of ${plural(role.keys.length, 'key')}`,
              ...pair(
                '  expires',
                `${formatTime(role.expires)} (${new Date(role.expires) <= now ? 'expired ' : ''}${formatDistance(role.expires, now)})`,
                columns,
                style,
              ),
              ...role.keys.flatMap((key) =>
                pair(
                  '  key',
                  `${inert(key.type)} ${inert(key.fingerprint ?? key.keyId)}${key.userId === undefined ? '' : ` ${inert(key.userId)}`}${key.expires === undefined ? '' : `, ends ${formatTime(key.expires)}`}`,
                  columns,
                  style,
                ),
              ),
            ]),
          ],
  });
}
