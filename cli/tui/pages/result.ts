import type { App } from '../app.ts';
import type { Page } from '../page.ts';
import { jsonPage } from './image.ts';
import { keepLines, textPage } from './text.ts';

export interface ResultOptions {
  readonly title: string;
  readonly text: string;
  /** What is left on the screen when the program has ended. */
  readonly summary: string;
  readonly copy: { readonly label: string; readonly text: string; readonly what: string };
}

/** What a workflow ended with, as the command would have printed it. */
export function resultPage(app: App, result: unknown, { title, text, summary, copy }: ResultOptions): Page {
  app.leaveBehind(summary);
  return textPage({
    kind: 'result',
    title,
    keys: [
      { action: 'open', label: 'to the start' },
      { action: 'copy', label: copy.label },
      { action: 'json' },
    ],
    act: (action) => {
      if (action === 'open') app.home();
      else if (action === 'copy') app.copy(copy.text, copy.what);
      else if (action === 'json') app.push(jsonPage(app, result));
      else return false;
      return true;
    },
    lines: ({ columns }) => keepLines(text, columns),
  });
}
