/** Choosing a file or directory: what was found, or a path that is typed. */
import path from 'node:path';
import { inert } from '../../../core/errors.ts';
import type { App } from '../app.ts';
import { createField } from '../field.ts';
import { row } from '../frame.ts';
import { createList } from '../list.ts';
import { HIDDEN_LIST_KEYS, type Page } from '../page.ts';
import { padTo } from '../text.ts';

export interface Choice {
  readonly path: string;
  readonly detail: string;
}

export interface ChooseOptions {
  readonly title: string;
  readonly heading: string;
  readonly find: () => Promise<readonly Choice[]>;
  readonly chosen: (path: string) => void;
  readonly nothing: string;
}

export function choosePage(app: App, options: ChooseOptions): Page {
  const { cwd, home } = app.options;
  const list = createList<Choice>({ key: (item) => item.path, text: (item) => item.path });
  const pathField = createField();
  let typing = false;
  let looked = false;
  options.find().then(
    (choices) => {
      looked = true;
      list.setItems(choices);
      // With nothing to choose from there is only typing.
      if (choices.length === 0) typing = true;
      app.changed();
    },
    () => {
      looked = true;
      typing = true;
      app.changed();
    },
  );
  function take(): void {
    const text = pathField.value.trim();
    if (text === '') return;
    const file = path.resolve(cwd, text.startsWith('~/') ? path.join(home, text.slice(2)) : text);
    if (app.options.machine.exists(file)) options.chosen(file);
    else app.say(`there is nothing at ${inert(file, 200)}`);
  }
  return {
    kind: 'choose',
    title: options.title,
    keys: [
      { action: 'open' },
      { action: 'add', label: 'type a path' },
      { action: 'filter' },
      ...HIDDEN_LIST_KEYS,
    ],
    get field() {
      return typing ? pathField : list.field;
    },
    typed: () => {
      if (!typing) list.filterChanged();
    },
    act: (action) => {
      if (typing) {
        if (action === 'open') take();
        else if (action === 'back' && list.items.length > 0) typing = false;
        else return action !== 'back';
        return true;
      }
      if (list.act(action)) return true;
      const item = list.current();
      if (action === 'open' && item !== undefined) options.chosen(item.path);
      else if (action === 'add') typing = true;
      else return false;
      return true;
    },
    lines: (view) => {
      const { style, columns } = view;
      const width = Math.max(24, Math.floor(columns * 0.6));
      return [
        style.bold(options.heading),
        '',
        ...(typing
          ? [
              `path: ${pathField.line(columns - 8, style)}`,
              style.dim('Enter opens it; ~/ is your home directory'),
            ]
          : []),
        ...(list.items.length === 0
          ? [looked ? style.dim(options.nothing) : style.dim('looking')]
          : typing
            ? []
            : list.lines(view.rows - 3, style, (item, here) =>
                row(view, here, `${padTo(inert(item.path, 400), width, style.unicode)}  ${item.detail}`),
              )),
      ];
    },
  };
}
