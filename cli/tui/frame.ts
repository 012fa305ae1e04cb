/** One picture: breadcrumbs, page, note, footer. Exactly as many lines as the terminal has, none wider. */
import type { Style } from '../output/style.ts';
import type { App } from './app.ts';
import { KEY_MAP, keyLabel } from './keys.ts';
import type { Page, View } from './page.ts';
import { clip, padTo, textWidth } from './text.ts';

export const LEAST_COLUMNS = 60;
export const LEAST_ROWS = 16;

/** What is not text while something is typed. */
const TYPING_KEYS: ReadonlySet<string> = new Set(['open', 'next', 'no', 'complete', 'down', 'up']);

export interface FrameSize {
  readonly columns: number;
  readonly rows: number;
}

export function frame(app: App, { columns, rows }: FrameSize, screenReader = false): readonly string[] {
  const { style, readNow, clock } = app.options;
  if (columns < LEAST_COLUMNS || rows < LEAST_ROWS) {
    return [
      'sealift needs a larger window',
      `${columns} x ${rows} now, ${LEAST_COLUMNS} x ${LEAST_ROWS} at least`,
      app.page.busy === true ? 'work goes on; Ctrl-C stops it' : 'q quits',
    ]
      .slice(0, Math.max(1, rows))
      .map((line) => clip(line, columns, style.unicode));
  }
  const { page } = app;
  const view: View = {
    columns,
    rows: rows - 4,
    style,
    now: readNow(),
    clock: clock(),
    spoken: screenReader,
  };
  const body = page.lines(view).slice(0, view.rows);
  const rule = screenReader ? '' : style.dim((style.unicode ? '─' : '-').repeat(columns));
  const lines = [
    breadcrumbs(app, columns),
    rule,
    ...body,
    ...Array.from({ length: screenReader ? 0 : Math.max(0, view.rows - body.length) }, () => ''),
    noteLine(app, rule),
    footer(page, columns, app),
  ];
  if (screenReader) return lines.map(asSpoken).filter((line) => line !== '');
  return lines.map((line) => forTerminal(clip(line, columns, style.unicode), style));
}

/** Names from outside may hold letters that the locale cannot show. */
function forTerminal(line: string, { unicode }: Style): string {
  return unicode ? line : line.replace(/[^\0-\x7f]/gu, '?');
}

/** Without what is only there to be looked at: bars, pointers, columns. */
function asSpoken(line: string): string {
  return line
    .replace(/[█░▏▸]+|[#-]{6,}/gu, ' ')
    .replace(/(\S) {2,}(?=\S)/g, '$1  ')
    .trim();
}

function breadcrumbs(app: App, columns: number): string {
  const { style } = app.options;
  const titles = ['sealift', ...app.pages.slice(1).map(({ title }) => title)];
  const between = style.unicode ? ' › ' : ' > ';
  // The end is where one is: the middle makes way.
  while (titles.length > 3 && textWidth(titles.join(between)) > columns) titles.splice(1, 1);
  return titles.map((title, at) => (at === titles.length - 1 ? style.bold(title) : title)).join(between);
}

function noteLine(app: App, rule: string): string {
  const { style } = app.options;
  if (app.stopping) return style.warn('stopping; Ctrl-C again stops at once');
  return app.note === '' ? rule : style.bold(app.note);
}

function footer(page: Page, columns: number, app: App): string {
  const { style } = app.options;
  const typing = page.field !== undefined;
  const hints = page.keys
    .filter(({ quiet }) => quiet !== true)
    // While something is typed, letters are letters.
    .filter(({ action }) => !typing || TYPING_KEYS.has(action))
    .map(({ action, label }) => {
      const spec = KEY_MAP[action];
      const key = typing ? (spec.keys.find((one) => one.length > 1) ?? '') : (spec.keys[0] ?? '');
      return [keyLabel(key, style.unicode), label ?? spec.label] as const;
    });
  const always: (readonly [string, string])[] = [];
  if (app.pages.some(({ busy }) => busy === true)) always.push(['Ctrl-C', 'stop']);
  else {
    if (app.pages.length > 1 && !page.keys.some(({ action }) => action === 'no'))
      always.push(['esc', 'back']);
    if (!typing) always.push(['?', 'help'], ['q', 'quit']);
  }
  const parts: string[] = [];
  let width = always.reduce((sum, [key, label]) => sum + key.length + label.length + 3, 0);
  for (const [key, label] of hints) {
    width += textWidth(key) + label.length + 3;
    if (width > columns) break;
    parts.push(`${style.bold(key)} ${label}`);
  }
  for (const [key, label] of always) parts.push(`${style.bold(key)} ${label}`);
  return parts.join('  ');
}

/** A row of a list, with its pointer. */
export function row(view: View, here: boolean, text: string): string {
  const { style, columns } = view;
  if (view.spoken === true) return here ? `current line: ${text}` : text;
  const pointer = here ? (style.unicode ? '▸' : '>') : ' ';
  const line = `${pointer} ${text}`;
  return here ? style.bold(padTo(line, columns, style.unicode)) : line;
}

/** Whether a line is chosen, in front of it. */
export function mark({ spoken }: Pick<View, 'spoken'>, marked: boolean): string {
  if (spoken === true) return marked ? 'chosen,' : 'not chosen,';
  return marked ? '[x]' : '[ ]';
}
