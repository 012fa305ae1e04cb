import { inert } from '../../core/errors.ts';
import type { Style } from '../output/style.ts';
import type { KeyPress } from './keys.ts';
import { clipStart, textWidth } from './text.ts';

/** One line that is typed. */
export interface Field {
  value: string;
  readonly secret: boolean;
  /** True where the key was for the field. */
  take(key: KeyPress): boolean;
  /** The field as it is shown, with its cursor. */
  line(columns: number, style: Style): string;
}

export interface FieldOptions {
  readonly value?: string;
  readonly secret?: boolean;
  readonly max?: number;
  /** Characters that are taken; all by default. */
  readonly allow?: RegExp;
}

/** Keys that move or take away within a line, and are no actions while one is typed. */
export function createField({ value = '', secret = false, max = 4096, allow }: FieldOptions = {}): Field {
  let characters = [...value];
  let at = characters.length;

  function edit(name: string): boolean {
    switch (name) {
      case 'backspace':
        if (at > 0) characters.splice(--at, 1);
        return true;
      case 'delete':
      case 'ctrl-d':
        characters.splice(at, 1);
        return true;
      case 'left':
      case 'ctrl-b':
        at = Math.max(0, at - 1);
        return true;
      case 'right':
      case 'ctrl-f':
        at = Math.min(characters.length, at + 1);
        return true;
      case 'home':
      case 'ctrl-a':
        at = 0;
        return true;
      case 'end':
      case 'ctrl-e':
        at = characters.length;
        return true;
      case 'ctrl-u':
        characters = characters.slice(at);
        at = 0;
        return true;
      case 'ctrl-k':
        characters = characters.slice(0, at);
        return true;
      case 'ctrl-w': {
        const before = characters
          .slice(0, at)
          .join('')
          .replace(/[^/:=\s]*[/:=\s]*$/, '');
        characters = [...before, ...characters.slice(at)];
        at = [...before].length;
        return true;
      }
      default:
        return false;
    }
  }
  return {
    get value() {
      return characters.join('');
    },
    set value(text: string) {
      characters = [...text];
      at = characters.length;
    },
    secret,
    take: ({ name, text }) => {
      if (edit(name)) return true;
      if (text === '') return false;
      if (characters.length < max && (allow === undefined || allow.test(text))) {
        characters.splice(at, 0, text);
        at += 1;
      }
      return true;
    },
    line: (columns, style) => {
      // A completed path is spelt as a medium has it.
      const shown = characters.map((one) => (secret ? (style.unicode ? '•' : '*') : inert(one)));
      const cursor = style.unicode ? '▏' : '_';
      const room = Math.max(2, columns - 1);
      const after = shown.slice(at).join('');
      // What is behind the cursor gives way first, then what is far before it.
      const tail = textWidth(after) > room / 3 ? [...after].slice(0, Math.floor(room / 3)).join('') : after;
      return `${clipStart(shown.slice(0, at).join(''), room - textWidth(tail), style.unicode)}${cursor}${tail}`;
    },
  };
}
