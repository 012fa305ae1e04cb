/** Texts on a grid: how wide they are, cut and padded by columns, colours counted as nothing. */
import type { Style } from '../output/style.ts';

const SGR = /\u001b\[[0-9;]*m/g;
const NO_WIDTH = /\p{M}/u;
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;

function widthOf(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x300) return 1;
  if (NO_WIDTH.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

/** Columns a text takes. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text.replace(SGR, '')) width += widthOf(character);
  return width;
}

/** Cut to `columns`, the end marked; colours are closed. */
export function clip(text: string, columns: number, unicode = true): string {
  if (columns <= 0) return '';
  if (textWidth(text) <= columns) return text;
  const mark = unicode ? '…' : '~';
  let width = 0;
  let cut = '';
  let colored = false;
  for (const part of text.split(/(\u001b\[[0-9;]*m)/)) {
    if (part.startsWith('\u001b')) {
      cut += part;
      colored = true;
      continue;
    }
    for (const character of part) {
      const next = widthOf(character);
      if (width + next > columns - 1) return `${cut}${mark}${colored ? '\u001b[0m' : ''}`;
      width += next;
      cut += character;
    }
  }
  return cut;
}

/** Cut from the left, as paths and digests are told apart by their end. */
export function clipStart(text: string, columns: number, unicode = true): string {
  if (textWidth(text) <= columns) return text;
  const characters = [...text];
  let width = 1;
  let from = characters.length;
  while (from > 0 && width + widthOf(characters[from - 1] ?? '') <= columns) {
    from -= 1;
    width += widthOf(characters[from] ?? '');
  }
  return `${unicode ? '…' : '~'}${characters.slice(from).join('')}`;
}

/** Filled up with blanks, or cut, to exactly `columns`. */
export function padTo(text: string, columns: number, unicode = true): string {
  const cut = clip(text, columns, unicode);
  return cut + ' '.repeat(Math.max(0, columns - textWidth(cut)));
}

/** Words over several lines; a word that is too long is broken, so that digests stay whole to the eye. */
export function fold(text: string, columns: number, indent = ''): readonly string[] {
  const room = Math.max(8, columns - indent.length);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/ +/)) {
    let rest = word;
    if (line !== '' && textWidth(line) + 1 + textWidth(rest) <= room) {
      line += ` ${rest}`;
      continue;
    }
    if (line !== '') lines.push(line);
    while (textWidth(rest) > room && !rest.includes('\u001b')) {
      lines.push(rest.slice(0, room));
      rest = rest.slice(room);
    }
    line = rest;
  }
  lines.push(line);
  return lines.map((part) => indent + part);
}

/** `label      value`, the value folded under itself; a word that has no room there gets a line of its own. */
export function pair(
  label: string,
  value: string,
  columns: number,
  style: Style,
  width = 12,
): readonly string[] {
  const room = columns - width - 1;
  if (!value.includes(' ') && textWidth(value) > room)
    return [style.dim(label), ...fold(value, columns - 2).map((line) => `  ${line}`)];
  const [first = '', ...more] = fold(value, room);
  return [
    `${style.dim(label.padEnd(width))} ${first}`,
    ...more.map((line) => `${' '.repeat(width + 1)}${line}`),
  ];
}
