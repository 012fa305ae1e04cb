/** The trust of a gate: which collections are pinned, by what, until when, its clock, its policy, its audit log. */
import { inert } from '../../../core/errors.ts';
import type { TrustStatus } from '../../../core/results.ts';
import { formatDistance, formatTime, groupedFingerprint, plural } from '../../output/format.ts';
import type { App } from '../app.ts';
import { otherFacts } from '../facts.ts';
import type { Activity } from '../machine.ts';
import type { Page, View } from '../page.ts';
import { fold, pair } from '../text.ts';
import { jsonPage } from './image.ts';
import { refusalPage } from './refusal.ts';
import { textPage } from './text.ts';
import { workPage } from './work.ts';

/** Entries of the audit log that are shown; all of it has `sealift trust audit`. */
const ENTRIES = 50;

interface GateFacts {
  readonly status: TrustStatus;
  readonly activity: readonly Activity[];
}

export function openTrust(app: App): void {
  const { workflows, paths, machine } = app.options;
  app.push(
    workPage<GateFacts>(app, {
      title: 'Gate',
      heading: `Reading ${inert(paths.gate.path, 300)}`,
      harmless: true,
      run: async (context) => ({
        status: await workflows.trustStatus({ gate: paths.gate.path }, context),
        activity: await machine.activity(paths.gate.path, ENTRIES),
      }),
      done: (facts, self) => app.replace(self, trustPage(app, facts)),
      failed: (error, self) =>
        app.replace(self, refusalPage(app, error, { what: 'The gate', effect: 'it was only looked at' })),
    }),
  );
}

const SAID = ['gate', 'auditHead', 'collections'];
const COLLECTION_SAID = [
  ...['id', 'name', 'pin', 'pinnedAt', 'scopes', 'rootVersion', 'rootFingerprint'],
  ...['version', 'expires', 'expired', 'clockFloor'],
];

export function trustPage(app: App, { status, activity }: GateFacts): Page {
  const { style } = app.options;
  return textPage({
    kind: 'gate',
    title: 'Gate',
    keys: [{ action: 'copy', label: 'copy audit head' }, { action: 'json' }],
    act: (action) => {
      if (action === 'copy') app.copy(status.auditHead, 'the head of the audit log');
      else if (action === 'json') app.push(jsonPage(app, status));
      else return false;
      return true;
    },
    lines: (view) => {
      const { columns } = view;
      return [
        `${style.bold('gate')} ${inert(status.gate, 400)}`,
        ...pair('audit head', status.auditHead, columns, style),
        ...otherFacts(status, SAID, columns, style),
        '',
        style.bold(
          status.collections.length === 0
            ? 'No collection is pinned'
            : `${plural(status.collections.length, 'collection')} pinned`,
        ),
        ...status.collections.flatMap((one) => collectionLines(one, view)),
        '',
        style.bold('Last entries of the audit log'),
        ...(activity.length === 0 ? ['  none'] : []),
        ...activity.flatMap(({ at, event, detail }) =>
          fold(`${formatTime(at)}  ${event}  ${detail}`, columns - 2, '  '),
        ),
      ];
    },
  });
}

function collectionLines(
  one: TrustStatus['collections'][number],
  { columns, style, now }: View,
): readonly string[] {
  const facts = (label: string, value: string): readonly string[] =>
    pair(`  ${label}`, value, columns, style);
  const scopes = one.scopes.length === 0 || one.scopes.includes('*');
  return [
    '',
    `  ${style.bold(inert(one.name, 100) || 'without a name yet')}`,
    ...facts('id', one.id),
    ...facts('speaks for', scopes ? 'every name' : one.scopes.map((scope) => inert(scope)).join(', ')),
    ...facts('pinned', formatTime(one.pinnedAt)),
    ...facts('root', `version ${one.rootVersion}, fingerprint`),
    ...groupedFingerprint(one.rootFingerprint).map((group) => `               ${group}`),
    ...(one.pin === one.rootFingerprint ? [] : facts('first pin', one.pin)),
    ...facts('version', one.version === undefined ? 'no bundle was let in yet' : String(one.version)),
    ...(one.expires === undefined
      ? []
      : facts(
          'expires',
          `${one.expired ? `${style.fail} expired ` : ''}${formatTime(one.expires)} (${formatDistance(one.expires, now)})`,
        )),
    ...(one.clockFloor === undefined
      ? []
      : facts('clock', `never before ${formatTime(one.clockFloor)}, when the last accepted bundle was made`)),
    ...otherFacts(one, COLLECTION_SAID, columns, style),
  ];
}
