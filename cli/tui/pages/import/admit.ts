/** Letting images in: the question, the transfer, the result. */
import path from 'node:path';
import { inert } from '../../../../core/errors.ts';
import { CHECKS } from '../../../../core/events.ts';
import type { ImportResult, VerifyResult } from '../../../../core/results.ts';
import { formatDistance, formatSize, formatTime, plural } from '../../../output/format.ts';
import { importText, policyText, refusedImages } from '../../../output/report.ts';
import type { App } from '../../app.ts';
import type { Page } from '../../page.ts';
import { pair } from '../../text.ts';
import { refusalPage } from '../refusal.ts';
import { resultPage } from '../result.ts';
import { textPage } from '../text.ts';
import { verdictWord } from '../verdict-word.ts';
import { workPage } from '../work.ts';

export const NOTHING_CHANGED = 'nothing was let in; the images of the store are as they were';

export interface AdmitRequest {
  readonly file: string;
  readonly store: string;
  /** Names; empty for all. */
  readonly only: readonly string[];
  /** Lets in what passes where the policy refuses the rest. */
  readonly admitPassing: boolean;
}

/** Imports; the question is asked when the import itself has found what it would let in. */
export function letIn(app: App, request: AdmitRequest): void {
  const { workflows, paths, pid, actor } = app.options;
  const { file, store, only, admitPassing } = request;
  const name = inert(path.basename(file), 60);
  let declined = false;
  const page = workPage<ImportResult>(app, {
    title: 'Importing',
    heading: `Importing ${name} into ${inert(store, 300)}`,
    checks: CHECKS,
    run: (context) =>
      workflows.importBundle(
        {
          bundle: { kind: 'file', path: file },
          gate: paths.gate.path,
          store,
          only,
          admitPassing,
          overrides: { allowClockJump: false },
          confirm: async (found) => {
            const answer = await confirmPage(app, request, found, context.signal);
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
function confirmPage(
  app: App,
  { file, store }: AdmitRequest,
  found: VerifyResult,
  signal: AbortSignal,
): Promise<boolean> {
  const { style } = app.options;
  const refused = new Set(refusedImages(found));
  const passing = found.images.filter((image) => !refused.has(image));
  return new Promise((resolve) => {
    let answered = false;
    const answer = (value: boolean): void => {
      if (answered) return;
      answered = true;
      resolve(value);
    };
    signal.addEventListener('abort', () => answer(false), { once: true });
    const page = textPage({
      kind: 'confirm',
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
        style.bold(`Let ${plural(passing.length, 'image')} into the store?`),
        '',
        ...pair('bundle', `${inert(file, 400)}, ${formatSize(found.size)}`, columns, style),
        ...pair('store', inert(store, 400), columns, style),
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
        ...pair('policy', policyText(found), columns, style),
        ...(refused.size === 0
          ? []
          : pair(
              'refused',
              `${plural(refused.size, 'image')}, left out: ${[...refused].map(({ name }) => inert(name, 200)).join(', ')}`,
              columns,
              style,
            )),
        ...found.withdrawn.flatMap(({ name, reason }) =>
          pair('withdrawn', `${inert(name, 200)}: ${inert(reason, 200)}`, columns, style),
        ),
        ...found.weakened.map(
          ({ option, effect }) => `${style.attention} ${inert(option)}: ${inert(effect)}`,
        ),
        '',
        ...passing.flatMap((image) => [
          `${verdictWord(image.verdict, style)}  ${inert(image.name)}`,
          style.dim(`    ${image.digest}`),
        ]),
      ],
    });
    app.push(page);
  });
}

function importedPage(app: App, result: ImportResult): Page {
  const view = { style: app.options.style, now: app.options.readNow() };
  return resultPage(app, result, {
    title: 'Imported',
    // The checks were on the screen a moment ago; what is left behind lists them.
    text: importText(result, { ...view, checksShown: true }),
    summary: importText(result, { ...view, checksShown: false }),
    copy: { label: 'copy audit head', text: result.auditHead, what: 'the head of the audit log' },
  });
}
