/** A workflow while it runs: checks tick off as they end, then bars. */

import type { Context } from '../../../core/context.ts';
import { type SealiftError, toSealiftError } from '../../../core/errors.ts';
import { CHECKS, type CheckName } from '../../../core/events.ts';
import { pictureLines } from '../../output/picture.ts';
import { createProgressStore } from '../../output/progress-store.ts';
import { statusLine } from '../../output/status.ts';
import type { App } from '../app.ts';
import type { Page, View } from '../page.ts';

export interface WorkOptions<T> {
  readonly title: string;
  /** What is done, in words, above everything. */
  readonly heading: string;
  readonly run: (context: Context) => Promise<T>;
  readonly done: (result: T, page: Page) => void;
  readonly failed: (error: SealiftError, page: Page, checks: readonly string[]) => void;
  /** Checks that will come, so that what is left can be seen. */
  readonly checks?: readonly CheckName[];
  /** True where leaving the page is enough to stop it: nothing is written. */
  readonly harmless?: boolean;
}

export const JUDGE_CHECKS: readonly CheckName[] = CHECKS.filter(
  (check) => !['space', 'layers', 'commit'].includes(check),
);

export function workPage<T>(app: App, options: WorkOptions<T>): Page {
  const store = createProgressStore();
  const { clock, style } = app.options;
  const controller = new AbortController();
  let settled = false;

  const page: Page = {
    kind: 'work',
    title: options.title,
    keys: [],
    get busy() {
      return !settled && options.harmless !== true;
    },
    lines: (view) => workLines(view),
    act: () => false,
    closed: () => controller.abort(),
  };

  function checkLines(): readonly string[] {
    return store.lines.flatMap(({ event }) => (event.type === 'phase' ? [] : [statusLine(event, style)]));
  }
  function workLines(view: View): readonly string[] {
    const picture = pictureLines(store, style, view.clock, view.columns, view.rows);
    const told = checkLines();
    const done = new Set(store.lines.map(({ event }) => (event.type === 'check' ? event.check : '')));
    const next = (options.checks ?? []).find((check) => !done.has(check));
    const left = (options.checks ?? []).filter((check) => !done.has(check) && check !== next);
    const upper = [
      ...told,
      ...(next === undefined || settled
        ? []
        : [`${style.unicode ? '…' : '.'} ${style.bold('running')} ${next}`]),
      ...left.map((check) => style.dim(`  waits   ${check}`)),
    ];
    const room = view.rows - 2 - picture.length - 1;
    const from = Math.max(0, Math.min(told.length - Math.max(1, room - 2), upper.length - room));
    return [
      style.bold(options.heading),
      '',
      ...upper.slice(from, from + Math.max(0, room)),
      ...(picture.length === 0 ? [] : ['', ...picture]),
    ];
  }

  app
    .work(options.run, {
      signal: controller.signal,
      emit: (event) => {
        store.take(event, clock());
        if (event.type === 'check') app.changed();
      },
    })
    .then(
      (result) => {
        settled = true;
        options.done(result, page);
      },
      (thrown: unknown) => {
        settled = true;
        // Stopped by leaving the page: nobody waits for an answer.
        if (controller.signal.aborted && !app.stopping) return;
        options.failed(toSealiftError(thrown), page, checkLines());
      },
    );
  return page;
}
