/** Reading WWW-Authenticate (RFC 9110 section 11.6.1): one field may hold several challenges, several fields may come. */

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case; the first of equal names counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y;
const MAX_LENGTH = 16 * 1024;
const MAX_CHALLENGES = 16;

/** The challenges of all fields in order. What cannot be read ends the field it is in; nothing is thrown. */
export function parseChallenges(fields: readonly string[]): Challenge[] {
  const challenges: Challenge[] = [];
  for (const field of fields) {
    parseField(field.slice(0, MAX_LENGTH), challenges);
    if (challenges.length >= MAX_CHALLENGES) break;
  }
  return challenges.slice(0, MAX_CHALLENGES);
}

function parseField(text: string, challenges: Challenge[]): void {
  let position = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match) position = pattern.lastIndex;
    return match;
  };
  const space = () => take(/[ \t]*/y);
  const comma = () => take(/[ \t,]*/y);
  let parameters: Map<string, string> | undefined;
  for (comma(); position < text.length; comma()) {
    const start = position;
    const word = take(TOKEN)?.[0];
    if (word === undefined) return;
    space();
    if (parameters !== undefined && text[position] === '=') {
      position += 1;
      space();
      const quoted = take(QUOTED);
      const value = quoted ? (quoted[1] ?? '').replace(/\\(.)/gs, '$1') : take(TOKEN)?.[0];
      if (value === undefined) return;
      const name = word.toLowerCase();
      if (!parameters.has(name)) parameters.set(name, value);
      continue;
    }
    if (text[position] === '=') return;
    // A scheme begins; a token68 right behind it (as of Negotiate) is stepped over.
    parameters = new Map();
    challenges.push({ scheme: word.toLowerCase(), parameters });
    if (position > start + word.length && position < text.length) take(TOKEN68);
  }
}
