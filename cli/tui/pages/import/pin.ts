/** Pinning a collection for the first time: its fingerprint beside what is typed, and what it may speak about. */
import { inert, toSealiftError } from '../../../../core/errors.ts';
import type { TrustStatus } from '../../../../core/results.ts';
import type { RootSummary } from '../../../../core/trust-admin.ts';
import { groupedFingerprint, plural } from '../../../output/format.ts';
import type { App } from '../../app.ts';
import { createField } from '../../field.ts';
import type { Page } from '../../page.ts';
import { fold, padTo, pair } from '../../text.ts';
import { refusalPage } from '../refusal.ts';

const TYPED = 8;

/**
 * The fingerprint of the bundle without its end beside what is typed: the end can only come from the sender. What
 * is shown is there to be compared, what is hidden to make sure that somebody did.
 * @param pinned goes on with the import, in place of this page
 */
export function pinPage(app: App, file: string, root: RootSummary, pinned: (page: Page) => void): Page {
  const { style, workflows, paths, pid, actor, machine } = app.options;
  const field = createField({ allow: /[0-9a-fA-F]/, max: TYPED });
  const scopeField = createField();
  const shown = root.fingerprint.slice(0, -TYPED);
  const hidden = style.unicode ? '·' : '.';
  let others: TrustStatus['collections'] = [];
  let inScope = false;
  let wrong = 0;
  let pinning = false;
  if (machine.exists(paths.gate.path)) {
    app
      .work((context) => workflows.trustStatus({ gate: paths.gate.path }, context), {})
      .then(
        ({ collections }) => {
          others = collections;
          app.changed();
        },
        () => {},
      );
  }
  const scopes = (): readonly string[] => scopeField.value.split(/[\s,]+/).filter((part) => part !== '');
  function pin(): void {
    if (field.value.length < TYPED) {
      inScope = false;
      app.say(`type the last ${TYPED} characters, ${TYPED - field.value.length} to go`);
      return;
    }
    if (field.value.toLowerCase() !== root.fingerprint.slice(-TYPED)) {
      wrong += 1;
      field.value = '';
      inScope = false;
      app.say('that is another fingerprint than the one in this bundle; nothing was pinned');
      return;
    }
    pinning = true;
    const request = {
      gate: paths.gate.path,
      source: file,
      fingerprint: root.fingerprint,
      scopes: scopes(),
      pid,
      actor,
    };
    app
      .work((context) => workflows.pinRoot(request, context), {})
      .then(
        (result) => {
          app.leaveBehind(
            `pinned the collection ${inert(result.collectionName)} by the root fingerprint ${result.fingerprint}`,
          );
          pinned(page);
          app.say('pinned; from now on its bundles are judged by this root');
        },
        (thrown: unknown) => {
          pinning = false;
          const error = toSealiftError(thrown);
          // What can be put right on this page is said on it.
          if (error.code === 'invalid-argument' || error.code === 'scope-conflict') {
            inScope = true;
            app.say(`${error.message}${error.hint === undefined ? '' : `; ${error.hint}`}`);
          } else
            app.replace(page, refusalPage(app, error, { what: 'Pinning', effect: 'nothing was pinned' }));
        },
      );
  }
  const page: Page = {
    kind: 'pin',
    title: 'Pin',
    keys: [
      { action: 'open', label: 'pin' },
      { action: 'next', label: 'scope' },
    ],
    get field() {
      return pinning ? undefined : inScope ? scopeField : field;
    },
    get busy() {
      return pinning;
    },
    act: (action) => {
      if (action === 'next') inScope = !inScope;
      else if (action === 'open') {
        if (!pinning) pin();
      } else return false;
      return true;
    },
    lines: ({ columns, rows }) => {
      const bundle = groupedFingerprint(shown + hidden.repeat(TYPED));
      const phone = groupedFingerprint(
        hidden.repeat(root.fingerprint.length - TYPED) + field.value.toLowerCase().padEnd(TYPED, '_'),
      );
      const sideBySide = columns >= 90;
      const column = 42;
      const name =
        root.collectionName === ''
          ? 'the collection of this bundle'
          : `the collection "${inert(root.collectionName, 60)}"`;
      return [
        style.bold(`This gate does not know ${name} yet.`),
        ...fold(
          rows < 14
            ? 'Type the last eight characters of its root fingerprint as the sender reads them to you by telephone. Compare the rest.'
            : 'Whoever sent the bundle reads the fingerprint of its root to you by telephone (sealift trust root). Compare group by group, and type the last eight characters as you hear them. They are not shown here, and must not come from the medium.',
          columns,
        ),
        ...(sideBySide
          ? [
              '',
              `${padTo(style.dim('in this bundle'), column)}${style.dim('by telephone')}`,
              ...bundle.map((group, at) => `${padTo(group, column)}${style.bold(phone[at] ?? '')}`),
              '',
            ]
          : [
              style.dim('in this bundle'),
              ...bundle.map((group) => `  ${group}`),
              style.dim('by telephone'),
              ...phone.slice(-1).map((group) => `  ${style.bold(group)}`),
            ]),
        ...(wrong === 0
          ? []
          : fold(
              `${style.attention} ${plural(wrong, 'wrong answer')}: if it is read to you again and still differs, do not import this bundle`,
              columns,
            )),
        ...(inScope
          ? [
              `${style.dim('scope'.padEnd(12))} ${scopeField.line(columns - 14, style)}`,
              ...fold(
                'What it may speak about: docker.io/acme/ for all of acme, docker.io/library/alpine for one repository; empty for every name.',
                columns,
              ).map((line) => style.dim(line)),
            ]
          : pair(
              'scope',
              scopes().length === 0
                ? 'every name; tab narrows it'
                : scopes()
                    .map((one) => inert(one, 200))
                    .join(', '),
              columns,
              style,
            )),
        ...others.flatMap((one) =>
          pair(
            'pinned here',
            `${inert(one.name, 60)}, for ${one.scopes.includes('*') ? 'every name: a second collection needs that to be narrowed first' : one.scopes.map((scope) => inert(scope)).join(', ')}`,
            columns,
            style,
          ),
        ),
        ...pair('gate', inert(paths.gate.path, 300), columns, style),
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
