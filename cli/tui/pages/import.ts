/** Import: choose a bundle, see the checks, pin the first time, choose images, confirm, see them come in. */
import path from 'node:path';
import { inert } from '../../../core/errors.ts';
import { CHECKS } from '../../../core/events.ts';
import type { ImageVerdict, ImportResult, VerifyResult } from '../../../core/results.ts';
import type { ImageRecord } from '../../../core/store/store.ts';
import type { RootSummary } from '../../../core/trust-admin.ts';
import { formatDistance, formatSize, formatTime, groupedFingerprint, plural } from '../../output/format.ts';
import { importText } from '../../output/report.ts';
import type { App } from '../app.ts';
import { createField } from '../field.ts';
import { row } from '../frame.ts';
import { createList } from '../list.ts';
import { HIDDEN_LIST_KEYS, type Page } from '../page.ts';
import { clip, fold, padTo, pair } from '../text.ts';
import { choosePage } from './choose.ts';
import { imagePage, jsonPage } from './image.ts';
import { refusalPage } from './refusal.ts';
import { keepLines, textPage } from './text.ts';
import { verdictWord } from './verdict-word.ts';
import { JUDGE_CHECKS, workPage } from './work.ts';

const NOTHING_CHANGED = 'nothing was let in; the images of the store are as they were';

export function chooseBundle(app: App): void {
  app.push(
    choosePage(app, {
      title: 'Import',
      heading: 'Which bundle?',
      nothing: 'no bundle was found on removable media or in this directory',
      find: () => findBundles(app),
      chosen: (file) => startImport(app, file),
    }),
  );
}

export async function findBundles(app: App): Promise<readonly { path: string; detail: string }[]> {
  const { machine, cwd } = app.options;
  const [media, here] = await Promise.all([machine.media(), machine.bundlesIn(cwd)]);
  const all = [...media.flatMap(({ bundles }) => bundles), ...here];
  return [...new Map(all.map((bundle) => [bundle.file, bundle])).values()].map(
    ({ file, size, modified }) => ({
      path: file,
      detail: `${formatSize(size)}, ${formatTime(modified)}`,
    }),
  );
}

/** Judges a bundle and goes on from what comes out; in place of `old` where there is one. */
export function startImport(app: App, file: string, old?: Page): void {
  const { workflows, paths } = app.options;
  const name = inert(path.basename(file), 60);
  const page = workPage<VerifyResult>(app, {
    title: name,
    heading: `Checking ${inert(file, 300)}`,
    checks: JUDGE_CHECKS,
    harmless: true,
    run: (context) =>
      workflows.verifyBundle(
        {
          bundle: { kind: 'file', path: file },
          gate: paths.gate.path,
          names: [],
          deep: false,
          overrides: { allowClockJump: false },
        },
        context,
      ),
    done: (result, self) => showVerdicts(app, file, result, self),
    failed: (error, self, checks) => {
      if (error.code === 'not-pinned') readPin(app, file, self);
      else {
        const refusal: Page = refusalPage(app, error, {
          what: name,
          effect: NOTHING_CHANGED,
          checks,
          again: () => startImport(app, file, refusal),
        });
        app.replace(self, refusal);
      }
    },
  });
  if (old === undefined) app.push(page);
  else app.replace(old, page);
}

// ---------------------------------------------------------------- pin

function readPin(app: App, file: string, old: Page): void {
  const name = inert(path.basename(file), 60);
  const page = workPage<RootSummary>(app, {
    title: name,
    heading: 'Reading the root of the collection',
    harmless: true,
    run: (context) => app.options.workflows.readRoot(file, context),
    done: (root, self) => app.replace(self, pinPage(app, file, root)),
    failed: (error, self) =>
      app.replace(self, refusalPage(app, error, { what: name, effect: NOTHING_CHANGED })),
  });
  app.replace(old, page);
}

const TYPED = 8;

/**
 * The fingerprint of the bundle without its end beside what is typed: the end can only come from the sender. What
 * is shown is there to be compared, what is hidden to make sure that somebody did.
 */
export function pinPage(app: App, file: string, root: RootSummary): Page {
  const { style, workflows, paths, pid, actor } = app.options;
  const field = createField({ allow: /[0-9a-fA-F]/, max: TYPED });
  const shown = root.fingerprint.slice(0, -TYPED);
  const hidden = style.unicode ? '·' : '.';
  let wrong = 0;
  let pinning = false;
  function pin(): void {
    if (field.value.length < TYPED) {
      app.say(`type the last ${TYPED} characters, ${TYPED - field.value.length} to go`);
      return;
    }
    if (field.value.toLowerCase() !== root.fingerprint.slice(-TYPED)) {
      wrong += 1;
      field.value = '';
      app.say('that is another fingerprint than the one in this bundle; nothing was pinned');
      return;
    }
    pinning = true;
    app
      .work(
        (context) =>
          workflows.pinRoot(
            { gate: paths.gate.path, source: file, fingerprint: root.fingerprint, scopes: [], pid, actor },
            context,
          ),
        {},
      )
      .then(
        (result) => {
          app.leaveBehind(
            `pinned the collection ${inert(result.collectionName)} by the root fingerprint ${result.fingerprint}`,
          );
          startImport(app, file, page);
          app.say('pinned; from now on its bundles are judged by this root');
        },
        (error) =>
          app.replace(page, refusalPage(app, error, { what: 'Pinning', effect: 'nothing was pinned' })),
      );
  }
  const page: Page = {
    title: 'Pin',
    keys: [{ action: 'open', label: 'pin' }],
    get field() {
      return pinning ? undefined : field;
    },
    get busy() {
      return pinning;
    },
    act: (action) => {
      if (action !== 'open') return false;
      if (!pinning) pin();
      return true;
    },
    lines: ({ columns }) => {
      const bundle = groupedFingerprint(shown + hidden.repeat(TYPED));
      const phone = groupedFingerprint(
        hidden.repeat(root.fingerprint.length - TYPED) + field.value.toLowerCase().padEnd(TYPED, '_'),
      );
      const sideBySide = columns >= 90;
      const column = 42;
      return [
        style.bold(
          `This gate does not know the collection ${root.collectionName === '' ? 'of this bundle' : `"${inert(root.collectionName, 60)}"`} yet.`,
        ),
        '',
        ...fold(
          'Whoever sent the bundle reads the fingerprint of its root to you by telephone (sealift trust root). Compare group by group, and type the last eight characters as you hear them. They are not shown here, and must not come from the medium.',
          columns,
        ),
        '',
        ...(sideBySide
          ? [
              `${padTo(style.dim('in this bundle'), column)}${style.dim('by telephone')}`,
              ...bundle.map((group, at) => `${padTo(group, column)}${style.bold(phone[at] ?? '')}`),
            ]
          : [
              style.dim('in this bundle'),
              ...bundle.map((group) => `  ${group}`),
              style.dim('by telephone'),
              ...phone.slice(-1).map((group) => `  ${style.bold(group)}`),
            ]),
        '',
        ...(wrong === 0
          ? []
          : fold(
              `${style.attention} ${plural(wrong, 'wrong answer')}: if it is read to you again and still differs, do not import this bundle`,
              columns,
            )),
        ...pair('gate', inert(paths.gate.path, 300), columns, style),
        ...pair('scope', 'every name; sealift trust pin --scope narrows it', columns, style),
        ...root.keys.flatMap((key) =>
          pair(
            'key',
            `${inert(key.type)} ${inert(key.userId ?? key.keyId.slice(0, 16), 100)}`,
            columns,
            style,
          ),
        ),
      ];
    },
  };
  return page;
}

// ---------------------------------------------------------------- verdicts

function showVerdicts(app: App, file: string, result: VerifyResult, old: Page): void {
  const { workflows, paths, machine } = app.options;
  const load = machine.exists(paths.store.path)
    ? workflows.listStore(paths.store.path).then(({ images }) => images)
    : Promise.resolve([]);
  load
    .catch(() => [])
    .then((images: readonly ImageRecord[]) => app.replace(old, verdictsPage(app, file, result, images)))
    .catch(() => {});
}

function changeOf(
  image: ImageVerdict,
  records: ReadonlyMap<string, ImageRecord>,
): 'new' | 'same' | 'changed' {
  const record = records.get(image.name);
  if (record === undefined) return 'new';
  return record.digest === image.digest ? 'same' : 'changed';
}

export function verdictsPage(
  app: App,
  file: string,
  result: VerifyResult,
  inStore: readonly ImageRecord[],
): Page {
  const { style, paths } = app.options;
  const records = new Map(inStore.map((record) => [record.name, record]));
  const list = createList<ImageVerdict>({
    items: result.images,
    key: ({ name }) => name,
    text: ({ name, verdict }) => `${name} ${verdict}`,
    marks: true,
  });
  list.mark(result.images.map(({ name }) => name));
  const { collection } = result;

  function describeChange(image: ImageVerdict): string {
    const change = changeOf(image, records);
    const record = records.get(image.name);
    if (change === 'new') return 'not there yet';
    if (change === 'same') return 'there already, with the same digest';
    return `replaces ${record?.digest ?? ''}, of version ${record?.bundleVersion ?? '?'}, let in ${formatTime(record?.importedAt ?? '')}`;
  }
  const page: Page = {
    title: inert(path.basename(file), 60),
    keys: [
      { action: 'proceed', label: 'import' },
      { action: 'open' },
      { action: 'mark' },
      { action: 'markAll' },
      { action: 'filter' },
      { action: 'copy' },
      { action: 'json' },
      ...HIDDEN_LIST_KEYS,
    ],
    get field() {
      return list.field;
    },
    typed: () => list.filterChanged(),
    act: (action) => {
      if (list.act(action)) return true;
      const image = list.current();
      switch (action) {
        case 'open':
          if (image) app.push(imagePage(app, image, { location: file, change: describeChange(image) }));
          return true;
        case 'copy':
          if (image) app.copy(image.digest, `the digest of ${inert(image.name, 60)}`);
          return true;
        case 'json':
          app.push(jsonPage(app, result));
          return true;
        case 'proceed': {
          const only = result.images.map(({ name }) => name).filter((name) => list.marked.has(name));
          if (only.length === 0) app.say('choose at least one image with space');
          else letIn(app, file, only.length === result.images.length ? [] : only);
          return true;
        }
        default:
          return false;
      }
    },
    lines: (view) => {
      const { columns } = view;
      const chosen = result.images.filter(({ name }) => list.marked.has(name));
      const wide = columns >= 100;
      const width = columns - 2 - 4 - 12 - 9 - 9 - (wide ? 24 : 0);
      const head = [
        `${style.pass} ${style.good('every check passed')}; layers are checked on their way in`,
        `${inert(collection.name, 40)}, version ${collection.version}, expires ${formatDistance(collection.expires, view.now)}`,
        clip(
          `${chosen.length} of ${plural(result.images.length, 'image')} chosen, ${formatSize(chosen.reduce((sum, { size }) => sum + size, 0))}, into ${inert(paths.store.path, 300)}`,
          columns,
          style.unicode,
        ),
        ...result.withdrawn.map(({ name }) => `${style.attention} withdrawn: ${inert(name, 200)}`),
        ...result.vanished.map((name) => `${style.attention} no longer listed, kept: ${inert(name, 200)}`),
      ].slice(0, 6);
      const header = style.dim(
        `      ${'verdict'.padEnd(12)}${'image'.padEnd(width)}${'size'.padStart(8)} ${'in store'.padEnd(8)}${wide ? '  platforms' : ''}`,
      );
      const current = list.current();
      const why = current === undefined ? '' : style.dim(`why: ${inert(current.reason)}`);
      return [
        ...head,
        '',
        header,
        ...list.lines(view.rows - head.length - 4, style, (image, here, marked) =>
          row(
            view,
            here,
            `${marked ? '[x]' : '[ ]'} ${padTo(verdictWord(image.verdict, style), 12)}${padTo(inert(image.name), width, style.unicode)}${formatSize(image.size).padStart(8)} ${changeOf(image, records).padEnd(8)}${wide ? `  ${clip(platformsText(image), 22, style.unicode)}` : ''}`,
          ),
        ),
        '',
        why,
      ];
    },
  };
  return page;
}

function platformsText(image: ImageVerdict): string {
  return image.platforms.length === 0 ? '-' : image.platforms.map((one) => inert(one)).join(', ');
}

// ---------------------------------------------------------------- import

function letIn(app: App, file: string, only: readonly string[]): void {
  const { workflows, paths, pid, actor } = app.options;
  const name = inert(path.basename(file), 60);
  let declined = false;
  const page = workPage<ImportResult>(app, {
    title: 'Importing',
    heading: `Importing ${name} into ${inert(paths.store.path, 300)}`,
    checks: CHECKS,
    run: (context) =>
      workflows.importBundle(
        {
          bundle: { kind: 'file', path: file },
          gate: paths.gate.path,
          store: paths.store.path,
          only,
          overrides: { allowClockJump: false },
          confirm: async (found) => {
            const answer = await confirmPage(app, file, found, context.signal);
            declined = !answer;
            return answer;
          },
          concurrency: 4,
          pid,
          actor,
        },
        context,
      ),
    done: (result, self) => app.replace(self, importedPage(app, result)),
    failed: (error, self, checks) => {
      if (declined && !app.stopping) {
        app.pop(self);
        app.say('nothing was imported');
        return;
      }
      const resumable = error.code === 'cancelled' || error.category === 'destination';
      app.replace(
        self,
        refusalPage(
          app,
          resumable
            ? error.with({ hint: `import ${name} again: it goes on with what is there already` })
            : error,
          {
            what: `The import of ${name}`,
            effect: NOTHING_CHANGED,
            checks,
          },
        ),
      );
    },
  });
  app.push(page);
}

/** The question before the first layer is read, with what the import itself has found. */
function confirmPage(app: App, file: string, found: VerifyResult, signal: AbortSignal): Promise<boolean> {
  const { style, paths } = app.options;
  return new Promise((resolve) => {
    let answered = false;
    const answer = (value: boolean): void => {
      if (answered) return;
      answered = true;
      resolve(value);
    };
    signal.addEventListener('abort', () => answer(false), { once: true });
    const page = textPage({
      title: 'Confirm',
      keys: [
        { action: 'yes', label: 'import' },
        { action: 'no', label: 'do not' },
      ],
      act: (action) => {
        if (action === 'quit' || action === 'back') {
          app.say('answer with y or n');
          return true;
        }
        if (action !== 'yes' && action !== 'no') return false;
        answer(action === 'yes');
        app.pop(page);
        return true;
      },
      closed: () => answer(false),
      lines: ({ columns, now }) => [
        style.bold(`Let ${plural(found.images.length, 'image')} into the store?`),
        '',
        ...pair('bundle', `${inert(file, 400)}, ${formatSize(found.size)}`, columns, style),
        ...pair('store', inert(paths.store.path, 400), columns, style),
        ...pair(
          'collection',
          `${inert(found.collection.name)}, version ${found.collection.version}`,
          columns,
          style,
        ),
        ...pair(
          'expires',
          `${formatTime(found.collection.expires)}, ${formatDistance(found.collection.expires, now)}`,
          columns,
          style,
        ),
        ...pair('policy', 'none is set: the signatures of the collection decide', columns, style),
        ...found.weakened.map(
          ({ option, effect }) => `${style.attention} ${inert(option)}: ${inert(effect)}`,
        ),
        '',
        ...found.images.flatMap((image) => [
          `${verdictWord(image.verdict, style)}  ${inert(image.name)}`,
          style.dim(`    ${image.digest}`),
        ]),
      ],
    });
    app.push(page);
  });
}

function importedPage(app: App, result: ImportResult): Page {
  const { style, readNow } = app.options;
  // The checks were on the screen a moment ago; what is left behind lists them.
  const text = importText(result, { style, now: readNow(), checksShown: true });
  app.leaveBehind(importText(result, { style, now: readNow(), checksShown: false }));
  return textPage({
    title: 'Imported',
    keys: [
      { action: 'open', label: 'to the start' },
      { action: 'copy', label: 'copy audit head' },
      { action: 'json' },
    ],
    act: (action) => {
      if (action === 'open') app.home();
      else if (action === 'copy') app.copy(result.auditHead, 'the head of the audit log');
      else if (action === 'json') app.push(jsonPage(app, result));
      else return false;
      return true;
    },
    lines: ({ columns }) => keepLines(text, columns),
  });
}
