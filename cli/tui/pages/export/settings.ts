/** How an export is made: what sources are asked with, which platforms, where to, for how long. */
import path from 'node:path';
import { inert, SealiftError, toSealiftError } from '../../../../core/errors.ts';
import { outputFile } from '../../../options/paths.ts';
import { parseDuration } from '../../../options/values.ts';
import { formatSize, plural } from '../../../output/format.ts';
import type { App } from '../../app.ts';
import { type ChoiceRow, formPage, textRow } from '../../form.ts';
import { mark, row } from '../../frame.ts';
import { createList } from '../../list.ts';
import { type FileSystemFacts, mediumText } from '../../machine.ts';
import { HIDDEN_LIST_KEYS, type Page, type View } from '../../page.ts';
import { pair } from '../../text.ts';
import { type Connection, type Draft, expandPath, type Totals } from './draft.ts';
import { reviewPage } from './review.ts';

const CONNECTIONS: readonly Connection[] = ['tls', 'plain', 'unverified'];

function choice(
  label: string,
  options: readonly string[],
  chosen: number,
  help: string,
  warning?: (chosen: number) => string | undefined,
): ChoiceRow {
  const made: ChoiceRow = {
    label,
    options,
    chosen,
    help,
    ...(warning === undefined ? {} : { warning: () => warning(made.chosen) }),
  };
  return made;
}

/** @param changed what was found must be asked for again */
export function sourcesPage(app: App, draft: Draft, changed: () => void): Page {
  const before = draft.sources;
  const connection = choice(
    'registries',
    ['TLS', 'plain HTTP', 'TLS, unchecked'],
    CONNECTIONS.indexOf(before.connection),
    'how registries are spoken to; unchecked takes any certificate (--plain-http, --insecure-skip-tls-verify)',
    (chosen) =>
      chosen === 0
        ? undefined
        : 'tags come from whoever answers; digests and evidence are checked all the same',
  );
  const caFile = textRow('CA file', before.caFile, 'certificates (PEM) to trust beside those of the system', {
    path: true,
  });
  const authFile = textRow(
    'credentials',
    before.authFile,
    'a file of registry credentials; those of podman, skopeo and docker unless given',
    { path: true },
  );
  const evidence = choice(
    'evidence',
    ['carry', 'leave behind'],
    before.evidence ? 0 : 1,
    'signatures, attestations and whatever else hangs on the images',
    (chosen) => (chosen === 0 ? undefined : 'a policy on the sealed side may refuse images without evidence'),
  );
  const foreign = choice(
    'vendor layers',
    ['refuse', 'carry'],
    before.foreign ? 1 : 0,
    'layers that say they may only be had from their vendor; see to it that you may pass them on',
  );
  const page: Page = formPage(app, {
    kind: 'sources',
    title: 'Sources',
    heading: 'How are sources asked, and for what?',
    rows: [connection, caFile, authFile, evidence, foreign],
    label: 'done',
    proceed: (focus) => {
      for (const one of [caFile, authFile]) {
        const text = one.field.value.trim();
        if (text === '' || app.options.machine.exists(expandPath(app, text))) continue;
        focus(one);
        app.say(`there is nothing at ${inert(expandPath(app, text), 200)}`);
        return;
      }
      draft.sources = {
        connection: CONNECTIONS[connection.chosen] ?? 'tls',
        caFile: caFile.field.value.trim(),
        authFile: authFile.field.value.trim(),
        evidence: evidence.chosen === 0,
        foreign: foreign.chosen === 1,
      };
      app.pop(page);
      if (JSON.stringify(before) !== JSON.stringify(draft.sources)) changed();
    },
  });
  return page;
}

export function platformsPage(
  app: App,
  draft: Draft,
  totals: () => Totals,
  changed: () => void,
  next: () => void,
): Page {
  const { style } = app.options;
  const counts = totals().platforms;
  const known = [...counts.keys()].sort();
  const list = createList<string>({ items: known, key: (item) => item, text: (item) => item, marks: true });
  list.mark(draft.platforms.length === 0 ? known : draft.platforms);
  return {
    kind: 'platforms',
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
      const chosen = known.filter((one) => list.marked.has(one));
      if (chosen.length === 0) {
        app.say('choose at least one platform');
        return true;
      }
      const platforms = chosen.length === known.length ? [] : chosen;
      if (platforms.join() !== draft.platforms.join()) {
        draft.platforms = platforms;
        // Sizes and evidence are others now.
        changed();
      }
      next();
      return true;
    },
    lines: (view) => [
      style.bold('Which platforms?'),
      style.dim(
        'The digest of an image stays the same when platforms are left behind; what is missing is listed.',
      ),
      '',
      ...list.lines(view.rows - 3, style, (item, here, marked) =>
        row(
          view,
          here,
          `${mark(view, marked)} ${inert(item).padEnd(24)} ${style.dim(`in ${plural(counts.get(item) ?? 0, 'image')}`)}`,
        ),
      ),
    ],
  };
}

export function settingsPage(app: App, draft: Draft, totals: () => Totals, changed: () => void): Page {
  const { machine, cwd, style } = app.options;
  const output = textRow('output', draft.output, 'the file to write; ~/ is your home directory', {
    path: true,
  });
  const expires = textRow('expires in', draft.expires, 'how long it can be imported: 90d, 12h, 2w');
  const replace = choice(
    'a file there',
    ['is kept', 'is replaced'],
    draft.replace ? 1 : 0,
    'what happens to a file of that name (--force replaces it)',
  );
  const archive = choice(
    'docker load',
    ['as it fits', 'always'],
    draft.dockerArchive ? 1 : 0,
    'write manifest.json, so that docker load and podman load read the file (--docker-archive); a single image of one platform has it anyway',
  );
  const policy = textRow(
    'policy',
    draft.policy,
    'a policy that the images must meet before anything is signed; none unless given',
    { path: true },
  );
  const signer = choice(
    'signed by',
    [draft.collection],
    0,
    'the collection whose key signs; its keys: Inspect on the first page, or sealift inspect',
  );
  let facts: FileSystemFacts | undefined;
  let looked = '';
  function lookAtSpace(): void {
    const directory = path.dirname(expandPath(app, output.field.value));
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
  const collections: readonly string[] = [draft.collection];
  const others = { all: collections };
  machine.collections(app.options.paths.collection).then(
    (found) => {
      others.all = [...new Set([draft.collection, ...found])];
      Object.assign(signer, { options: others.all });
      app.changed();
    },
    () => {},
  );
  function check(focus: (row: typeof output) => void): void {
    parseDuration(expires.field.value.trim(), 'expires in');
    const text = output.field.value.trim();
    focus(output);
    if (text === '') throw new SealiftError('invalid-argument', 'name a file to write');
    const file = outputFile(text.endsWith('/') ? `${expandPath(app, text)}/` : expandPath(app, text), cwd);
    if (machine.exists(file) && replace.chosen === 0)
      throw new SealiftError('invalid-argument', `${inert(file, 200)} is there already`, {
        hint: 'choose another name, or let it be replaced below',
      });
    if (!machine.exists(path.dirname(file)))
      throw new SealiftError('invalid-argument', `there is no directory ${inert(path.dirname(file), 200)}`);
    const rules = policy.field.value.trim();
    if (rules !== '' && !machine.exists(expandPath(app, rules))) {
      focus(policy);
      throw new SealiftError('invalid-argument', `there is nothing at ${inert(expandPath(app, rules), 200)}`);
    }
  }
  return formPage(app, {
    kind: 'settings',
    title: 'Settings',
    heading: 'Where to, and for how long?',
    rows: [output, expires, replace, signer, policy, archive],
    label: 'continue',
    changed: lookAtSpace,
    proceed: (focus) => {
      try {
        check(focus);
      } catch (error) {
        const { message, hint } = toSealiftError(error);
        app.say(`${message}${hint === undefined ? '' : `; ${hint}`}`);
        return;
      }
      draft.output = output.field.value.trim();
      draft.expires = expires.field.value.trim();
      draft.replace = replace.chosen === 1;
      draft.dockerArchive = archive.chosen === 1;
      draft.policy = policy.field.value.trim();
      draft.collection = signer.options[signer.chosen] ?? draft.collection;
      changed();
      app.push(reviewPage(app, draft, totals, facts));
    },
    more: (view) => [
      ...spaceLines(totals(), facts, view),
      ...(others.all.length > 1 && view.rows > 14
        ? pair(
            'collections',
            `${plural(others.all.length, 'collection')} here; space goes through them`,
            view.columns,
            style,
          )
        : []),
    ],
  });
}

/** `about 4.2 GiB of 12 GiB free at /media/stick`, or what does not fit. */
export function spaceText(
  draft: Draft,
  { bytes }: Totals,
  facts: FileSystemFacts | undefined,
  { style }: Pick<View, 'style'>,
): string {
  if (facts === undefined) return `to ${inert(draft.output, 200)}`;
  const problem = spaceProblem(bytes, facts);
  const place = draft.output.startsWith('/') ? path.dirname(draft.output) : 'here';
  if (problem !== undefined) return style.bad(`${style.fail} ${problem}`);
  return `${inert(place, 200)}: ${mediumText(facts)}`;
}

function spaceProblem(bytes: number, facts: FileSystemFacts): string | undefined {
  if (bytes > facts.freeBytes) return `that is more than the ${formatSize(facts.freeBytes)} free there`;
  if (facts.maxFileSize !== undefined && bytes > facts.maxFileSize)
    return `${facts.name} holds no file this large; exFAT and ext4 do`;
  return undefined;
}

export function spaceLines(
  { bytes, waiting }: Totals,
  facts: FileSystemFacts | undefined,
  { style, columns }: Pick<View, 'style' | 'columns'>,
): readonly string[] {
  const needs = waiting > 0 ? 'still asking the sources' : `about ${formatSize(bytes)}`;
  if (facts === undefined) return pair('needs', needs, columns, style);
  const problem = spaceProblem(bytes, facts);
  return [
    ...pair('needs', needs, columns, style),
    ...pair('there', mediumText(facts), columns, style),
    ...(problem === undefined ? [] : [style.bad(`${style.fail} ${problem}`)]),
  ];
}
