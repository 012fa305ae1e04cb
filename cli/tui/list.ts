import type { Style } from '../output/style.ts';
import { createField, type Field } from './field.ts';
import type { Action } from './keys.ts';

/** A list of any length, of which only what fits is ever made into lines. */
export interface List<T> {
  readonly items: readonly T[];
  readonly shown: readonly T[];
  readonly marked: ReadonlySet<string>;
  /** Set while a filter is typed. */
  readonly field: Field | undefined;
  readonly filter: string;
  current(): T | undefined;
  setItems(items: readonly T[]): void;
  mark(keys: Iterable<string>): void;
  /** Puts the pointer on the line of that key, where it is shown. */
  point(key: string): void;
  /** True where the action was for the list. */
  act(action: Action): boolean;
  /** Told when the filter field has changed. */
  filterChanged(): void;
  lines(
    height: number,
    style: Style,
    row: (item: T, here: boolean, marked: boolean) => string,
  ): readonly string[];
}

export interface ListOptions<T> {
  readonly items?: readonly T[];
  readonly key: (item: T) => string;
  /** What a filter looks at. */
  readonly text: (item: T) => string;
  /** Lines that cannot be chosen, such as headings. */
  readonly passive?: (item: T) => boolean;
  /** True where lines can be chosen; a set of their keys where somebody else looks at what is chosen, too. */
  readonly marks?: boolean | Set<string>;
}

export const LIST_ACTIONS: readonly Action[] = [
  'up',
  'down',
  'pageUp',
  'pageDown',
  'first',
  'last',
  'filter',
];

export function createList<T>({
  items = [],
  key,
  text,
  passive = () => false,
  marks = false,
}: ListOptions<T>): List<T> {
  const marked = typeof marks === 'boolean' ? new Set<string>() : marks;
  const filterField = createField();
  let all = items;
  let shown = items;
  let typing = false;
  let cursor = 0;
  let top = 0;
  let height = 10;

  function refilter(): void {
    const wanted = filterField.value.toLowerCase();
    shown =
      wanted === '' ? all : all.filter((item) => !passive(item) && text(item).toLowerCase().includes(wanted));
    settle(1);
  }
  /** Onto a line that can be chosen, looking in one direction first. */
  function settle(direction: 1 | -1): void {
    cursor = Math.min(Math.max(cursor, 0), Math.max(0, shown.length - 1));
    for (const step of [direction, -direction]) {
      for (let at = cursor; at >= 0 && at < shown.length; at += step) {
        const item = shown[at];
        if (item !== undefined && !passive(item)) {
          cursor = at;
          return;
        }
      }
    }
  }
  function move(by: number): void {
    cursor += by;
    settle(by < 0 ? -1 : 1);
    // Headings above the first line come into sight with it.
    if (by < 0 && shown.slice(0, cursor).every(passive)) top = 0;
  }
  refilter();

  const list: List<T> = {
    get items() {
      return all;
    },
    get shown() {
      return shown;
    },
    get marked() {
      return marked;
    },
    get field() {
      return typing ? filterField : undefined;
    },
    get filter() {
      return filterField.value;
    },
    current: () => {
      const item = shown[cursor];
      return item === undefined || passive(item) ? undefined : item;
    },
    setItems: (next) => {
      const before = list.current();
      all = next;
      refilter();
      if (before === undefined) return;
      const at = shown.findIndex((item) => key(item) === key(before));
      if (at >= 0) cursor = at;
    },
    mark: (keys) => {
      marked.clear();
      for (const one of keys) marked.add(one);
    },
    point: (wanted) => {
      const at = shown.findIndex((item) => key(item) === wanted);
      if (at >= 0) cursor = at;
    },
    filterChanged: refilter,
    act: (action) => {
      if (typing) {
        if (action === 'open') typing = false;
        else if (action === 'back') {
          typing = false;
          filterField.value = '';
          refilter();
        } else if (action === 'up' || action === 'down') move(action === 'up' ? -1 : 1);
        else return false;
        return true;
      }
      switch (action) {
        case 'up':
          move(-1);
          return true;
        case 'down':
          move(1);
          return true;
        case 'pageUp':
          move(-Math.max(1, height - 1));
          return true;
        case 'pageDown':
          move(Math.max(1, height - 1));
          return true;
        case 'first':
          cursor = 0;
          top = 0;
          settle(1);
          return true;
        case 'last':
          cursor = shown.length - 1;
          settle(-1);
          return true;
        case 'filter':
          typing = true;
          return true;
        case 'back':
          if (filterField.value === '') return false;
          filterField.value = '';
          refilter();
          return true;
        case 'mark': {
          const item = list.current();
          if (marks === false || item === undefined) return false;
          if (!marked.delete(key(item))) marked.add(key(item));
          move(1);
          return true;
        }
        case 'markAll': {
          if (marks === false) return false;
          const keys = shown.filter((item) => !passive(item)).map(key);
          const every = keys.every((one) => marked.has(one));
          for (const one of keys) {
            if (every) marked.delete(one);
            else marked.add(one);
          }
          return true;
        }
        default:
          return false;
      }
    },
    lines: (room, style, row) => {
      const filterLine =
        typing || filterField.value !== ''
          ? [
              `${style.dim('filter:')} ${typing ? filterField.line(40, style) : filterField.value}  ${style.dim(`${shown.length} of ${all.filter((item) => !passive(item)).length}`)}`,
            ]
          : [];
      height = Math.max(1, room - filterLine.length);
      if (cursor < top) top = cursor;
      if (cursor >= top + height) top = cursor - height + 1;
      top = Math.max(0, Math.min(top, shown.length - height));
      const lines = shown.slice(top, top + height).map((item, index) => {
        const here = top + index === cursor && !passive(item);
        return row(item, here, marked.has(key(item)));
      });
      return [...filterLine, ...lines];
    },
  };
  return list;
}
