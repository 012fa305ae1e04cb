import type { Style } from '../output/style.ts';
import type { KeyPress } from './keys.ts';
import { clipStart } from './text.ts';

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

export function createField({ value = '', secret = false, max = 4096, allow }: FieldOptions = {}): Field {
  const field: Field = {
    value,
    secret,
    take: ({ name, text }) => {
      if (name === 'backspace') {
        field.value = [...field.value].slice(0, -1).join('');
        return true;
      }
      if (name === 'ctrl-u') {
        field.value = '';
        return true;
      }
      if (text === '') return false;
      if (field.value.length < max && (allow === undefined || allow.test(text))) field.value += text;
      return true;
    },
    line: (columns, style) => {
      const shown = secret ? (style.unicode ? '•' : '*').repeat([...field.value].length) : field.value;
      return `${clipStart(shown, Math.max(1, columns - 1), style.unicode)}${style.unicode ? '▏' : '_'}`;
    },
  };
  return field;
}
