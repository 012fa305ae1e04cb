import { inert, SealiftError } from '../../core/errors.ts';

const MINUTE = 60_000;
const UNITS: Readonly<Record<string, number>> = {
  m: MINUTE,
  h: 60 * MINUTE,
  d: 1440 * MINUTE,
  w: 10_080 * MINUTE,
  y: 525_600 * MINUTE,
};

/** A length of time such as `90d`, `12h`, `30m`, `2w` or `1y` (365 days), in milliseconds. */
export function parseDuration(text: string, option: string): number {
  const match = /^(\d{1,6})([mhdwy])$/.exec(text);
  const length = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN);
  if (!(length > 0)) {
    throw new SealiftError(
      'invalid-argument',
      `option ${option}: got ${inert(text)}, want a length of time such as 90d or 12h`,
      {
        subject: option,
      },
    );
  }
  return length;
}

/** A moment as RFC 3339 has it, whole seconds; the zone must be said. */
export function parseMoment(text: string, option: string): Date {
  const shape = /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.0+)?(?:[Zz]|[+-]\d{2}:\d{2})$/.exec(text);
  const date = new Date(text);
  // Date.parse rolls 31 February over into March; the day must come back as it was written, in the zone it was written in.
  const plain = shape === null ? undefined : new Date(`${shape[1]}T${shape[2]}Z`);
  if (
    plain === undefined ||
    Number.isNaN(date.getTime()) ||
    plain.toISOString().slice(0, 10) !== shape?.[1]
  ) {
    throw new SealiftError(
      'invalid-argument',
      `option ${option}: got ${inert(text)}, want a moment such as 2026-11-23T12:00:00Z`,
      { subject: option },
    );
  }
  return date;
}

/** A SHA-256 as people write it: with or without `sha256:`, blanks or colons between groups, any case. */
export function parseFingerprint(text: string, option: string): string {
  const plain = text
    .replace(/^sha256:/i, '')
    .replace(/[\s:-]/g, '')
    .toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(plain)) {
    throw new SealiftError(
      'invalid-argument',
      `option ${option}: got ${inert(text)}, want 64 hexadecimal digits (blanks between them do no harm)`,
      { subject: option },
    );
  }
  return plain;
}
