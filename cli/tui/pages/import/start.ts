/** Import: choose a bundle, see the checks, pin the first time, then choose images. */
import path from 'node:path';
import { inert } from '../../../../core/errors.ts';
import type { VerifyResult } from '../../../../core/results.ts';
import type { ImageRecord } from '../../../../core/store/store.ts';
import type { RootSummary } from '../../../../core/trust-admin.ts';
import { formatSize, formatTime } from '../../../output/format.ts';
import type { App } from '../../app.ts';
import type { Page } from '../../page.ts';
import { choosePage } from '../choose.ts';
import { refusalPage } from '../refusal.ts';
import { JUDGE_CHECKS, workPage } from '../work.ts';
import { NOTHING_CHANGED } from './admit.ts';
import { pinPage } from './pin.ts';
import { verdictsPage } from './verdicts.ts';

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

function readPin(app: App, file: string, old: Page): void {
  const name = inert(path.basename(file), 60);
  const page = workPage<RootSummary>(app, {
    title: name,
    heading: 'Reading the root of the collection',
    harmless: true,
    run: (context) => app.options.workflows.readRoot(file, context),
    done: (root, self) =>
      app.replace(
        self,
        pinPage(app, file, root, (pin) => startImport(app, file, pin)),
      ),
    failed: (error, self) =>
      app.replace(self, refusalPage(app, error, { what: name, effect: NOTHING_CHANGED })),
  });
  app.replace(old, page);
}

/** Images of the store by name; none where there is no store yet, or it cannot be read. */
export async function recordsOf(app: App, store: string): Promise<readonly ImageRecord[]> {
  const { workflows, machine } = app.options;
  if (!machine.exists(store)) return [];
  return workflows.listStore(store).then(
    ({ images }) => images,
    () => [],
  );
}

function showVerdicts(app: App, file: string, result: VerifyResult, old: Page): void {
  const load = (store: string): Promise<readonly ImageRecord[]> => recordsOf(app, store);
  load(app.options.paths.store.path)
    .then((records) => app.replace(old, verdictsPage(app, file, result, records, load)))
    .catch(() => {});
}
