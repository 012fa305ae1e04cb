/**
 * Where in a JSON text each value stands, so that an error in a file written by hand names its line. It understands
 * what the strict reader accepts and is content with the rest: it only points.
 */

export interface Positions {
  /** Line of the value at that path, from 1; of the nearest enclosing value where there is none. */
  lineOf(path: readonly (string | number)[]): number;
  /** Line of the first key that stands twice in one object. */
  readonly duplicate: number | undefined;
  /** Line of the first thing that cannot stand where it stands. */
  readonly fault: number | undefined;
}

const key = (path: readonly (string | number)[]): string => JSON.stringify(path);

/** Finds the lines of all values in `text`. */
export function findPositions(text: string): Positions {
  const starts = new Map<string, number>();
  const token = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/gs;
  const path: (string | number)[] = [];
  const levels: { readonly isObject: boolean; readonly keys: Set<string> }[] = [];
  let duplicate: number | undefined;
  let fault: number | undefined;
  let next: Next = 'value';
  let keyNext = false;
  let counted = 0;
  let line = 1;
  for (const match of text.matchAll(token)) {
    for (; counted < match.index; counted += 1) if (text.charCodeAt(counted) === 0x0a) line += 1;
    const [word] = match;
    const level = levels.at(-1);
    if (fault === undefined) {
      const after = follow(next, word, levels);
      if (after === undefined) fault = line;
      else next = after;
    }
    if (word === '}' || word === ']') {
      levels.pop();
      path.pop();
      keyNext = false;
    } else if (word === ',') {
      if (level?.isObject) keyNext = true;
      else path.push(Number(path.pop() ?? 0) + 1);
    } else if (word !== ':') {
      if (keyNext && level) {
        const name = unquote(word);
        if (level.keys.has(name)) duplicate ??= line;
        level.keys.add(name);
        path.pop();
        path.push(name);
        starts.set(key(path), line);
        keyNext = false;
        continue;
      }
      if (!starts.has(key(path))) starts.set(key(path), line);
      if (word === '{' || word === '[') {
        levels.push({ isObject: word === '{', keys: new Set() });
        path.push(word === '{' ? '' : 0);
        keyNext = word === '{';
      }
    }
  }
  if (next !== 'end') fault ??= line;
  return {
    duplicate,
    fault,
    lineOf(wanted) {
      for (let length = wanted.length; length > 0; length -= 1) {
        const found = starts.get(key(wanted.slice(0, length)));
        if (found !== undefined) return found;
      }
      return starts.get(key([])) ?? 1;
    },
  };
}

function unquote(word: string): string {
  try {
    return String(JSON.parse(word));
  } catch {
    return word;
  }
}

type Next = 'value' | 'value or ]' | 'key' | 'key or }' | ':' | ', or end' | 'end';

/** What may stand behind `word` where `next` was to come; undefined where it may not stand there. */
function follow(
  next: Next,
  word: string,
  levels: readonly { readonly isObject: boolean }[],
): Next | undefined {
  const level = levels.at(-1);
  const closed = (depth: number): Next => (depth === 0 ? 'end' : ', or end');
  switch (word) {
    case '{':
      return next.startsWith('value') ? 'key or }' : undefined;
    case '[':
      return next.startsWith('value') ? 'value or ]' : undefined;
    case '}':
      return level?.isObject && (next === 'key or }' || next === ', or end')
        ? closed(levels.length - 1)
        : undefined;
    case ']':
      return level?.isObject === false && (next === 'value or ]' || next === ', or end')
        ? closed(levels.length - 1)
        : undefined;
    case ':':
      return next === ':' ? 'value' : undefined;
    case ',':
      return next === ', or end' ? (level?.isObject ? 'key' : 'value') : undefined;
    default:
      if (!isScalar(word)) return undefined;
      if (next.startsWith('key')) return word.startsWith('"') ? ':' : undefined;
      return next.startsWith('value') ? closed(levels.length) : undefined;
  }
}

function isScalar(word: string): boolean {
  try {
    JSON.parse(word);
    return true;
  } catch {
    return false;
  }
}
