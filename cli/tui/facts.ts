/** Fields of a result that a page has no words of its own for, so that what is added later can be seen at once. */
import { inert } from '../../core/errors.ts';
import type { Style } from '../output/style.ts';
import { pair } from './text.ts';

const MOST_CHARACTERS = 600;

/** @param known fields the page shows already, or that say nothing to people */
export function otherFacts(
  value: object,
  known: readonly string[],
  columns: number,
  style: Style,
): readonly string[] {
  return Object.entries(value).flatMap(([name, field]) => {
    if (known.includes(name) || isEmpty(field)) return [];
    return pair(words(name), textOf(field), columns, style);
  });
}

function isEmpty(field: unknown): boolean {
  return (
    field === undefined || field === null || field === '' || (Array.isArray(field) && field.length === 0)
  );
}

/** `digestMadeHere` as people write it. */
function words(name: string): string {
  return inert(name.replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase(), 40);
}

function textOf(field: unknown): string {
  if (typeof field === 'boolean') return field ? 'yes' : 'no';
  if (typeof field !== 'object') return inert(String(field), MOST_CHARACTERS);
  if (Array.isArray(field) && field.every((one) => typeof one !== 'object'))
    return inert(field.join(', '), MOST_CHARACTERS);
  return inert(JSON.stringify(field), MOST_CHARACTERS);
}
