/** Why an image is in, as text. */
import type { Admission, WhyReport } from '../../core/admission/why.ts';
import { inert } from '../../core/errors.ts';
import type { TextView } from '../command.ts';
import { plural, table } from './format.ts';

export function whyText(result: WhyReport, view: TextView): string {
  const { style } = view;
  const { admissions, removals, store } = result;
  const byImage = new Map<string, Admission[]>();
  for (const one of admissions) {
    const key = `${one.name}@${one.digest}`;
    byImage.set(key, [...(byImage.get(key) ?? []), one]);
  }
  for (const { name, digest } of store.images) {
    const key = `${name}@${digest}`;
    if (!byImage.has(key)) byImage.set(key, []);
  }
  return [
    ...[...byImage].flatMap(([key, list]) => {
      const here = store.images.find(({ name, digest }) => `${name}@${digest}` === key);
      const gone = removals.filter(({ name, digest }) => `${name}@${digest}` === key);
      const last = list.at(-1);
      const rows: string[][] = [
        [
          'store',
          here === undefined
            ? 'not there now'
            : `there since ${here.importedAt}, trust until ${here.trustExpires}`,
        ],
        ...gone.map(({ at, reason, entry }) => ['withdrawn', `${at}: ${inert(reason)} (entry ${entry})`]),
        ...(last === undefined ? [['let in', 'the audit log does not say']] : admissionRows(last)),
        ...(list.length > 1
          ? [
              [
                'before',
                `${plural(list.length - 1, 'time')}: ${list
                  .slice(-4, -1)
                  .map(({ at, entry }) => `${at} (entry ${entry})`)
                  .join(', ')}`,
              ],
            ]
          : []),
      ];
      return [style.bold(inert(key, 512)), ...table(rows, '  ')];
    }),
    '',
    result.auditWhole
      ? `${style.pass} the audit log is whole, head ${result.auditHead}`
      : `${style.fail} ${style.bad('the audit log is damaged')}: what it says may have been changed; sealift trust audit shows where`,
  ]
    .map((line) => line.trimEnd())
    .join('\n');
}

function admissionRows(one: Admission): string[][] {
  const need = one.threshold > 0 ? ` (${one.threshold} of ${one.keys.length})` : '';
  return [
    ['let in', `${one.at} by ${inert(one.actor)} (entry ${one.entry} of the audit log)`],
    ['bundle', `${inert(one.bundle, 4096)}, version ${one.version} of ${inert(one.collectionName)}`],
    ['collection', one.collection],
    ['role', `${inert(one.role)}${need}: ${one.keys.length === 0 ? 'keys not told' : one.keys.join(', ')}`],
    ...(one.reason === '' ? [] : [['because', inert(one.reason)]]),
    ...one.signers.map(({ format, signer }) => ['evidence', `${inert(format)} by ${inert(signer)}`]),
    ...one.approvals.map(({ officer, approvedAt, keyId }) => [
      'approved',
      `${approvedAt} by ${inert(officer)}, key ${keyId}`,
    ]),
    ...(one.policy === undefined
      ? [['policy', 'none was set: the signatures of the collection decided']]
      : [
          ['policy', `sha256 ${one.policy.sha256}`],
          ['scope', inert(one.policy.scope)],
          ['requirement', inert(one.policy.requirement)],
        ]),
  ];
}
