/** What a bundle carries, with the verdict on each image, what it would change, and which of it is to be let in. */
import path from 'node:path';
import { inert } from '../../../../core/errors.ts';
import type { ImageVerdict, VerifyResult } from '../../../../core/results.ts';
import type { ImageRecord } from '../../../../core/store/store.ts';
import { formatDistance, formatSize, formatTime, plural } from '../../../output/format.ts';
import { policyText, refusedImages } from '../../../output/report.ts';
import { statusLine } from '../../../output/status.ts';
import type { App } from '../../app.ts';
import { otherFacts } from '../../facts.ts';
import { formPage, textRow } from '../../form.ts';
import { mark, row } from '../../frame.ts';
import { createList } from '../../list.ts';
import { HIDDEN_LIST_KEYS, type Page, type View } from '../../page.ts';
import { clip, fold, padTo, pair } from '../../text.ts';
import { imagePage, jsonPage } from '../image.ts';
import { textPage } from '../text.ts';
import { verdictWord } from '../verdict-word.ts';
import { letIn } from './admit.ts';
import { openChanges } from './changes.ts';

type Change = 'new' | 'same' | 'changed';

/** @param load reads what another store has, where the destination is changed */
export function verdictsPage(
  app: App,
  file: string,
  result: VerifyResult,
  inStore: readonly ImageRecord[],
  load: (store: string) => Promise<readonly ImageRecord[]> = async () => [],
): Page {
  const { style, paths } = app.options;
  const { collection } = result;
  const refused = new Set(refusedImages(result).map(({ name }) => name));
  const passing = result.images.filter(({ name }) => !refused.has(name)).map(({ name }) => name);
  let store = paths.store.path;
  let records = new Map(inStore.map((record) => [record.name, record]));
  const list = createList<ImageVerdict>({
    items: result.images,
    key: ({ name }) => name,
    text: ({ name, verdict }) => `${name} ${verdict}`,
    marks: true,
  });
  list.mark(passing);

  const changeOf = ({ name, digest }: ImageVerdict): Change => {
    const record = records.get(name);
    if (record === undefined) return 'new';
    return record.digest === digest ? 'same' : 'changed';
  };
  function describeChange(image: ImageVerdict): string {
    const record = records.get(image.name);
    if (record === undefined) return 'not there yet';
    const since = `version ${record.bundleVersion}, let in ${formatTime(record.importedAt)}`;
    return record.digest === image.digest
      ? `there already with the same digest, from ${since}`
      : `replaces ${record.digest}, of ${since}; d on the page before shows what changed`;
  }
  function chooseStore(): void {
    const field = textRow('store', store, 'the directory of a store; it is made where there is none', {
      path: true,
    });
    const form: Page = formPage(app, {
      kind: 'destination',
      title: 'Destination',
      heading: 'Into which store?',
      rows: [field],
      label: 'choose',
      proceed: () => {
        const text = field.field.value.trim();
        if (text === '') {
          app.say('name a directory');
          return;
        }
        const { cwd, home } = app.options;
        store = path.resolve(cwd, text.startsWith('~/') ? path.join(home, text.slice(2)) : text);
        load(store).then(
          (found) => {
            records = new Map(found.map((record) => [record.name, record]));
            app.changed();
          },
          () => {},
        );
        app.pop(form);
      },
    });
    app.push(form);
  }
  function proceed(): void {
    const chosen = result.images.map(({ name }) => name).filter((name) => list.marked.has(name));
    const unfit = chosen.filter((name) => refused.has(name));
    if (chosen.length === 0)
      app.say(
        passing.length === 0 ? 'none of these images may be let in' : 'choose at least one image with space',
      );
    else if (unfit.length > 0)
      app.say(`${inert(unfit[0] ?? '', 100)} is refused; take it out with space, or see why with enter`);
    else {
      const all = chosen.length === passing.length;
      // All that passes is asked for as such, so that the audit log tells what was refused beside it.
      letIn(app, { file, store, only: all ? [] : chosen, admitPassing: all && refused.size > 0 });
    }
  }
  return {
    kind: 'verdicts',
    title: inert(path.basename(file), 60),
    keys: [
      { action: 'proceed', label: 'import' },
      { action: 'open' },
      { action: 'mark' },
      { action: 'changes' },
      { action: 'options', label: 'destination' },
      { action: 'inspect', label: 'checks' },
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
        case 'changes':
          openChanges(app, store, file);
          return true;
        case 'inspect':
          app.push(checksPage(app, result));
          return true;
        case 'options':
          chooseStore();
          return true;
        case 'proceed':
          proceed();
          return true;
        default:
          return false;
      }
    },
    lines: (view) => {
      const { columns } = view;
      let count = 0;
      let bytes = 0;
      for (const { name, size } of result.images) {
        if (!list.marked.has(name)) continue;
        count += 1;
        bytes += size;
      }
      const wide = columns >= 100;
      const width = columns - 2 - 4 - 12 - 9 - 9 - 9 - (wide ? 24 : 0);
      const head = [
        refused.size === 0
          ? `${style.pass} ${style.good('every check passed')}; layers are checked on their way in`
          : `${style.fail} ${style.bad(`the policy refuses ${refused.size} of ${plural(result.images.length, 'image')}`)}; every other check passed`,
        clip(
          `${inert(collection.name, 40)}, version ${collection.version}, expires ${formatDistance(collection.expires, view.now)}; ${policyWord(result)}`,
          columns,
          style.unicode,
        ),
        clip(
          `${count} of ${plural(result.images.length, 'image')} chosen, ${formatSize(bytes)}, into ${inert(store, 300)}`,
          columns,
          style.unicode,
        ),
        ...result.weakened.map(({ option }) => `${style.attention} weakened: ${inert(option, 100)}`),
        ...result.withdrawn.map(({ name }) => `${style.attention} withdrawn: ${inert(name, 200)}`),
        ...result.vanished.map((name) => `${style.attention} no longer listed, kept: ${inert(name, 200)}`),
      ].slice(0, 6);
      const header = style.dim(
        `      ${'verdict'.padEnd(12)}${padTo('image', width)}${'size'.padStart(8)} ${'in store'.padEnd(8)} evidence${wide ? '  platforms' : ''}`,
      );
      const current = list.current();
      const why =
        current === undefined ? '' : style.dim(clip(`why: ${inert(current.reason)}`, columns, style.unicode));
      return [
        ...head,
        ...(view.rows < 16 ? [] : ['']),
        header,
        ...list.lines(view.rows - head.length - (view.rows < 16 ? 2 : 4), style, (image, here, marked) =>
          row(
            view,
            here,
            `${mark(view, marked)} ${padTo(verdictWord(image.verdict, style), 12)}${padTo(inert(image.name), width, style.unicode)}${formatSize(image.size).padStart(8)} ${changeOf(image).padEnd(8)} ${evidenceCount(image).padStart(8)}${wide ? `  ${clip(platformsText(image), 22, style.unicode)}` : ''}`,
          ),
        ),
        ...(view.rows < 16 ? [] : ['']),
        why,
      ];
    },
  };
}

/** Pieces, and where some were judged, how many of them hold. */
function evidenceCount({ evidence }: ImageVerdict): string {
  if (evidence.length === 0) return 'none';
  const judged = evidence.filter(({ state }) => state !== 'carried').length;
  const good = evidence.filter(({ state }) => state === 'verified').length;
  return judged === 0 ? `${evidence.length}` : `${good} of ${evidence.length}`;
}

function policyWord({ policy }: VerifyResult): string {
  if (policy === 'none') return 'no policy is set';
  return `policy ${policy.from === 'gate' ? 'of the gate' : 'that was named'}, ${policy.sha256.slice(0, 12)}`;
}

function platformsText(image: ImageVerdict): string {
  return image.platforms.length === 0 ? '-' : image.platforms.map((one) => inert(one)).join(', ');
}

/** Fields that `checksPage` says in its own words, or that belong to the images. */
const SAID = [
  'bundle',
  'size',
  'collection',
  'checks',
  'images',
  'withdrawn',
  'vanished',
  'policy',
  'weakened',
  'deep',
];

/** Every check with what it found, and whatever else the verification says. */
export function checksPage(app: App, result: VerifyResult): Page {
  const { style } = app.options;
  return textPage({
    kind: 'checks',
    title: 'Checks',
    keys: [{ action: 'json' }],
    act: (action) => {
      if (action !== 'json') return false;
      app.push(jsonPage(app, result));
      return true;
    },
    lines: (view: View) => {
      const { columns } = view;
      return [
        style.bold('What was checked, in order, and what was found'),
        '',
        ...result.checks.flatMap((check) => fold(statusLine({ type: 'check', ...check }, style), columns)),
        '',
        ...fold(policyText(result), columns),
        ...result.weakened.flatMap(({ option, effect }) =>
          fold(`${style.attention} ${inert(option)}: ${inert(effect)}`, columns),
        ),
        ...result.withdrawn.flatMap(({ name, reason, at, digest }) =>
          fold(
            `${style.attention} withdrawn ${inert(name)}, ${inert(digest)}: ${inert(reason)} (${formatTime(at)})`,
            columns,
          ),
        ),
        ...result.vanished.map((name) => `${style.attention} no longer listed, kept: ${inert(name)}`),
        '',
        ...pair('bundle', `${inert(result.bundle, 400)}, ${formatSize(result.size)}`, columns, style),
        ...pair('layers', result.deep ? 'read and hashed' : 'read and hashed by the import', columns, style),
        ...otherFacts(result, SAID, columns, style),
      ];
    },
  });
}
