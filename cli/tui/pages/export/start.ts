/** Export: choose images, platforms and settings; review; sign; see them go out. */
import path from 'node:path';
import { SealiftError } from '../../../../core/errors.ts';
import { shellQuote } from '../../../output/format.ts';
import type { App } from '../../app.ts';
import { refusalPage } from '../refusal.ts';
import { imagesPage } from './images.ts';

export function startExport(app: App): void {
  const { machine, paths } = app.options;
  if (machine.exists(path.join(paths.collection.path, 'collection.json'))) {
    app.push(imagesPage(app));
    return;
  }
  const missing = new SealiftError(
    'collection-not-found',
    'there is no collection here whose key could sign an export',
    {
      subject: paths.collection.path,
      hint: `make one first: sealift init ${shellQuote(paths.collection.path)}`,
    },
  );
  app.push(refusalPage(app, missing, { what: 'Export', effect: 'nothing was written' }));
}
