/** Numbers, times and columns as people read them. */
import { inert } from '../../core/errors.ts';

const STEPS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `812 B`, `7.6 MiB`, `31 GiB`. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`;
  let value = bytes;
  let unit = 'B';
  for (const step of STEPS) {
    // 1023.96 KiB would round to "1024 KiB".
    if (value < 1023.5) break;
    value /= 1024;
    unit = step;
  }
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

/** `2026-11-23 12:00 UTC` of an RFC 3339 text or a Date. */
export function formatTime(moment: string | Date): string {
  const date = typeof moment === 'string' ? new Date(moment) : moment;
  if (Number.isNaN(date.getTime())) return 'unknown';
  return `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** `in 89 days`, `12 hours ago`. */
export function formatDistance(moment: string, now: Date): string {
  const milliseconds = new Date(moment).getTime() - now.getTime();
  if (Number.isNaN(milliseconds)) return 'unknown';
  const hours = Math.abs(milliseconds) / 3_600_000;
  const [count, unit] =
    hours >= 48 ? [hours / 24, 'day'] : hours >= 1 ? [hours, 'hour'] : [hours * 60, 'minute'];
  const length = plural(Math.round(count), unit);
  return milliseconds >= 0 ? `in ${length}` : `${length} ago`;
}

/** Seconds as `8s`, `4m 05s`, `2h 10m`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${String(whole % 60).padStart(2, '0')}s`;
  return `${Math.floor(whole / 3600)}h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** `sha256:0123456789ab`: enough to recognise, never enough to copy. */
export function shortDigest(digest: string): string {
  const colon = digest.indexOf(':');
  return digest.slice(0, colon + 13);
}

/** A fingerprint to be read out: groups of four digits, eight to a line. */
export function groupedFingerprint(hex: string): readonly string[] {
  const groups = hex.match(/.{1,4}/g) ?? [];
  const lines: string[] = [];
  for (let start = 0; start < groups.length; start += 8) lines.push(groups.slice(start, start + 8).join(' '));
  return lines;
}

/** Rows in columns, two blanks between them; the last column is not padded. Cells hold no colour. */
export function table(rows: readonly (readonly string[])[], indent = ''): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return rows.map((row) =>
    `${indent}${row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ')}`.trimEnd(),
  );
}

/**
 * A word as a POSIX shell takes it. What could not be shown (control characters, bidirectional overrides) is spelt as
 * bash, zsh and ksh take it, so that the word is still the same word.
 */
export function shellQuote(word: string): string {
  if (/^[A-Za-z0-9_/.,:=@%+-]+$/.test(word)) return word;
  if (inert(word, word.length) === word) return `'${word.replaceAll("'", "'\\''")}'`;
  const spelt = [...word].map((character) => {
    if (character === "'" || character === '\\') return `\\${character}`;
    if (inert(character) === character) return character;
    return [...Buffer.from(character)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
  });
  return `$'${spelt.join('')}'`;
}

/** A command over several lines of at most `columns`, each but the last ending so that a shell goes on with the next. */
export function commandLines(words: readonly string[], columns: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of words.map(shellQuote)) {
    if (line !== '' && line.length + word.length + 3 > columns) {
      lines.push(`${line} \\`);
      line = `  ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

/** Breaks words over lines of at most `width`. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  if (line !== '') lines.push(line);
  return lines;
}
