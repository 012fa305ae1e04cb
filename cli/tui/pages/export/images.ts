/** The images of an export: typed, browsed for or read from a list, each with what is known of it so far. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError, toSealiftError } from '../../../../core/errors.ts';
import type { ImagePreview } from '../../../../core/preview.ts';
import { formatSize, plural, shortDigest } from '../../../output/format.ts';
import type { App } from '../../app.ts';
import { createField } from '../../field.ts';
import { mark, row } from '../../frame.ts';
import type { Action } from '../../keys.ts';
import { createList } from '../../list.ts';
import type { FileSystemFacts } from '../../machine.ts';
import { HIDDEN_LIST_KEYS, type KeyHint, type Page, type View } from '../../page.ts';
import { clip, clipStart, fold, padTo, pair } from '../../text.ts';
import { jsonPage } from '../image.ts';
import { textPage } from '../text.ts';
import { browse } from './browse.ts';
import {
  chosenItems,
  createDraft,
  createLooker,
  createTotals,
  type Draft,
  expandPath,
  forget,
  type Item,
  type Totals,
} from './draft.ts';
import { platformsPage, settingsPage, sourcesPage, spaceText } from './settings.ts';
import { createSuggester, isPath } from './suggest.ts';

/** What is typed at the moment. */
type Asking = 'image' | 'place' | 'list';

const QUESTIONS: Readonly<Record<Asking, readonly [label: string, help: string]>> = {
  image: ['image', 'alpine:3.20, quay.io/acme/app:1.0, a directory or an archive; empty when done'],
  place: ['browse', 'quay.io, quay.io/acme/app, oci:DIR, docker-archive:FILE, bundle:FILE'],
  list: ['list file', 'one image a line, or any YAML: Kubernetes, compose, helm template'],
};

const MOST_SUGGESTIONS = 4;

export function imagesPage(app: App): Page {
  const { workflows, machine, style } = app.options;
  const draft = createDraft(app);
  const look = createLooker(app, draft);
  const totals = createTotals(draft);
  const suggester = createSuggester(app, draft);
  const list = createList<Item>({
    key: ({ text }) => text,
    text: ({ text, previews }) => `${text} ${previews?.map(({ name }) => name).join(' ') ?? ''}`,
    marks: draft.chosen,
  });
  const field = createField();
  let asking: Asking | undefined = 'image';
  let suggestion = -1;
  let facts: FileSystemFacts | undefined;

  function lookAtSpace(): void {
    machine.space(path.dirname(expandPath(app, draft.output))).then(
      (found) => {
        facts = found;
        app.changed();
      },
      () => {},
    );
  }
  machine.media().then(
    (media) => {
      const [stick] = media;
      // What travels is best written to where it travels; with several there is nothing to guess.
      if (stick !== undefined && media.length === 1) draft.output = path.join(stick.directory, 'images.tar');
      lookAtSpace();
    },
    () => lookAtSpace(),
  );

  async function add(texts: readonly string[]): Promise<void> {
    const parsed: Item[] = [];
    for (const text of new Set(texts)) parsed.push({ text, named: await workflows.parseLocation(text) });
    // What was added meanwhile is known now.
    const known = new Set(draft.items.map(({ text }) => text));
    const fresh = parsed.filter(({ text }) => !known.has(text));
    for (const { text } of fresh) draft.chosen.add(text);
    draft.items = [...draft.items, ...fresh];
    list.setItems(draft.items);
    // What is said of the newest is what one waits for.
    const newest = fresh.at(-1) ?? parsed.at(-1);
    if (newest !== undefined) list.point(newest.text);
    look();
    app.changed();
  }
  function tell(error: unknown): void {
    const { message, hint } = toSealiftError(error);
    app.say(`${message}${hint === undefined ? '' : `; ${hint}`}`);
  }
  async function addList(text: string): Promise<void> {
    const file = expandPath(app, text);
    const limits = await workflows.limits();
    const { size } = await stat(file).catch((cause: unknown) => {
      throw new SealiftError('invalid-argument', 'there is no such list', { subject: inert(file), cause });
    });
    if (size > limits.listFile)
      throw new SealiftError('list-invalid', `the list is too large: want at most ${limits.listFile} bytes`);
    const { images, skipped } = await workflows.parseImageList(await readFile(file), file, limits);
    if (images.length === 0) throw new SealiftError('list-invalid', 'the list names no image');
    await add(images.map(({ location }) => location.text));
    app.say(
      `${plural(images.length, 'image')} from the list${skipped.length === 0 ? '' : `; left out: ${skipped.map(({ value, reason }) => `${value} (${reason})`).join(', ')}`}`,
    );
  }
  function openBrowser(location: string): void {
    asking = undefined;
    browse(app, draft, location, (chosen) => {
      add(chosen).catch(tell);
    });
  }
  /** What was typed may be an image, or a place that holds several. */
  async function addTyped(text: string): Promise<void> {
    const place = await placeOf(app, text);
    if (place === undefined) await add([text]);
    else openBrowser(place);
  }
  function take(): void {
    const picked = suggester.suggest(field.value)[suggestion];
    if (picked !== undefined) {
      complete(picked);
      // A directory, or a repository whose tags are not chosen yet, is on the way to something.
      if (picked.endsWith('/') || !/[:@]/.test(picked.slice(picked.lastIndexOf('/') + 1))) return;
    }
    const text = field.value.trim();
    if (text === '') {
      if (draft.items.length > 0) asking = undefined;
      return;
    }
    const question = asking;
    const run = async (): Promise<void> => {
      if (question === 'list') await addList(text);
      else if (question === 'place') openBrowser(text);
      else await addTyped(text);
    };
    // Whoever types fast is at the next one before this one is taken.
    field.value = '';
    run().then(
      () => {
        // A list and a place are one; of images there are mostly several.
        if (question !== 'image') asking = undefined;
        app.changed();
      },
      (error: unknown) => {
        if (field.value === '') field.value = text;
        tell(error);
      },
    );
  }
  function complete(text: string): void {
    field.value = text;
    suggestion = -1;
    suggester.typed(text);
  }
  function actWhileAsking(action: Action): boolean {
    const found = suggester.suggest(field.value);
    switch (action) {
      case 'open':
        take();
        return true;
      case 'back':
        field.value = '';
        suggestion = -1;
        asking = undefined;
        return true;
      case 'complete': {
        const picked = found[Math.max(0, suggestion)];
        if (picked === undefined) app.say('nothing is known that begins like that');
        else complete(picked);
        return true;
      }
      case 'down':
        suggestion = Math.min(found.length - 1, suggestion + 1);
        return true;
      case 'up':
        suggestion = Math.max(-1, suggestion - 1);
        return true;
      default:
        return false;
    }
  }
  const changeSources = (): void => {
    forget(draft);
    list.setItems(draft.items);
    look();
  };
  const goOn = (): void => {
    const { waiting, failed, platforms } = totals();
    if (draft.items.length === 0) app.say('add an image first: n');
    else if (chosenItems(draft).length === 0) app.say('choose at least one image with space');
    else if (failed.length > 0)
      app.say('a chosen image cannot be had; take it out with x, or leave it with space');
    else if (waiting > 0) app.say(`still asking the sources for ${plural(waiting, 'image')}`);
    else {
      const settings = (): void => app.push(settingsPage(app, draft, totals, lookAtSpace));
      if (platforms.size > 1 || draft.platforms.length > 0)
        app.push(platformsPage(app, draft, totals, changeSources, settings));
      else settings();
    }
  };
  function actOnList(action: Action): boolean {
    const item = list.current();
    switch (action) {
      case 'add':
        asking = 'image';
        return true;
      case 'tags':
        asking = 'place';
        return true;
      case 'list':
        asking = 'list';
        return true;
      case 'remove':
        if (item !== undefined) draft.chosen.delete(item.text);
        draft.items = draft.items.filter((one) => one !== item);
        list.setItems(draft.items);
        return true;
      case 'plain':
        draft.sources = {
          ...draft.sources,
          connection: draft.sources.connection === 'tls' ? 'plain' : 'tls',
        };
        changeSources();
        return true;
      case 'options':
        app.push(sourcesPage(app, draft, changeSources));
        return true;
      case 'open':
        if (item?.previews !== undefined) app.push(previewPage(app, item.previews));
        else if (item?.failure !== undefined) {
          const { location } = item.named;
          if (location.kind === 'docker')
            openBrowser(`${location.reference.domain}/${location.reference.path}`);
          else app.say(item.failure);
        }
        return true;
      case 'proceed':
        goOn();
        return true;
      default:
        return false;
    }
  }
  return {
    kind: 'images',
    title: 'Export',
    get keys(): readonly KeyHint[] {
      if (asking !== undefined)
        return [
          { action: 'open', label: asking === 'image' ? 'add' : 'read' },
          { action: 'complete' },
          { action: 'down', label: 'suggestions' },
          { action: 'up', quiet: true },
        ];
      return [
        { action: 'proceed' },
        { action: 'add' },
        { action: 'tags' },
        { action: 'list' },
        { action: 'mark' },
        { action: 'remove' },
        { action: 'options', label: 'TLS, CA, evidence' },
        { action: 'open' },
        { action: 'filter' },
        { action: 'markAll' },
        { action: 'plain', label: draft.sources.connection === 'plain' ? 'use TLS' : 'plain HTTP' },
        ...HIDDEN_LIST_KEYS,
      ];
    },
    get field() {
      return asking === undefined ? list.field : field;
    },
    closed: () => {
      suggester.close();
      draft.controller.abort();
    },
    shown: lookAtSpace,
    typed: () => {
      if (asking === undefined) list.filterChanged();
      else {
        suggestion = -1;
        suggester.typed(field.value);
      }
    },
    act: (action) => (asking === undefined ? list.act(action) || actOnList(action) : actWhileAsking(action)),
    lines: (view) => {
      const { columns, rows } = view;
      const sum = totals();
      const current = list.current();
      const head = [
        `${style.bold('Images to carry')}  ${style.dim(`signed by ${inert(draft.collection, 200)}`)}`,
        clip(
          `${chosenItems(draft).length} of ${plural(draft.items.length, 'image')}, ${formatSize(sum.bytes)}, shared parts once; ${spaceText(draft, sum, facts, view)}`,
          columns,
          style.unicode,
        ),
        ...connectionWarning(draft, view),
        ...(asking === undefined ? [''] : question(asking, view)),
      ];
      const wide = columns >= 100;
      const width = Math.max(16, columns - 2 - 4 - 10 - 10 - 10 - (wide ? 24 : 0));
      const below = detail(current, view);
      const room = rows - head.length - 1 - below.length;
      return [
        ...head,
        style.dim(
          `      ${padTo('image', width)}${'size'.padStart(10)}${'shared'.padStart(10)}${'evidence'.padStart(10)}${wide ? '  platforms' : ''}`,
        ),
        ...(draft.items.length === 0 && asking === undefined
          ? [style.dim('none yet: n types one, t browses a registry or a layout, f reads a list')]
          : []),
        ...list.lines(room, style, (item, here, marked) =>
          row(
            view,
            here,
            `${mark(view, marked)} ${padTo(clipStart(nameOf(item), width - 1, style.unicode), width, style.unicode)}${cells(item, sum, view)}`,
          ),
        ),
        ...below,
      ];
    },
  };

  function question(what: Asking, { columns }: View): readonly string[] {
    const [label, help] = QUESTIONS[what];
    const found = suggester.suggest(field.value);
    const top = Math.max(0, Math.min(suggestion, found.length - MOST_SUGGESTIONS));
    return [
      `${label}: ${field.line(columns - label.length - 4, style)}`,
      ...(found.length === 0
        ? [style.dim(help)]
        : found
            .slice(top, top + MOST_SUGGESTIONS)
            .map((text, at) =>
              clip(
                `${at + top === suggestion ? (style.unicode ? '  ▸ ' : '  > ') : '    '}${inert(text, 400)}${at === MOST_SUGGESTIONS - 1 && found.length > top + MOST_SUGGESTIONS ? style.dim(`  and ${found.length - top - MOST_SUGGESTIONS} more`) : ''}`,
                columns,
                style.unicode,
              ),
            )),
    ];
  }
}

function nameOf({ text, previews }: Item): string {
  const [first, ...more] = previews ?? [];
  if (first === undefined) return inert(text, 400);
  return `${inert(first.name, 400)}${more.length === 0 ? '' : ` and ${more.length} more`}`;
}

/** Where `text` is no image but a place that holds some, that place as it can be listed. */
async function placeOf(app: App, text: string): Promise<string | undefined> {
  const { machine } = app.options;
  const { registryHost } = await import('../../../../core/preview.ts');
  if (registryHost(text) !== undefined) return text;
  const kind = /^([a-z-]+):(?=[./~])/.exec(text)?.[1];
  if (!isPath(text) && !machine.exists(path.join(expandPath(app, text), 'oci-layout'))) return undefined;
  const place = expandPath(app, kind === undefined ? text : text.slice(kind.length + 1));
  if (!machine.exists(place)) return undefined;
  if (kind !== undefined) return kind === 'file' || kind === 'static' ? undefined : `${kind}:${place}`;
  return (await machine.kindOf(place)) ?? undefined;
}

function cells(item: Item, { shared }: Totals, { style, columns }: View): string {
  const wide = columns >= 100;
  if (item.failure !== undefined)
    return padTo(`${`${style.unicode ? '✗' : 'x'} cannot be had`.padStart(30)}`, 30);
  if (item.previews === undefined) return `asking${style.unicode ? '…' : '...'}`.padStart(30);
  const sum = (of: (preview: ImagePreview) => number): number =>
    (item.previews ?? []).reduce((before, preview) => before + of(preview), 0);
  const evidence = sum((preview) => preview.evidence.length);
  const platforms = [...new Set(item.previews.flatMap((preview) => preview.platforms))];
  return (
    formatSize(sum(({ size }) => size)).padStart(10) +
    formatSize(shared.get(item.text) ?? 0).padStart(10) +
    String(evidence === 0 ? 'none' : evidence).padStart(10) +
    (wide ? `  ${clip(platforms.map((one) => inert(one)).join(', ') || '-', 22, style.unicode)}` : '')
  );
}

/** What there is to say of the line the pointer is at: its digest and its evidence by kind, or why it cannot be had. */
function detail(item: Item | undefined, { style, columns }: View): readonly string[] {
  if (item?.failure !== undefined)
    return [
      '',
      ...fold(`${style.fail} ${inert(item.failure, 600)}`, columns).slice(0, 2),
      ...(item.named.location.kind === 'docker'
        ? [style.dim('enter lists the tags of the repository; p asks without TLS; x takes it out')]
        : []),
    ];
  const [preview] = item?.previews ?? [];
  if (preview === undefined) return [];
  const kinds = countBy(preview.evidence.map((type) => type.replace(/^application\//, '') || 'untyped'));
  const text = [...kinds].map(([kind, count]) => `${count} x ${inert(kind, 80)}`).join(', ');
  return [
    '',
    style.dim(clip(preview.digest, columns, style.unicode)),
    ...(text === '' ? [] : [style.dim(clip(`evidence: ${text}`, columns, style.unicode))]),
  ];
}

function countBy(texts: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}

export function connectionWarning(
  { sources: { connection } }: Draft,
  { style }: Pick<View, 'style'>,
): readonly string[] {
  if (connection === 'tls') return [];
  return [
    style.warn(
      connection === 'plain'
        ? `${style.attention} registries are asked without TLS: tags come from whoever answers`
        : `${style.attention} certificates are not checked: tags come from whoever answers`,
    ),
  ];
}

function previewPage(app: App, previews: readonly ImagePreview[]): Page {
  const { style } = app.options;
  const [first] = previews;
  return textPage({
    kind: 'preview',
    title: inert(first?.name ?? '', 60),
    keys: [{ action: 'copy' }, { action: 'json' }],
    act: (action) => {
      if (action === 'copy') app.copy(first?.digest ?? '', 'the digest');
      else if (action === 'json') app.push(jsonPage(app, previews));
      else return false;
      return true;
    },
    lines: ({ columns }) =>
      previews.flatMap((preview, at) => [
        ...(at === 0 ? [] : ['']),
        style.bold(inert(preview.name)),
        ...pair('digest', preview.digest, columns, style),
        ...pair('type', inert(preview.mediaType), columns, style),
        ...pair('from', inert(preview.location, 1000), columns, style),
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
        ...(preview.digestMadeHere
          ? pair('note', 'the source does not know this digest; it is made here', columns, style)
          : []),
        '',
        style.bold(
          preview.evidence.length === 0
            ? 'No evidence found'
            : `${plural(preview.evidence.length, 'piece')} of evidence`,
        ),
        ...preview.evidence.map((type) => `  ${inert(type || 'untyped')}`),
        '',
        style.bold(plural(preview.blobs.length, 'blob')),
        ...preview.blobs.map(
          ({ digest, size }) => `  ${shortDigest(digest)}  ${formatSize(size).padStart(8)}`,
        ),
      ]),
  });
}
