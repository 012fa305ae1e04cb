import type { Action } from '../keys.ts';
import type { KeyHint, Page, PageKind, View } from '../page.ts';
import { HIDDEN_LIST_KEYS } from '../page.ts';
import { fold, textWidth } from '../text.ts';

export interface TextPageOptions {
  readonly kind: PageKind;
  readonly title: string;
  readonly lines: (view: View) => readonly string[];
  readonly keys?: readonly KeyHint[];
  readonly act?: (action: Action) => boolean;
  readonly closed?: () => void;
}

/** A page to read, longer than the screen where it has to be. */
export function textPage({ kind, title, lines, keys = [], act, closed }: TextPageOptions): Page {
  let top = 0;
  let height = 10;
  let length = 0;
  const move = (to: number): true => {
    top = Math.max(0, Math.min(to, length - height));
    return true;
  };
  return {
    kind,
    title,
    keys: [...keys, ...HIDDEN_LIST_KEYS],
    lines: (view) => {
      const all = lines(view);
      length = all.length;
      height = view.rows;
      move(top);
      if (all.length <= view.rows) return all;
      // The last line tells that there is more, and where one is.
      height = view.rows - 1;
      const seen = Math.min(all.length, top + height);
      return [
        ...all.slice(top, seen),
        view.style.dim(
          seen < all.length
            ? `lines ${top + 1}-${seen} of ${all.length}: j, page down for more`
            : `lines ${top + 1}-${seen} of ${all.length}`,
        ),
      ];
    },
    act: (action) => {
      if (act?.(action) === true) return true;
      switch (action) {
        case 'up':
          return move(top - 1);
        case 'down':
          return move(top + 1);
        case 'pageUp':
          return move(top - height + 1);
        case 'pageDown':
          return move(top + height - 1);
        case 'first':
          return move(0);
        case 'last':
          return move(length);
        default:
          return false;
      }
    },
    ...(closed === undefined ? {} : { closed }),
  };
}

/** Text as it was laid out; only lines that are too wide are folded, under their own indentation. */
export function keepLines(text: string, columns: number): readonly string[] {
  return text.split('\n').flatMap((line) => {
    if (textWidth(line) <= columns) return [line];
    const indent = /^ */.exec(line)?.[0] ?? '';
    const [first = '', ...more] = fold(line.trimStart(), columns - indent.length - 2);
    return [indent + first, ...more.map((part) => `${indent}  ${part}`)];
  });
}
