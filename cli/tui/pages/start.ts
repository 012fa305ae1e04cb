/** The first page: what can be done, what is here, what ends soon, what was done last. */
import path from 'node:path';
import { inert } from '../../../core/errors.ts';
import { formatDistance, formatSize, formatTime, plural } from '../../output/format.ts';
import type { App } from '../app.ts';
import { row } from '../frame.ts';
import { createList, type List } from '../list.ts';
import { type Activity, type Medium, mediumText } from '../machine.ts';
import { HIDDEN_LIST_KEYS, type Page, type View } from '../page.ts';
import { clipStart, padTo } from '../text.ts';
import { startExport } from './export/start.ts';
import { chooseBundle, startImport } from './import/start.ts';
import { chooseInspect, startInspect } from './inspect.ts';
import { openTrust } from './trust.ts';

/** What ends within this time is named on the first page. */
const SOON = 30 * 24 * 60 * 60 * 1000;

interface Row {
  readonly id: string;
  readonly kind: 'heading' | 'plain' | 'line';
  readonly cells: readonly [string, string];
  readonly open?: () => void;
  readonly inspect?: () => void;
}

interface Expiry {
  readonly what: string;
  readonly expires: string;
}

interface Found {
  readonly collections: readonly string[];
  readonly media: readonly Medium[];
  readonly here: readonly string[];
  readonly activity: readonly Activity[];
  readonly expiries: readonly Expiry[];
  readonly images: number | undefined;
  readonly problems: readonly string[];
}

export function startPage(app: App): Page {
  const list: List<Row> = createList<Row>({
    key: ({ id }) => id,
    text: ({ cells }) => cells.join(' '),
    passive: ({ kind }) => kind !== 'line',
  });
  let looking = false;

  async function look(): Promise<void> {
    if (looking) return;
    looking = true;
    try {
      list.setItems(rows(app, await find(app)));
    } finally {
      looking = false;
      app.changed();
    }
  }
  list.setItems(rows(app, undefined));
  look().catch(() => app.say('what is here could not be looked at'));

  return {
    kind: 'start',
    title: 'Start',
    keys: [
      { action: 'open' },
      { action: 'inspect' },
      { action: 'refresh' },
      { action: 'filter' },
      ...HIDDEN_LIST_KEYS,
    ],
    get field() {
      return list.field;
    },
    typed: () => list.filterChanged(),
    shown: () => {
      look().catch(() => {});
    },
    lines: (view) => list.lines(view.rows, view.style, (item, here) => line(item, here, view)),
    act: (action) => {
      if (list.act(action)) return true;
      const item = list.current();
      if (action === 'refresh') {
        look().catch(() => {});
        return true;
      }
      if (action === 'open' && item?.open !== undefined) {
        item.open();
        return true;
      }
      if (action === 'inspect') {
        if (item?.inspect === undefined) app.say('there is nothing to look into on this line');
        else item.inspect();
        return true;
      }
      return false;
    },
  };
}

function line(item: Row, here: boolean, view: View): string {
  const { style } = view;
  const [left] = item.cells;
  if (item.kind === 'heading') return style.bold(left);
  const width = Math.max(24, Math.min(34, Math.floor(view.columns / 2)));
  const room = view.columns - width - 4;
  // Paths are told apart by their end.
  const right = item.cells[1].startsWith('/') ? clipStart(item.cells[1], room, style.unicode) : item.cells[1];
  const text =
    right === '' ? left : `${padTo(left, width, style.unicode)}  ${here ? right : style.dim(right)}`;
  return item.kind === 'plain' ? `  ${text}` : row(view, here, text);
}

async function find(app: App): Promise<Found> {
  const { machine, paths, cwd, workflows } = app.options;
  const problems: string[] = [];
  const expiries: Expiry[] = [];
  const [collections, media, bundles, activity] = await Promise.all([
    machine.collections(paths.collection),
    machine.media(),
    machine.bundlesIn(cwd),
    machine.activity(paths.gate.path, 3),
  ]);
  const attempt = async (what: string, read: () => Promise<void>): Promise<void> => {
    try {
      await read();
    } catch (error) {
      problems.push(`${what}: ${inert((error as Error).message, 300)}`);
    }
  };
  for (const directory of collections) {
    await attempt(directory, async () => {
      const { collection } = await app.work(
        (context) => workflows.inspect({ location: directory, names: [] }, context),
        {},
      );
      for (const role of collection?.roles ?? [])
        expiries.push({
          what: `collection ${inert(collection?.name ?? '', 30)}, role ${inert(role.role, 30)}`,
          expires: role.expires,
        });
    });
  }
  if (machine.exists(paths.gate.path)) {
    await attempt(paths.gate.path, async () => {
      const status = await app.work(
        (context) => workflows.trustStatus({ gate: paths.gate.path }, context),
        {},
      );
      for (const { name, expires } of status.collections)
        if (expires !== undefined) expiries.push({ what: `gate: trust in ${inert(name, 30)}`, expires });
    });
  }
  let images: number | undefined;
  if (machine.exists(paths.store.path)) {
    await attempt(paths.store.path, async () => {
      images = (await workflows.listStore(paths.store.path)).images.length;
    });
  }
  const onMedia = new Set(media.flatMap((medium) => medium.bundles.map(({ file }) => file)));
  return {
    collections,
    media,
    here: bundles.map(({ file }) => file).filter((file) => !onMedia.has(file)),
    activity,
    expiries,
    images,
    problems,
  };
}

function rows(app: App, found: Found | undefined): readonly Row[] {
  const { paths, machine, readNow, style } = app.options;
  const now = readNow();
  let id = 0;
  const make = (kind: Row['kind'], left: string, right = '', more: Partial<Row> = {}): Row => {
    id += 1;
    return { id: `${id} ${left}`, kind, cells: [left, right], ...more };
  };
  const gap = (): Row => make('heading', '');
  const actions = [
    make('heading', 'What do you want to do?'),
    make('line', 'Import a bundle', 'check it, let images into the store', {
      open: () => chooseBundle(app),
    }),
    make('line', 'Export images', 'into one signed file to carry', {
      open: () => startExport(app),
    }),
    make('line', 'Inspect', 'look into a bundle or a store', {
      open: () => chooseInspect(app),
    }),
  ];
  if (found === undefined) return [...actions, gap(), make('plain', 'looking around')];

  const bundleRow = (file: string, label: string, detail: string): Row =>
    make('line', label, detail, {
      open: () => startImport(app, file),
      inspect: () => startInspect(app, file),
    });
  const media = found.media.flatMap(({ directory, facts, bundles }) => [
    make('plain', clipStart(inert(directory, 200), 30, style.unicode), mediumText(facts)),
    ...bundles.map(({ file, size, modified }) =>
      bundleRow(file, `  ${inert(path.basename(file), 200)}`, `${formatSize(size)}, ${formatTime(modified)}`),
    ),
  ]);
  const soon = found.expiries
    .filter(({ expires }) => new Date(expires).getTime() - now.getTime() < SOON)
    .sort((a, b) => (a.expires < b.expires ? -1 : 1));
  const inspectRow = (label: string, right: string, location: string): Row => {
    const inspect = (): void => startInspect(app, location);
    return make('line', label, right, { open: inspect, inspect });
  };
  return [
    ...actions,
    ...(found.problems.length === 0
      ? []
      : [
          gap(),
          make('heading', 'Problems'),
          ...found.problems.map((text) => make('plain', `${style.attention} ${text}`)),
        ]),
    gap(),
    make('heading', 'Removable media'),
    ...(media.length === 0 ? [make('plain', 'none is mounted below /media, /run/media or /mnt')] : media),
    ...(found.here.length === 0
      ? []
      : [
          gap(),
          make('heading', 'Bundles in this directory'),
          ...found.here.map((file) => bundleRow(file, inert(path.basename(file), 200), '')),
        ]),
    ...(soon.length === 0
      ? []
      : [
          gap(),
          make('heading', 'Ends soon'),
          ...soon.map(({ what, expires }) =>
            make(
              'plain',
              what,
              `${new Date(expires) <= now ? `${style.fail} expired` : `${style.attention} ends`} ${formatDistance(expires, now)}`,
            ),
          ),
        ]),
    gap(),
    make('heading', 'On this machine'),
    ...found.collections.map((directory) => inspectRow('collection', inert(directory, 300), directory)),
    ...(found.collections.length === 0 ? [make('plain', 'collection', 'none; sealift init makes one')] : []),
    ...(machine.exists(paths.gate.path)
      ? [
          make('line', 'gate', inert(paths.gate.path, 300), {
            open: () => openTrust(app),
            inspect: () => openTrust(app),
          }),
        ]
      : [make('plain', 'gate', 'none; the first import makes one')]),
    found.images === undefined
      ? make('plain', 'store', 'none; the first import makes one')
      : inspectRow(
          'store',
          `${inert(paths.store.path, 300)}, ${plural(found.images, 'image')}`,
          paths.store.path,
        ),
    ...(found.activity.length === 0
      ? []
      : [
          gap(),
          make('heading', 'Last entries of the audit log'),
          ...found.activity.map(({ at, event, detail }) =>
            make('plain', `${formatTime(at)}  ${event}`, detail),
          ),
        ]),
  ];
}
