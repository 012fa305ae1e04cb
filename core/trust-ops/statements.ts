/** What metadata says, in words. */
import { inert } from '../errors.ts';
import type { JsonObject } from '../json/strict.ts';
import { signedForm } from '../trust/metadata.ts';

/** Characters of a value in a line. */
const MOST_SHOWN = 1500;

function compareLists(
  subject: string,
  now: readonly unknown[],
  then: readonly unknown[],
  text: (value: unknown) => string,
): string[] {
  const [has, had] = [now, then].map((list) => new Set(list.map(text)));
  const gained = [...(has ?? [])].filter((one) => !had?.has(one)).map((one) => `${subject} gains ${one}`);
  const lost = [...(had ?? [])].filter((one) => !has?.has(one)).map((one) => `${subject} loses ${one}`);
  return gained.length + lost.length > 0 ? [...gained, ...lost] : [`${subject} is in another order`];
}

/** The first delegation that has a name answers for it: who is asked before whom is a statement too. */
function compareOrder(now: readonly string[], then: readonly string[]): string[] {
  const places = new Map(then.map((name, at) => [name, at]));
  return now.flatMap((name, at) => {
    const next = now.slice(at + 1).find((other) => places.has(other));
    if (next === undefined || (places.get(name) ?? Infinity) < (places.get(next) ?? 0)) return [];
    return [`delegation ${inert(name)} is asked before ${inert(next)}`];
  });
}

/** Differences, or all there is where there is nothing to compare with. */
export function statementsOf(role: string, signed: JsonObject, before: JsonObject | undefined): string[] {
  const form = (value: unknown): string => (value === undefined ? '' : signedForm(value).toString('utf8'));
  const text = (value: unknown): string => inert(form(value), MOST_SHOWN);
  const isLong = (value: unknown): boolean => form(value).length > MOST_SHOWN;
  const isParted = (value: unknown): boolean =>
    isLong(value) && typeof value === 'object' && value !== null && !Array.isArray(value);
  const entries = (object: unknown): Map<string, unknown> =>
    new Map(Object.entries((object ?? {}) as Record<string, unknown>));
  const said: string[] = [];
  const compare = (what: string, now: ReadonlyMap<string, unknown>, then: ReadonlyMap<string, unknown>) => {
    for (const [name, value] of now) {
      const old = then.get(name);
      const subject = `${what} ${inert(name)}`;
      if (form(old) === form(value)) continue;
      // What is too long for a line is told part by part: nothing may change behind the end of one.
      if (isParted(value) || isParted(old)) compare(subject, entries(value), entries(old));
      else if (
        old !== undefined &&
        Array.isArray(value) &&
        Array.isArray(old) &&
        (isLong(value) || isLong(old))
      )
        said.push(...compareLists(subject, value, old, text));
      else if (old === undefined) said.push(`${subject}: ${text(value)}`);
      else said.push(`${subject} changes from ${text(old)} to ${text(value)}`);
    }
    for (const name of then.keys()) if (!now.has(name)) said.push(`${what} ${inert(name)} goes`);
  };
  const byName = (list: unknown): Map<string, unknown> =>
    new Map(((list ?? []) as { name: string }[]).map((entry) => [String(entry.name), entry]));
  if (role === 'root') {
    compare('role', entries(signed['roles']), entries(before?.['roles']));
    compare('key', entries(signed['keys']), entries(before?.['keys']));
  } else {
    compare('image', entries(signed['targets']), entries(before?.['targets']));
    compare('withdrawn', byName(signed['x-withdrawn']), byName(before?.['x-withdrawn']));
    const now = signed['delegations'] as JsonObject | undefined;
    const then = before?.['delegations'] as JsonObject | undefined;
    const [roles, rolesThen] = [byName(now?.['roles']), byName(then?.['roles'])];
    compare('delegation', roles, rolesThen);
    if (then) said.push(...compareOrder([...roles.keys()], [...rolesThen.keys()]));
    compare('key', entries(now?.['keys']), entries(then?.['keys']));
  }
  return said;
}
