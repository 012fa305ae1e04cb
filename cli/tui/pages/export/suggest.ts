/**
 * Type-ahead for image names: what the collection carries already, repositories of a registry that lists them, tags of a
 * repository, paths. A registry is asked only when its name is complete (a slash or a colon behind it) and the typing rests.
 */
import type { App } from '../../app.ts';
import { type Draft, sourceOptions } from './draft.ts';

/** Milliseconds without a key before anybody is asked. */
const REST = 350;
const MOST_SHOWN = 50;

export interface Suggester {
  /** What `text` could become, best first; more may come later. */
  suggest(text: string): readonly string[];
  /** Looks for more, once the typing rests. */
  typed(text: string): void;
  close(): void;
}

export function createSuggester(app: App, draft: Draft): Suggester {
  const { workflows, machine } = app.options;
  const lists = new Map<string, readonly string[]>();
  let carried: readonly string[] = [];
  let paths: readonly string[] = [];
  let timer: NodeJS.Timeout | undefined;

  app
    .work((context) => workflows.inspect({ location: draft.collection, names: [] }, context), {
      signal: draft.controller.signal,
    })
    .then(
      ({ images }) => {
        carried = images.map(({ name }) => name);
        app.changed();
      },
      () => {},
    );

  /** The list that what is typed is a part of. */
  function listFor(text: string): string | undefined {
    const plain = text.replace(/^docker:\/\//, '');
    if (isPath(plain) || plain.includes('=') || plain.includes('@')) return undefined;
    const slash = plain.lastIndexOf('/');
    const colon = plain.indexOf(':', slash + 1);
    if (colon > 0)
      return slash < 0 && /^\d{4,5}$/.test(plain.slice(colon + 1)) ? undefined : plain.slice(0, colon);
    const host = plain.slice(0, plain.indexOf('/'));
    return plain.includes('/') && /[.:]|^localhost$/.test(host) ? host : undefined;
  }
  async function ask(text: string): Promise<void> {
    if (isPath(text)) {
      paths = await machine.complete(text);
      return;
    }
    const location = listFor(text);
    if (location === undefined) return;
    const key = `${draft.sources.connection} ${location}`;
    if (lists.has(key)) return;
    // Also where it fails: what does not list is not asked again for every letter.
    lists.set(key, []);
    const source = await sourceOptions(app, draft, 0);
    const { locations } = await app.work((context) => workflows.listNames({ location, source }, context), {
      signal: draft.controller.signal,
    });
    lists.set(
      key,
      locations.map((one) => one.replace(/^docker:\/\//, '')),
    );
  }
  return {
    suggest: (text) => {
      if (text === '') return [];
      if (isPath(text)) return paths.filter((one) => one.startsWith(text) && one !== text);
      const plain = text.replace(/^docker:\/\//, '');
      const listed = lists.get(`${draft.sources.connection} ${listFor(text) ?? ''}`) ?? [];
      const familiar = (name: string): string => name.replace(/^docker\.io\/(?:library\/)?/, '');
      const found = [
        ...listed.flatMap((name) => [name, familiar(name)]),
        ...carried,
        ...carried.map(familiar),
      ].filter((name) => name.startsWith(plain) && name !== plain);
      return [...new Set(found)].slice(0, MOST_SHOWN);
    },
    typed: (text) => {
      clearTimeout(timer);
      timer = setTimeout(
        () => {
          ask(text).then(
            () => app.changed(),
            () => {},
          );
        },
        isPath(text) ? 0 : REST,
      );
    },
    close: () => clearTimeout(timer),
  };
}

/** A place on this machine, with or without its kind in front. */
export function isPath(text: string): boolean {
  return /^(?:(?:oci|oci-archive|docker-archive|bundle|store|static|file):)?[./~]/.test(text);
}
