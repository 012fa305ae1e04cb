/** A few settings on one page: texts that are typed, and choices that are gone through. */
import type { App } from './app.ts';
import { createField, type Field } from './field.ts';
import type { Action } from './keys.ts';
import type { KeyHint, Page, PageKind, View } from './page.ts';
import { clipStart, fold, padTo } from './text.ts';

interface RowFacts {
  readonly label: string;
  /** One sentence, shown while the row is the active one. */
  readonly help: string;
  /** Set where the value weakens a check. */
  readonly warning?: () => string | undefined;
}

export interface TextRow extends RowFacts {
  readonly field: Field;
  /** The value is a path that can be completed. */
  readonly path?: boolean;
}

export interface ChoiceRow extends RowFacts {
  readonly options: readonly string[];
  chosen: number;
}

export type FormRow = TextRow | ChoiceRow;

export interface FormOptions {
  readonly kind: PageKind;
  readonly title: string;
  readonly heading: string;
  readonly rows: readonly FormRow[];
  /** What the last key leads to, in a word. */
  readonly label: string;
  readonly proceed: (focus: (row: FormRow) => void) => void;
  /** Below the rows. */
  readonly more?: (view: View) => readonly string[];
  readonly changed?: () => void;
}

export function textRow(label: string, value: string, help: string, more: { path?: boolean } = {}): TextRow {
  return { label, help, field: createField({ value }), ...more };
}

export function formPage(app: App, options: FormOptions): Page {
  const { rows } = options;
  let active = 0;
  const row = (): FormRow | undefined => rows[active];
  const fieldOf = (one: FormRow | undefined): Field | undefined =>
    one !== undefined && 'field' in one ? one.field : undefined;

  function choose(by: number): void {
    const one = row();
    if (one === undefined || !('options' in one)) return;
    one.chosen = (one.chosen + by + one.options.length) % one.options.length;
    options.changed?.();
  }
  function complete(): void {
    const one = row();
    if (one === undefined || !('field' in one)) return;
    const { field } = one;
    app.options.machine.complete(field.value).then(
      (found) => {
        if (found.length === 0) app.say('nothing begins like that');
        else {
          field.value = commonStart(found);
          options.changed?.();
          app.say(found.length === 1 ? '' : found.map((name) => name.split('/').at(-2) ?? name).join('  '));
        }
      },
      () => {},
    );
  }
  const proceed = (): void =>
    options.proceed((one) => {
      active = Math.max(0, rows.indexOf(one));
    });
  const act = (action: Action): boolean => {
    switch (action) {
      case 'next':
      case 'down':
        active = (active + 1) % rows.length;
        return true;
      case 'up':
        active = (active + rows.length - 1) % rows.length;
        return true;
      case 'complete': {
        const one = row();
        if (one !== undefined && 'field' in one && one.path === true) complete();
        else active = (active + 1) % rows.length;
        return true;
      }
      case 'mark':
        choose(1);
        return true;
      case 'open':
      case 'proceed':
        proceed();
        return true;
      default:
        return false;
    }
  };
  return {
    kind: options.kind,
    title: options.title,
    get keys(): readonly KeyHint[] {
      const one = row();
      return [
        { action: 'open', label: options.label },
        ...(one !== undefined && 'options' in one
          ? ([
              { action: 'mark', label: 'change' },
              { action: 'proceed', label: options.label },
            ] as const)
          : []),
        ...(one !== undefined && 'field' in one && one.path === true
          ? ([{ action: 'complete' }] as const)
          : []),
        { action: 'down', label: 'next' },
        { action: 'up', quiet: true },
        { action: 'proceed', quiet: true },
        { action: 'next', quiet: true },
      ];
    },
    get field() {
      return fieldOf(row());
    },
    typed: () => options.changed?.(),
    act,
    lines: (view) => {
      const { style, columns } = view;
      const warnings = rows.flatMap(({ warning }) => warning?.() ?? []);
      const current = row();
      return [
        style.bold(options.heading),
        '',
        ...rows.map((one, at) => {
          const here = at === active;
          const room = columns - 18;
          const value =
            'field' in one
              ? here
                ? one.field.line(room, style)
                : clipStart(one.field.value, room, style.unicode) || style.dim('-')
              : choiceText(one, here, view);
          return `${here ? (style.unicode ? '▸' : '>') : ' '} ${padTo(one.label, 14)} ${here ? style.bold(value) : value}`;
        }),
        '',
        ...(current === undefined ? [] : fold(current.help, columns).map((line) => style.dim(line))),
        ...warnings.map((text) => style.warn(`${style.attention} ${text}`)),
        ...(options.more === undefined ? [] : ['', ...options.more(view)]),
      ];
    },
  };
}

function choiceText({ options, chosen }: ChoiceRow, here: boolean, { columns }: View): string {
  const all = options.map((option, at) => (at === chosen ? `(${option})` : ` ${option} `)).join(' ');
  // All choices where they fit, so that one sees what else there is.
  return here && all.length <= columns - 18 ? all.trim() : `${options[chosen] ?? ''}`;
}

function commonStart(texts: readonly string[]): string {
  const [first = '', ...more] = texts;
  let length = first.length;
  for (const text of more) {
    while (!text.startsWith(first.slice(0, length))) length -= 1;
  }
  return first.slice(0, length);
}
