/** What a bundle would change in a store, image by image: the diff of the two. */
import path from 'node:path';
import type { DiffResult } from '../../../../core/diff.ts';
import { inert } from '../../../../core/errors.ts';
import { temporaryDirectory } from '../../../options/source.ts';
import { sourceOptionsFrom } from '../../../options/source-settings.ts';
import { diffText } from '../../../output/diff-report.ts';
import type { App } from '../../app.ts';
import type { Page } from '../../page.ts';
import { jsonPage } from '../image.ts';
import { refusalPage } from '../refusal.ts';
import { keepLines, textPage } from '../text.ts';
import { workPage } from '../work.ts';

export function openChanges(app: App, store: string, bundle: string, files = false, old?: Page): void {
  const { workflows, machine, env, home, cwd } = app.options;
  if (!machine.exists(path.join(store, 'oci-layout'))) {
    app.say('there is nothing in the store yet: every image is new');
    return;
  }
  const page = workPage<DiffResult>(app, {
    title: 'Changes',
    heading: `Comparing ${inert(store, 200)} with ${inert(path.basename(bundle), 100)}`,
    harmless: true,
    run: async (context) => {
      // Both are on this machine; nothing is asked of anybody else.
      const source = await sourceOptionsFrom(
        {
          plainHttp: false,
          insecureSkipTlsVerify: false,
          caFile: undefined,
          authFile: undefined,
          mirrors: [],
          cache: undefined,
          retryTimes: 0,
          concurrency: 1,
          temporary: temporaryDirectory({ text: () => undefined }, env, cwd),
        },
        { env, homedir: home, cwd, workflows },
      );
      return workflows.diff({ before: store, after: bundle, files, source }, context);
    },
    done: (result, self) => app.replace(self, changesPage(app, result, { store, bundle, files })),
    failed: (error, self) =>
      app.replace(self, refusalPage(app, error, { what: 'The comparison', effect: 'it was only looked at' })),
  });
  if (old === undefined) app.push(page);
  else app.replace(old, page);
}

function changesPage(
  app: App,
  result: DiffResult,
  { store, bundle, files }: { readonly store: string; readonly bundle: string; readonly files: boolean },
): Page {
  const { style, readNow } = app.options;
  const text = diffText(result, { style, now: readNow(), checksShown: true }, false);
  const page: Page = textPage({
    kind: 'changes',
    title: 'Changes',
    keys: [
      ...(files ? [] : [{ action: 'changes', label: 'files in layers, too' } as const]),
      { action: 'json' },
    ],
    act: (action) => {
      if (action === 'json') app.push(jsonPage(app, result));
      else if (action === 'changes' && !files) openChanges(app, store, bundle, true, page);
      else return false;
      return true;
    },
    lines: ({ columns }) => keepLines(text, columns),
  });
  return page;
}
