import type { App } from '../app.ts';
import { type Action, GLOBAL_ACTIONS, KEY_MAP, keyLabel } from '../keys.ts';
import type { Page } from '../page.ts';
import { textPage } from './text.ts';

/** Made from the key map: what works on the page it was asked for on, then what works everywhere. */
export function helpPage(app: App, page: Page): Page {
  const { style } = app.options;
  const line = (action: Action, label?: string): string => {
    const { keys, help } = KEY_MAP[action];
    const names = keys.map((key) => keyLabel(key, style.unicode)).join(' ');
    return `  ${style.bold(names.padEnd(20))} ${label === undefined || help.startsWith(label) ? help : `${label}: ${help}`}`;
  };
  return textPage({
    kind: 'help',
    title: 'Help',
    lines: () => [
      style.bold(`On this page (${page.title})`),
      ...page.keys.filter(({ quiet }) => quiet !== true).map(({ action, label }) => line(action, label)),
      '',
      style.bold('Everywhere'),
      ...GLOBAL_ACTIONS.filter((action) => action !== 'help').map((action) => line(action)),
      ...page.keys.filter(({ quiet }) => quiet === true).map(({ action }) => line(action)),
    ],
    act: (action) => action === 'help',
  });
}
