/** The paper receipt (docs/receipts-and-deltas.md, "The code"): a version and eight characters that a person reads out. */
import { createHash } from 'node:crypto';
import { inert, SealiftError } from '../errors.ts';

/** Crockford's base 32: no I, L, O, U. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
/** Characters behind the version, without the check character. */
const DATA = 7;

export interface Arrival {
  readonly collection: string;
  readonly version: number;
  /** SHA-256 of the bundle's sealift.json, lower-case hex. */
  readonly manifest: string;
}

/** The code that says that a bundle has arrived whole: `17-T6QK-0TH7`. */
export function paperCode({ collection, version, manifest }: Arrival): string {
  const text = `sealift paper receipt 1\n${collection}\n${version}\n${manifest}\n`;
  const hash = createHash('sha256').update(text, 'utf8').digest();
  let bits = BigInt(`0x${hash.subarray(0, 5).toString('hex')}`) >> 5n;
  let data = '';
  for (let i = 0; i < DATA; i += 1) {
    data = `${ALPHABET.charAt(Number(bits & 31n))}${data}`;
    bits >>= 5n;
  }
  const all = `${data}${checkCharacter(`${version}${data}`)}`;
  return `${version}-${all.slice(0, 4)}-${all.slice(4)}`;
}

/** Horner's rule in GF(32): each place has a factor of its own, and no two neighbours the same. */
function checkCharacter(text: string): string {
  let sum = 0;
  for (const character of text) sum = double(sum) ^ ALPHABET.indexOf(character);
  return ALPHABET.charAt(double(sum));
}

function double(value: number): number {
  return value & 16 ? ((value << 1) ^ 0b100101) & 31 : value << 1;
}

/** True for what can only be meant as a code, right or wrong. */
export function looksLikeCode(text: string): boolean {
  return /^[1-9][0-9]{0,15}-[0-9a-z]{4}-?[0-9a-z]{4}$/i.test(text.trim());
}

/**
 * A code as it was typed, in its one spelling.
 * @throws SealiftError `invalid-argument` where it is none, or the check character does not fit
 */
export function parseCode(text: string): { readonly code: string; readonly version: number } {
  const [, digits, rest] = /^([1-9][0-9]{0,15})-([0-9a-z-]{8,9})$/i.exec(text.trim()) ?? [];
  const plain = (rest ?? '').replace('-', '').toUpperCase().replaceAll('O', '0').replaceAll(/[IL]/g, '1');
  const version = Number(digits);
  if (plain.length !== DATA + 1 || ![...plain].every((c) => ALPHABET.includes(c))) {
    throw new SealiftError('invalid-argument', `no code of a receipt: got ${inert(text, 60)}`, {
      subject: '--since',
      got: inert(text, 60),
      want: 'such as 17-T6QK-0TH7',
    });
  }
  const data = plain.slice(0, DATA);
  if (!Number.isSafeInteger(version) || checkCharacter(`${version}${data}`) !== plain.charAt(DATA)) {
    throw new SealiftError('invalid-argument', 'a character of the code was misread or mistyped', {
      subject: '--since',
      got: inert(text, 60),
      hint: 'have it read out again; the check character does not fit the rest',
    });
  }
  return { code: `${version}-${plain.slice(0, 4)}-${plain.slice(4)}`, version };
}
