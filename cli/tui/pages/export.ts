/** Export: choose images, platforms, expiry and output; review; sign; see them go out. */
import path from 'node:path';
import { inert, SealiftError, toSealiftError } from '../../../core/errors.ts';
import type { ImagePreview } from '../../../core/preview.ts';
import type { ExportResult } from '../../../core/results.ts';
import type { NamedLocation } from '../../../core/transport/location.ts';
import type { SourceOptions } from '../../../core/transport/source.ts';
import { lookasideFrom } from '../../options/lookaside.ts';
import { outputFile } from '../../options/paths.ts';
import { temporaryDirectory } from '../../options/source.ts';
import { DEFAULT_RETRY_TIMES, sourceOptionsFrom } from '../../options/source-settings.ts';
import { parseDuration } from '../../options/values.ts';
import { formatSize, plural, shellQuote, shortDigest } from '../../output/format.ts';
import { exportText } from '../../output/report.ts';
import type { App } from '../app.ts';
import { createField } from '../field.ts';
import { row } from '../frame.ts';
import { createList } from '../list.ts';
import type { FileSystemFacts } from '../machine.ts';
import { HIDDEN_LIST_KEYS, type Page, type View } from '../page.ts';
import { clip, clipStart, fold, padTo, pair } from '../text.ts';
import { jsonPage } from './image.ts';
import { refusalPage } from './refusal.ts';
import { mediumText } from './start.ts';
import { keepLines, textPage } from './text.ts';
import { workPage } from './work.ts';

interface Item {
  readonly text: string;
  readonly named: NamedLocation;
  preview?: ImagePreview;
  failure?: string;
}

/** What is being put together; one for each time Export is opened. */
interface Draft {
  items: Item[];
  plainHttp: boolean;
  /** Empty for all. */
  platforms: readonly string[];
  /** Every platform seen while nothing was left out. */
  known: readonly string[];
  expires: string;
  output: string;
  readonly controller: AbortController;
}

/** Questions to sources under way at once. */
const LOOKS = 4;

/** @param retryTimes few while somebody waits for a list, as many as the command has for the transfer */
async function sourceOptions(app: App, draft: Draft, retryTimes = 1): Promise<SourceOptions> {
  const { workflows, env, home, cwd } = app.options;
  return sourceOptionsFrom(
    {
      plainHttp: draft.plainHttp,
      insecureSkipTlsVerify: false,
      caFile: undefined,
      authFile: undefined,
      mirrors: [],
      cache: undefined,
      retryTimes,
      concurrency: LOOKS,
      temporary: temporaryDirectory({ text: () => undefined }, env, cwd),
    },
    { env, homedir: home, cwd, workflows },
  );
}

/** Fetches manifests and evidence of items that were not looked at yet, a few at a time. */
function createLooker(app: App, draft: Draft): () => void {
  let busy = 0;
  const waiting = (): Item | undefined =>
    draft.items.find((item) => item.preview === undefined && item.failure === undefined && !asked.has(item));
  const asked = new WeakSet<Item>();
  async function look(item: Item): Promise<void> {
    try {
      const source = await sourceOptions(app, draft);
      const lookaside = await lookasideFrom(undefined, app.options.home);
      const [preview] = await app.work(
        (context) =>
          app.options.workflows.previewImages(
            {
              images: [item.named],
              platforms: draft.platforms,
              includeEvidence: true,
              lookaside,
              concurrency: LOOKS,
              source,
            },
            context,
          ),
        { signal: draft.controller.signal },
      );
      if (preview === undefined) throw new SealiftError('source-not-found', 'there is no image');
      item.preview = preview;
      if (draft.platforms.length === 0)
        draft.known = [...new Set([...draft.known, ...preview.platforms])].sort();
    } catch (error) {
      const known = toSealiftError(error);
      item.failure = `${known.message}${known.hint === undefined ? '' : `; ${known.hint}`}`;
    } finally {
      busy -= 1;
      start();
      app.changed();
    }
  }
  function start(): void {
    for (let item = waiting(); item !== undefined && busy < LOOKS; item = waiting()) {
      asked.add(item);
      busy += 1;
      look(item).catch(() => {});
    }
  }
  return start;
}

/** Bytes of all distinct blobs, and for each item those that an earlier one brings already. */
function totals(items: readonly Item[]): {
  readonly bytes: number;
  readonly shared: ReadonlyMap<Item, number>;
} {
  const seen = new Set<string>();
  const shared = new Map<Item, number>();
  let bytes = 0;
  for (const item of items) {
    let mine = 0;
    for (const { digest, size } of item.preview?.blobs ?? []) {
      if (seen.has(digest)) mine += size;
      else bytes += size;
      seen.add(digest);
    }
    shared.set(item, mine);
  }
  return { bytes, shared };
}

export function startExport(app: App): void {
  const { machine, paths } = app.options;
  if (!machine.exists(path.join(paths.collection.path, 'collection.json'))) {
    app.push(
      refusalPage(
        app,
        new SealiftError(
          'collection-not-found',
          'there is no collection here whose key could sign an export',
          {
            subject: paths.collection.path,
            hint: `make one first: sealift init ${shellQuote(paths.collection.path)}`,
          },
        ),
        { what: 'Export', effect: 'nothing was written' },
      ),
    );
    return;
  }
  app.push(imagesPage(app));
}

// ---------------------------------------------------------------- images

function imagesPage(app: App): Page {
  const { workflows, cwd, home, machine, style, paths } = app.options;
  const draft: Draft = {
    items: [],
    plainHttp: false,
    platforms: [],
    known: [],
    expires: '90d',
    output: 'images.tar',
    controller: new AbortController(),
  };
  const look = createLooker(app, draft);
  const list = createList<Item>({ key: ({ text }) => text, text: ({ text }) => text });
  const field = createField();
  let asking: 'image' | 'repository' | undefined = 'image';
  const free = machine.space(cwd);
  let facts: FileSystemFacts | undefined;
  free.then(
    (found) => {
      facts = found;
      app.changed();
    },
    () => {},
  );

  async function add(text: string): Promise<void> {
    const named = await workflows.parseLocation(text);
    if (draft.items.some((item) => item.text === text)) return;
    draft.items = [...draft.items, { text, named }];
    list.setItems(draft.items);
    look();
  }
  function take(): void {
    const text = field.value.trim();
    if (text === '') {
      if (draft.items.length > 0) asking = undefined;
      return;
    }
    if (asking === 'repository') {
      field.value = '';
      asking = draft.items.length === 0 ? 'image' : undefined;
      openTags(text);
      return;
    }
    // A directory that is a layout holds many; which of them, is asked.
    const directory = path.resolve(cwd, text.replace(/^oci:/, '').replace(/^~\//, `${home}/`));
    if (machine.exists(path.join(directory, 'oci-layout'))) {
      field.value = '';
      openTags(`oci:${directory}`);
      return;
    }
    add(text).then(
      () => {
        field.value = '';
        app.changed();
      },
      (error: unknown) => {
        const { message, hint } = toSealiftError(error);
        app.say(`${message}${hint === undefined ? '' : `; ${hint}`}`);
      },
    );
  }
  function openTags(location: string): void {
    app.push(
      workPage(app, {
        title: inert(location, 60),
        heading: `Asking ${inert(location, 200)} for its list`,
        harmless: true,
        run: async (context) =>
          workflows.listNames({ location, source: await sourceOptions(app, draft) }, context),
        done: ({ locations, truncated }, self) => {
          if (locations.length === 0) {
            app.pop(self);
            app.say('that source lists nothing; type the name of an image instead');
            return;
          }
          const page: Page = tagsPage(app, location, locations, truncated, (chosen) => {
            app.pop(page);
            asking = undefined;
            for (const one of chosen) {
              add(nameFor(one, location)).catch((error: unknown) => app.say(toSealiftError(error).message));
            }
          });
          app.replace(self, page);
        },
        failed: (error, self) =>
          app.replace(
            self,
            refusalPage(app, error, {
              what: `The list of ${inert(location, 100)}`,
              effect: 'nothing was added',
            }),
          ),
      }),
    );
  }
  /** In a layout a plain tag is no full name; the directory gives the rest, and it can be seen before signing. */
  function nameFor(location: string, layout: string): string {
    if (!layout.startsWith('oci:')) return location.replace(/^docker:\/\//, '');
    const name = location.slice(layout.length + 1);
    if (name.includes('/')) return location;
    const base = path
      .basename(layout)
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '');
    return `localhost/${base || 'image'}:${name}=${location}`;
  }

  return {
    title: 'Export',
    get keys() {
      return [
        { action: 'proceed' },
        { action: 'add' },
        { action: 'tags' },
        { action: 'remove' },
        { action: 'plain', label: draft.plainHttp ? 'use TLS' : 'plain HTTP' },
        { action: 'open' },
        { action: 'filter' },
        ...HIDDEN_LIST_KEYS,
      ] as const;
    },
    get field() {
      return asking === undefined ? list.field : field;
    },
    closed: () => draft.controller.abort(),
    typed: () => {
      if (asking === undefined) list.filterChanged();
    },
    act: (action) => {
      if (asking !== undefined) {
        if (action === 'open') take();
        else if (action === 'back') {
          field.value = '';
          if (asking === 'image' && draft.items.length === 0) {
            asking = undefined;
            return true;
          }
          asking = undefined;
        } else return false;
        return true;
      }
      if (list.act(action)) return true;
      const item = list.current();
      switch (action) {
        case 'add':
          asking = 'image';
          return true;
        case 'tags':
          asking = 'repository';
          return true;
        case 'remove':
          draft.items = draft.items.filter((one) => one !== item);
          list.setItems(draft.items);
          return true;
        case 'plain':
          draft.plainHttp = !draft.plainHttp;
          // What failed may be there now.
          draft.items = draft.items.map(({ text, named, preview }) => ({
            text,
            named,
            ...(preview === undefined ? {} : { preview }),
          }));
          list.setItems(draft.items);
          look();
          return true;
        case 'open':
          if (item?.preview !== undefined) app.push(previewPage(app, item.preview));
          else if (item?.failure !== undefined) app.say(item.failure);
          return true;
        case 'proceed':
          if (draft.items.length === 0) app.say('add an image first: n');
          else if (draft.items.some(({ failure }) => failure !== undefined))
            app.say('one of the images cannot be had; take it out with x');
          else if (draft.items.some(({ preview }) => preview === undefined))
            app.say('still asking the sources');
          else if (draft.known.length > 1) app.push(platformsPage(app, draft));
          else app.push(settingsPage(app, draft));
          return true;
        default:
          return false;
      }
    },
    lines: (view) => {
      const { columns } = view;
      const { bytes, shared } = totals(draft.items);
      const current = list.current();
      const width = Math.max(16, columns - 2 - 10 - 10 - 10 - 1);
      return [
        `${style.bold('Images to carry')}  ${style.dim(`signed by ${inert(paths.collection.path, 200)}`)}`,
        `${plural(draft.items.length, 'image')}, ${formatSize(bytes)} without what is shared${facts === undefined ? '' : `; here ${mediumText(facts)}`}`,
        ...(draft.plainHttp
          ? [
              style.warn(
                `${style.attention} registries are asked without TLS: tags come from whoever answers`,
              ),
            ]
          : []),
        ...(asking === undefined
          ? ['']
          : [
              `${asking === 'image' ? 'image' : 'repository'}: ${field.line(columns - 14, style)}`,
              style.dim(
                asking === 'image'
                  ? 'alpine:3.20, quay.io/acme/app:1.0, oci:DIR:NAME, or a directory; empty when done'
                  : 'a repository such as quay.io/acme/app, or oci:DIR; its tags are listed',
              ),
            ]),
        style.dim(
          `  ${padTo('image', width)}${'size'.padStart(10)}${'shared'.padStart(10)}${'evidence'.padStart(10)}`,
        ),
        ...list.lines(
          view.rows - (asking === undefined ? 7 : 8) - (draft.plainHttp ? 1 : 0),
          style,
          (item, here) =>
            row(
              view,
              here,
              `${padTo(clipStart(inert(item.preview?.name ?? item.text, 400), width - 1, style.unicode), width, style.unicode)}${cells(item, shared, style.unicode)}`,
            ),
        ),
        '',
        ...(current?.preview === undefined
          ? current?.failure === undefined
            ? []
            : fold(`${style.fail} ${inert(current.failure, 600)}`, columns).slice(0, 2)
          : [style.dim(clip(`${current.preview.digest}`, columns, style.unicode))]),
      ];
    },
  };
}

function cells(item: Item, shared: ReadonlyMap<Item, number>, unicode: boolean): string {
  if (item.failure !== undefined) return `${unicode ? '✗' : 'x'} cannot be had`.padStart(30);
  if (item.preview === undefined) return `asking${unicode ? '…' : '...'}`.padStart(30);
  const { size, evidence } = item.preview;
  return (
    formatSize(size).padStart(10) +
    formatSize(shared.get(item) ?? 0).padStart(10) +
    String(evidence.length === 0 ? 'none' : evidence.length).padStart(10)
  );
}

function previewPage(app: App, preview: ImagePreview): Page {
  const { style } = app.options;
  return textPage({
    title: inert(preview.name, 60),
    keys: [{ action: 'copy' }, { action: 'json' }],
    act: (action) => {
      if (action === 'copy') app.copy(preview.digest, 'the digest');
      else if (action === 'json') app.push(jsonPage(app, preview));
      else return false;
      return true;
    },
    lines: ({ columns }) => [
      style.bold(inert(preview.name)),
      ...pair('digest', preview.digest, columns, style),
      ...pair('size', formatSize(preview.size), columns, style),
      ...pair(
        'platforms',
        preview.platforms.map((one) => inert(one)).join(', ') || 'not told',
        columns,
        style,
      ),
      ...(preview.omitted.length === 0
        ? []
        : pair('left out', preview.omitted.map((one) => inert(one)).join(', '), columns, style)),
      '',
      style.bold(
        preview.evidence.length === 0
          ? 'No evidence found'
          : `${plural(preview.evidence.length, 'piece')} of evidence`,
      ),
      ...preview.evidence.map((type) => `  ${inert(type || 'untyped')}`),
      '',
      style.bold(plural(preview.blobs.length, 'blob')),
      ...preview.blobs.map(({ digest, size }) => `  ${shortDigest(digest)}  ${formatSize(size).padStart(8)}`),
    ],
  });
}

function tagsPage(
  app: App,
  location: string,
  locations: readonly string[],
  truncated: boolean,
  chosen: (locations: readonly string[]) => void,
): Page {
  const { style } = app.options;
  const list = createList<string>({
    items: locations,
    key: (item) => item,
    text: (item) => item,
    marks: true,
  });
  return {
    title: inert(location, 60),
    keys: [
      { action: 'mark' },
      { action: 'proceed', label: 'add chosen' },
      { action: 'open', label: 'add this' },
      { action: 'markAll' },
      { action: 'filter' },
      ...HIDDEN_LIST_KEYS,
    ],
    get field() {
      return list.field;
    },
    typed: () => list.filterChanged(),
    act: (action) => {
      if (list.act(action)) return true;
      const current = list.current();
      if (action === 'proceed') {
        if (list.marked.size === 0) app.say('choose with space first');
        else chosen(locations.filter((one) => list.marked.has(one)));
      } else if (action === 'open' && current !== undefined) chosen([current]);
      else return false;
      return true;
    },
    lines: (view) => [
      `${style.bold(inert(location, 200))}  ${list.marked.size} of ${locations.length} chosen${truncated ? '; it has more than are listed' : ''}`,
      '',
      ...list.lines(view.rows - 2, style, (item, here, marked) =>
        row(
          view,
          here,
          `${marked ? '[x]' : '[ ]'} ${inert(item.startsWith(`${location}:`) ? item.slice(location.length + 1) : item.replace(/^docker:\/\//, ''), 300)}`,
        ),
      ),
    ],
  };
}

// ---------------------------------------------------------------- platforms, settings

function platformsPage(app: App, draft: Draft): Page {
  const { style } = app.options;
  const list = createList<string>({
    items: draft.known,
    key: (item) => item,
    text: (item) => item,
    marks: true,
  });
  list.mark(draft.platforms.length === 0 ? draft.known : draft.platforms);
  return {
    title: 'Platforms',
    keys: [
      { action: 'proceed' },
      { action: 'mark' },
      { action: 'markAll' },
      { action: 'filter' },
      ...HIDDEN_LIST_KEYS,
    ],
    get field() {
      return list.field;
    },
    typed: () => list.filterChanged(),
    act: (action) => {
      if (list.act(action)) return true;
      if (action !== 'proceed' && action !== 'open') return false;
      const chosen = draft.known.filter((one) => list.marked.has(one));
      if (chosen.length === 0) {
        app.say('choose at least one platform');
        return true;
      }
      const next = chosen.length === draft.known.length ? [] : chosen;
      if (next.join() !== draft.platforms.join()) {
        draft.platforms = next;
        // Sizes and evidence are others now.
        draft.items = draft.items.map(({ text, named }) => ({ text, named }));
        createLooker(app, draft)();
      }
      app.push(settingsPage(app, draft));
      return true;
    },
    lines: (view) => [
      style.bold('Which platforms?'),
      style.dim(
        'The digest of an image does not change when platforms are left behind; what is missing is listed.',
      ),
      '',
      ...list.lines(view.rows - 3, style, (item, here, marked) =>
        row(view, here, `${marked ? '[x]' : '[ ]'} ${inert(item)}`),
      ),
    ],
  };
}

function settingsPage(app: App, draft: Draft): Page {
  const { style, cwd, home, machine } = app.options;
  const fields = [
    {
      label: 'output',
      field: createField({ value: draft.output }),
      help: 'the file to write; ~/ is your home directory',
    },
    {
      label: 'expires in',
      field: createField({ value: draft.expires }),
      help: 'how long it can be imported: 90d, 12h, 2w',
    },
  ] as const;
  let active = 0;
  let facts: FileSystemFacts | undefined;
  let looked = '';
  const fileOf = (): string => {
    const text = fields[0].field.value.trim();
    return outputFile(text.startsWith('~/') ? path.join(home, text.slice(2)) : text, cwd);
  };
  function lookAtSpace(): void {
    const directory = path.dirname(
      path.resolve(cwd, fields[0].field.value.trim().replace(/^~\//, `${home}/`)),
    );
    if (directory === looked) return;
    looked = directory;
    machine.space(directory).then(
      (found) => {
        facts = found;
        app.changed();
      },
      () => {},
    );
  }
  lookAtSpace();
  function proceed(): void {
    try {
      parseDuration(fields[1].field.value.trim(), 'expires in');
      if (fields[0].field.value.trim() === '')
        throw new SealiftError('invalid-argument', 'name a file to write');
      const file = fileOf();
      if (machine.exists(file)) {
        active = 0;
        app.say(`${inert(file, 200)} is there already; choose another name`);
        return;
      }
      if (!machine.exists(path.dirname(file))) {
        active = 0;
        app.say(`there is no directory ${inert(path.dirname(file), 200)}`);
        return;
      }
      const failed = draft.items.find(({ failure }) => failure !== undefined);
      if (failed !== undefined) {
        app.say(`${inert(failed.text, 100)}: ${inert(failed.failure ?? '', 300)}`);
        return;
      }
      if (draft.items.some(({ preview }) => preview === undefined)) {
        app.say('still asking the sources');
        return;
      }
      draft.output = file;
      draft.expires = fields[1].field.value.trim();
      app.push(reviewPage(app, draft, facts));
    } catch (error) {
      app.say(toSealiftError(error).message);
    }
  }
  return {
    title: 'Output',
    keys: [{ action: 'open', label: 'continue' }, { action: 'next' }, { action: 'up', quiet: true }],
    get field() {
      return fields[active]?.field;
    },
    typed: lookAtSpace,
    act: (action) => {
      if (action === 'next') active = (active + 1) % fields.length;
      else if (action === 'up') active = (active + fields.length - 1) % fields.length;
      else if (action === 'open') {
        if (active < fields.length - 1) active += 1;
        else proceed();
      } else return false;
      return true;
    },
    lines: (view) => {
      const { columns } = view;
      return [
        style.bold('Where to, and for how long?'),
        '',
        ...fields.flatMap(({ label, field, help }, at) => {
          const value = at === active ? field.line(columns - 16, style) : inert(field.value, 1000);
          return [
            `${at === active ? (style.unicode ? '▸' : '>') : ' '} ${padTo(label, 12)}${at === active ? style.bold(value) : value}`,
            style.dim(`              ${help}`),
          ];
        }),
        '',
        ...spaceLines(draft, facts, view),
      ];
    },
  };
}

function spaceLines(
  draft: Draft,
  facts: FileSystemFacts | undefined,
  { style, columns }: View,
): readonly string[] {
  const { bytes } = totals(draft.items);
  const waiting = draft.items.some(({ preview, failure }) => preview === undefined && failure === undefined);
  const needs = waiting ? 'still asking the sources' : `about ${formatSize(bytes)}`;
  if (facts === undefined) return pair('needs', needs, columns, style);
  const tooLarge = facts.maxFileSize !== undefined && bytes > facts.maxFileSize;
  const tooMuch = bytes > facts.freeBytes;
  return [
    ...pair('needs', needs, columns, style),
    ...pair('there', mediumText(facts), columns, style),
    ...(tooMuch ? [style.bad(`${style.fail} that is more than is free there`)] : []),
    ...(tooLarge
      ? [style.bad(`${style.fail} that file system holds no file this large; exFAT or ext4 do`)]
      : []),
  ];
}

// ---------------------------------------------------------------- review, transfer

function commandLine(app: App, draft: Draft): string {
  const { paths } = app.options;
  const words = [
    'sealift',
    'export',
    ...draft.items.map(({ text }) => text),
    ...draft.platforms.flatMap((platform) => ['--platform', platform]),
    ...(draft.plainHttp ? ['--plain-http'] : []),
    ...(draft.expires === '90d' ? [] : ['--expires', draft.expires]),
    ...(paths.collection.from === 'default' ? [] : ['--collection', paths.collection.path]),
    '-o',
    draft.output,
  ];
  return words.map((word) => shellQuote(inert(word, 4096))).join(' ');
}

function reviewPage(app: App, draft: Draft, facts: FileSystemFacts | undefined): Page {
  const { style, paths } = app.options;
  return textPage({
    title: 'Review',
    keys: [
      { action: 'proceed', label: 'sign and write' },
      { action: 'copy', label: 'copy command' },
    ],
    act: (action) => {
      if (action === 'proceed' || action === 'open') runExport(app, draft);
      else if (action === 'copy') app.copy(commandLine(app, draft), 'the command');
      else return false;
      return true;
    },
    lines: (view) => {
      const { columns } = view;
      return [
        style.bold(`Sign and write ${plural(draft.items.length, 'image')}?`),
        '',
        ...pair('output', inert(draft.output, 1000), columns, style),
        ...spaceLines(draft, facts, view),
        ...pair('collection', inert(paths.collection.path, 1000), columns, style),
        ...pair('expires', `in ${draft.expires}`, columns, style),
        ...pair(
          'platforms',
          draft.platforms.length === 0 ? 'all' : draft.platforms.map((one) => inert(one)).join(', '),
          columns,
          style,
        ),
        ...(draft.plainHttp ? [style.warn(`${style.attention} without TLS`)] : []),
        '',
        ...draft.items.flatMap(({ text, preview }) => [
          `  ${inert(preview?.name ?? text, 400)}`,
          style.dim(`    ${preview?.digest ?? ''}`),
        ]),
        '',
        style.bold('The same as a command'),
        ...fold(commandLine(app, draft), columns - 2, '  '),
      ];
    },
  });
}

function runExport(app: App, draft: Draft): void {
  const { workflows, paths, pid, home } = app.options;
  app.push(
    workPage<ExportResult>(app, {
      title: 'Exporting',
      heading: `Writing ${inert(draft.output, 300)}`,
      run: async (context) =>
        workflows.exportBundle(
          {
            collection: paths.collection.path,
            images: draft.items.map(({ named }) => named),
            output: { kind: 'file', path: draft.output },
            platforms: draft.platforms,
            lifetime: parseDuration(draft.expires, 'expires in'),
            includeEvidence: true,
            dockerArchive: false,
            force: false,
            concurrency: 4,
            lookaside: await lookasideFrom(undefined, home),
            source: await sourceOptions(app, draft, DEFAULT_RETRY_TIMES),
            passphrase: (purpose) => askPassphrase(app, purpose, context.signal),
            pid,
          },
          context,
        ),
      done: (result, self) => app.replace(self, exportedPage(app, result)),
      failed: (error, self, checks) => {
        const again = `the same export goes on where this one stopped: ${commandLine(app, draft)}`;
        const hint = error.code === 'cancelled' && app.stopping ? again : error.hint;
        const refusal: Page = refusalPage(
          app,
          new SealiftError(error.code, error.message, { ...errorParts(error), hint }),
          {
            what: 'The export',
            effect: `there is no ${inert(path.basename(draft.output), 100)}; what was fetched is kept and used the next time`,
            checks,
            again: () => {
              app.pop(refusal);
              runExport(app, draft);
            },
          },
        );
        app.replace(self, refusal);
      },
    }),
  );
}

function errorParts({ subject, got, want, check, cause }: SealiftError) {
  return { subject, got, want, check, cause };
}

/** Asked when the key is needed, and only then: an export that goes on was signed already. */
function askPassphrase(app: App, purpose: string, signal: AbortSignal): Promise<string | undefined> {
  const { style } = app.options;
  return new Promise((resolve, reject) => {
    const field = createField({ secret: true });
    let settled = false;
    const settle = (act: () => void): void => {
      if (settled) return;
      settled = true;
      act();
      field.value = '';
    };
    const stop = (): void => settle(() => reject(new SealiftError('cancelled', 'no passphrase was given')));
    signal.addEventListener('abort', stop, { once: true });
    const page: Page = {
      title: 'Passphrase',
      keys: [
        { action: 'open', label: 'sign' },
        { action: 'no', label: 'do not sign' },
      ],
      get field() {
        return field;
      },
      closed: stop,
      act: (action) => {
        if (action === 'no') app.pop(page);
        else if (action === 'open' && field.value === '') app.say('an empty passphrase protects nothing');
        else if (action === 'open') {
          const { value } = field;
          settle(() => resolve(value));
          app.pop(page);
        } else return false;
        return true;
      },
      lines: ({ columns }) => [
        style.bold(`Passphrase for the ${inert(purpose, 200)}`),
        '',
        `  ${field.line(columns - 4, style)}`,
        '',
        style.dim('It is not shown and not kept.'),
      ],
    };
    app.push(page);
  });
}

function exportedPage(app: App, result: ExportResult): Page {
  const { style, readNow } = app.options;
  const text = exportText(result, { style, now: readNow(), checksShown: true });
  app.leaveBehind(text);
  return textPage({
    title: 'Exported',
    keys: [
      { action: 'open', label: 'to the start' },
      { action: 'copy', label: 'copy fingerprint' },
      { action: 'json' },
    ],
    act: (action) => {
      if (action === 'open') app.home();
      else if (action === 'copy') app.copy(result.collection.rootFingerprint, 'the fingerprint of the root');
      else if (action === 'json') app.push(jsonPage(app, result));
      else return false;
      return true;
    },
    lines: ({ columns }) => keepLines(text, columns),
  });
}
