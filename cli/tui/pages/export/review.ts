/** The last look before signing, the transfer, the result. */
import path from 'node:path';
import { inert, SealiftError } from '../../../../core/errors.ts';
import type { ExportResult } from '../../../../core/results.ts';
import { commandLines, plural, shellQuote } from '../../../output/format.ts';
import { exportText } from '../../../output/report.ts';
import type { App } from '../../app.ts';
import { createField } from '../../field.ts';
import type { FileSystemFacts } from '../../machine.ts';
import type { Page } from '../../page.ts';
import { pair } from '../../text.ts';
import { refusalPage } from '../refusal.ts';
import { resultPage } from '../result.ts';
import { textPage } from '../text.ts';
import { workPage } from '../work.ts';
import { chosenItems, commandWords, type Draft, expandPath, exportOptions, type Totals } from './draft.ts';
import { spaceLines } from './settings.ts';

export function reviewPage(
  app: App,
  draft: Draft,
  totals: () => Totals,
  facts: FileSystemFacts | undefined,
): Page {
  const { style } = app.options;
  const { sources } = draft;
  const command = (): string => commandWords(app, draft).map(shellQuote).join(' ');
  return textPage({
    kind: 'review',
    title: 'Review',
    keys: [
      { action: 'proceed', label: 'sign and write' },
      { action: 'copy', label: 'copy command' },
    ],
    act: (action) => {
      if (action === 'proceed') {
        const { failed, waiting } = totals();
        const [first] = failed;
        // Other platforms than before were asked for meanwhile.
        if (first !== undefined) app.say(`${inert(first.text, 100)}: ${inert(first.failure ?? '', 300)}`);
        else if (waiting > 0) app.say(`still asking the sources for ${plural(waiting, 'image')}`);
        else runExport(app, draft);
      } else if (action === 'copy') app.copy(command(), 'the command');
      else if (action === 'open') app.say('c signs and writes');
      else return false;
      return true;
    },
    lines: ({ columns }) => {
      const facts_ = (label: string, value: string) => pair(label, value, columns, style);
      const images = chosenItems(draft);
      return [
        style.bold(`Sign and write ${plural(images.length, 'image')}?`),
        '',
        ...facts_('output', inert(expandPath(app, draft.output), 1000)),
        ...spaceLines(totals(), facts, { style, columns }),
        ...facts_('signed by', inert(draft.collection, 1000)),
        ...facts_('expires', `in ${draft.expires}`),
        ...facts_(
          'platforms',
          draft.platforms.length === 0 ? 'all' : draft.platforms.map((one) => inert(one)).join(', '),
        ),
        ...(sources.evidence ? [] : facts_('evidence', `${style.attention} left behind`)),
        ...(draft.policy === '' ? [] : facts_('policy', inert(expandPath(app, draft.policy), 1000))),
        ...(draft.replace ? facts_('replaces', 'a file that is there already') : []),
        ...(sources.connection === 'tls'
          ? []
          : facts_(
              'registries',
              style.warn(
                `${style.attention} ${sources.connection === 'plain' ? 'without TLS' : 'certificates are not checked'}`,
              ),
            )),
        '',
        ...images.flatMap(({ text, previews, failure }) =>
          (previews ?? []).length === 0
            ? [
                `  ${inert(text, 400)}`,
                failure === undefined
                  ? style.dim('    still asking')
                  : `    ${style.fail} ${inert(failure, 300)}`,
              ]
            : (previews ?? []).flatMap(({ name, digest }) => [
                `  ${inert(name, 400)}`,
                style.dim(`    ${digest}`),
              ]),
        ),
        '',
        style.bold('The same as a command'),
        ...commandLines(commandWords(app, draft), columns - 2).map((line) => `  ${line}`),
      ];
    },
  });
}

function runExport(app: App, draft: Draft): void {
  const output = expandPath(app, draft.output);
  const again = `the same export goes on where this one stopped: ${commandWords(app, draft).map(shellQuote).join(' ')}`;
  app.push(
    workPage<ExportResult>(app, {
      title: 'Exporting',
      heading: `Writing ${inert(output, 300)}`,
      run: async (context) =>
        app.options.workflows.exportBundle(
          {
            ...(await exportOptions(app, draft, (purpose) => askPassphrase(app, purpose, context.signal))),
            gpg: { environment: app.options.env, ask: 'provider', signal: context.signal },
          },
          context,
        ),
      done: (result, self) => app.replace(self, exportedPage(app, result)),
      failed: (error, self, checks) => {
        const stopped = error.code === 'cancelled' && app.stopping;
        const refusal: Page = refusalPage(app, stopped ? error.with({ hint: again }) : error, {
          what: 'The export',
          effect: `there is no ${inert(path.basename(output), 100)}; what was fetched is kept and used the next time`,
          checks,
          again: () => {
            app.pop(refusal);
            runExport(app, draft);
          },
        });
        app.replace(self, refusal);
      },
    }),
  );
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
      kind: 'passphrase',
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
  return resultPage(app, result, {
    title: 'Exported',
    text,
    summary: text,
    copy: {
      label: 'copy fingerprint',
      text: result.collection.rootFingerprint,
      what: 'the fingerprint of the root',
    },
  });
}
