import { type ImageFailure, inert, type SealiftError } from '../../core/errors.ts';
import type { Style } from './style.ts';

/**
 * An error as a person reads it. What the message says already is not said a second time; the code comes last,
 * for docs/errors.md and for scripts.
 */
export function errorText(error: SealiftError, style: Style, debug = false): string {
  const message =
    error.code === 'internal'
      ? `unexpected: ${inert(error.message, 500)}`
      : // Messages may quote a list or a hint of some length; a terminal sequence they never hold.
        inert(error.message, 2000);
  const lines = [`sealift: ${style.bad('error')}: ${message}`];
  const detail = (label: string, value: string | number | undefined): void => {
    const text = value === undefined ? '' : inert(String(value), 1000);
    if (text !== '' && !message.includes(text)) lines.push(`  ${`${label}:`.padEnd(6)} ${text}`);
  };
  detail('where', error.subject);
  detail('got', error.got);
  detail('want', error.want);
  detail('check', error.check);
  for (const failure of error.failures ?? []) lines.push(...failureText(failure));
  lines.push(`  code:  ${error.code}`);
  if (error.hint !== undefined) lines.push(`sealift: hint: ${inert(error.hint, 2000)}`);
  if (error.code === 'internal') {
    lines.push(
      debug
        ? stackOf(error)
        : 'sealift: hint: this is a defect of sealift; run the same with --debug and report what it prints',
    );
  }
  return lines.join('\n');
}

/** One image of several that failed. */
export function failureText({ name, code, message, hint }: ImageFailure): string[] {
  return [
    `  ${inert(name, 1000)}`,
    `    ${inert(message, 2000)} (${code})`,
    ...(hint === undefined ? [] : [`    hint: ${inert(hint, 2000)}`]),
  ];
}

function stackOf(error: SealiftError): string {
  const { cause } = error;
  const stack = (cause instanceof Error ? cause.stack : undefined) ?? error.stack ?? '';
  return stack
    .split('\n')
    .map((line) => inert(line, 1000))
    .join('\n');
}
