/** The keys as data: what a page reacts to, the footer, the help page and the table in docs/tui.md come from here. */

export type Action =
  | 'up'
  | 'down'
  | 'pageUp'
  | 'pageDown'
  | 'first'
  | 'last'
  | 'open'
  | 'back'
  | 'mark'
  | 'markAll'
  | 'filter'
  | 'add'
  | 'remove'
  | 'tags'
  | 'list'
  | 'complete'
  | 'options'
  | 'changes'
  | 'plain'
  | 'proceed'
  | 'inspect'
  | 'json'
  | 'copy'
  | 'refresh'
  | 'yes'
  | 'no'
  | 'next'
  | 'help'
  | 'quit'
  | 'stop';

export interface KeySpec {
  /** Names as `decodeKeys` gives them; the first is the one that is shown. */
  readonly keys: readonly string[];
  /** One or two words for the footer. */
  readonly label: string;
  readonly help: string;
}

export const KEY_MAP: Readonly<Record<Action, KeySpec>> = {
  up: { keys: ['up', 'k'], label: 'up', help: 'one line up' },
  down: { keys: ['down', 'j'], label: 'down', help: 'one line down' },
  pageUp: { keys: ['pgup', 'ctrl-b', 'ctrl-u'], label: 'page up', help: 'one page up' },
  pageDown: { keys: ['pgdn', 'ctrl-f', 'ctrl-d'], label: 'page down', help: 'one page down' },
  first: { keys: ['home', 'g'], label: 'first', help: 'to the first line' },
  last: { keys: ['end', 'G'], label: 'last', help: 'to the last line' },
  open: { keys: ['enter', 'right', 'l'], label: 'open', help: 'open what the pointer is at; go on' },
  back: { keys: ['esc', 'left', 'h'], label: 'back', help: 'clear the filter; then one page back' },
  mark: { keys: ['space'], label: 'choose', help: 'choose the line, or not any more' },
  markAll: { keys: ['a'], label: 'all', help: 'choose all lines that are shown, or none' },
  filter: { keys: ['/'], label: 'filter', help: 'show only lines that have what is typed' },
  add: { keys: ['n', '+'], label: 'add image', help: 'add an image by its name or location' },
  remove: { keys: ['x', 'delete'], label: 'remove', help: 'take the line out of the list' },
  tags: {
    keys: ['t'],
    label: 'browse',
    help: 'choose among the repositories of a registry, the tags of a repository, the images of a layout or an archive',
  },
  list: { keys: ['f'], label: 'list file', help: 'add the images that a list names: lines, or any YAML' },
  complete: { keys: ['tab'], label: 'complete', help: 'complete what was begun' },
  options: { keys: ['o'], label: 'options', help: 'what else can be set' },
  changes: { keys: ['d'], label: 'changes', help: 'what would be another than it is in the store' },
  plain: { keys: ['p'], label: 'plain HTTP', help: 'ask registries without TLS, or with it again' },
  proceed: { keys: ['c'], label: 'continue', help: 'go on with what is chosen' },
  inspect: { keys: ['i'], label: 'inspect', help: 'look inside without importing' },
  json: { keys: ['J'], label: 'JSON', help: 'the same as JSON' },
  copy: { keys: ['y'], label: 'copy digest', help: 'copy the digest to the clipboard of the terminal' },
  refresh: { keys: ['r'], label: 'look again', help: 'look again' },
  yes: { keys: ['y'], label: 'yes', help: 'answer a question with yes' },
  no: { keys: ['n', 'esc'], label: 'no', help: 'answer a question with no' },
  next: { keys: ['tab', 'down'], label: 'next field', help: 'to the next field' },
  help: { keys: ['?'], label: 'help', help: 'this page' },
  quit: { keys: ['q'], label: 'quit', help: 'leave, with a summary on the screen behind' },
  stop: {
    keys: ['ctrl-c'],
    label: 'stop',
    help: 'stop cleanly, with how to go on; a second time at once',
  },
};

/** Work everywhere, whatever a page lists. */
export const GLOBAL_ACTIONS: readonly Action[] = ['stop', 'help', 'quit', 'back'];

/** One key as a page sees it; `text` is what a field takes. */
export interface KeyPress {
  readonly name: string;
  readonly text: string;
}

/** What Ink tells of a key; the part that is used. */
export interface InkKey {
  readonly upArrow: boolean;
  readonly downArrow: boolean;
  readonly leftArrow: boolean;
  readonly rightArrow: boolean;
  readonly pageUp: boolean;
  readonly pageDown: boolean;
  readonly home: boolean;
  readonly end: boolean;
  readonly return: boolean;
  readonly escape: boolean;
  readonly ctrl: boolean;
  readonly meta: boolean;
  readonly tab: boolean;
  readonly backspace: boolean;
  readonly delete: boolean;
}

const NAMED = [
  ['upArrow', 'up'],
  ['downArrow', 'down'],
  ['leftArrow', 'left'],
  ['rightArrow', 'right'],
  ['pageUp', 'pgup'],
  ['pageDown', 'pgdn'],
  ['home', 'home'],
  ['end', 'end'],
  ['return', 'enter'],
  ['escape', 'esc'],
  ['tab', 'tab'],
  ['backspace', 'backspace'],
  ['delete', 'delete'],
] as const;

const CONTROL: Readonly<Record<string, string>> = {
  '\r': 'enter',
  '\n': 'enter',
  '\t': 'tab',
  '\u007f': 'backspace',
  '\b': 'backspace',
  '\u001b': 'esc',
  '\u0003': 'ctrl-c',
  '\u0015': 'ctrl-u',
  ' ': 'space',
};

/** Keys of one event. What is typed quickly or pasted arrives as one text of many characters. */
export function decodeKeys(input: string, key: InkKey): readonly KeyPress[] {
  for (const [field, name] of NAMED) if (key[field]) return [{ name, text: '' }];
  if (key.ctrl) return [{ name: `ctrl-${input}`, text: '' }];
  // Alt and a letter is none of ours; taking it for the letter would do what nobody asked for.
  if (key.meta) return [];
  return [...input].map((character) => {
    const name = CONTROL[character] ?? character;
    return { name, text: character >= ' ' && character !== '\u007f' ? character : '' };
  });
}

/** The first of a page's actions that a key stands for, else one that works everywhere. */
export function actionOf(name: string, actions: readonly Action[]): Action | undefined {
  for (const action of [...actions, ...GLOBAL_ACTIONS]) {
    if (KEY_MAP[action].keys.includes(name)) return action;
  }
  return undefined;
}

const SHOWN: Readonly<Record<string, readonly [unicode: string, ascii: string]>> = {
  up: ['↑', 'up'],
  down: ['↓', 'down'],
  left: ['←', 'left'],
  right: ['→', 'right'],
};

/** A key as people read it. */
export function keyLabel(name: string, unicode: boolean): string {
  const shown = SHOWN[name];
  if (shown !== undefined) return shown[unicode ? 0 : 1];
  return name.startsWith('ctrl-') ? `Ctrl-${name.slice(5).toUpperCase()}` : name;
}

/** The table of docs/tui.md. */
export function keyTable(): string {
  const rows = Object.values(KEY_MAP).map(
    ({ keys, help }) => `| ${keys.map((key) => `\`${keyLabel(key, true)}\``).join(' ')} | ${help} |`,
  );
  return ['| keys | what they do |', '| --- | --- |', ...rows].join('\n');
}
