/** registries.d (containers-registries.d(5)): where the signatures of an image lie that are beside its registry. */
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import { scopesOf } from '../trust/policy/scopes.ts';

interface Section {
  readonly lookaside?: string | undefined;
  readonly staging?: string | undefined;
}

export interface LookasideSettings {
  readonly default?: Section | undefined;
  readonly scopes: ReadonlyMap<string, Section>;
  /** Directory where nothing else is said; none where absent. */
  readonly fallback?: string | undefined;
}

export const MAX_REGISTRIES_D = 1024 * 1024;

/**
 * Reads the files of a registries.d directory, given in the order of their names.
 * @throws SealiftError `invalid-argument` for what is not of that form, and for a scope in two files
 */
export async function parseRegistriesD(
  files: readonly { readonly name: string; readonly text: string }[],
  fallback: string | undefined,
): Promise<LookasideSettings> {
  const { parse } = await import('yaml');
  const scopes = new Map<string, Section>();
  let found: Section | undefined;
  for (const { name, text } of files) {
    const wrong = (problem: string): SealiftError =>
      new SealiftError('invalid-argument', `registries.d: ${inert(problem)}`, { subject: inert(name) });
    let document: unknown;
    try {
      document = parse(text, { maxAliasCount: 0, uniqueKeys: true }) ?? {};
    } catch (error) {
      throw wrong(`not YAML: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : ''}`);
    }
    if (!isObject(document)) throw wrong('not a YAML object');
    for (const [key, value] of Object.entries(document)) {
      if (key === 'default-docker') {
        if (found) throw wrong('default-docker is there twice');
        found = readSection(value ?? {}, wrong);
      } else if (key === 'docker') {
        if (!isObject(value)) throw wrong('docker is no object');
        for (const [scope, section] of Object.entries(value)) {
          if (scopes.has(scope)) throw wrong(`the scope ${scope} is there twice`);
          scopes.set(scope, readSection(section ?? {}, wrong));
        }
      } else throw wrong(`unknown field ${key}`);
    }
  }
  return { default: found, scopes, fallback };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readSection(value: unknown, wrong: (problem: string) => SealiftError): Section {
  if (!isObject(value)) throw wrong('a section is no object');
  const texts = ['lookaside', 'lookaside-staging', 'sigstore', 'sigstore-staging'];
  for (const [key, text] of Object.entries(value)) {
    if (key === 'use-sigstore-attachments') continue;
    if (!texts.includes(key)) throw wrong(`unknown field ${key}`);
    if (typeof text !== 'string' || !/^(?:file|https?):\/\//.test(text) || !URL.canParse(text))
      throw wrong(`${key} is no file:, http: or https: URL`);
  }
  const one = (name: string, old: string): string | undefined =>
    (value[name] ?? value[old]) as string | undefined;
  return { lookaside: one('lookaside', 'sigstore'), staging: one('lookaside-staging', 'sigstore-staging') };
}

/**
 * Base URL of the signatures of `name`; undefined where there is none.
 * @param write the place to write to, which may be another
 */
export function lookasideFor(settings: LookasideSettings, name: string, write = false): string | undefined {
  const pick = (section: Section | undefined): string | undefined =>
    (write ? section?.staging : undefined) ?? section?.lookaside;
  for (const scope of scopesOf(name)) {
    const found = pick(settings.scopes.get(scope));
    if (found !== undefined) return found;
  }
  const found = pick(settings.default);
  if (found !== undefined) return found;
  return settings.fallback === undefined ? undefined : `file://${path.resolve(settings.fallback)}`;
}
