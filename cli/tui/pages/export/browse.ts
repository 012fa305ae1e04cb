/** Choosing among what a place lists: repositories of a registry, tags of a repository, images of a layout or an archive. */
import path from 'node:path';
import { inert } from '../../../../core/errors.ts';
import type { NameList } from '../../../../core/preview.ts';
import type { App } from '../../app.ts';
import { mark, row } from '../../frame.ts';
import { createList } from '../../list.ts';
import { HIDDEN_LIST_KEYS, type KeyHint, type Page } from '../../page.ts';
import { refusalPage } from '../refusal.ts';
import { workPage } from '../work.ts';
import { type Draft, sourceOptions } from './draft.ts';

/** @param add takes locations as an export takes them; all pages of the browsing are gone then */
export function browse(
  app: App,
  draft: Draft,
  location: string,
  add: (locations: readonly string[]) => void,
): void {
  const below = app.page;
  const open = (place: string): void =>
    app.push(
      workPage<NameList>(app, {
        title: inert(place, 60),
        heading: `Asking ${inert(place, 200)} for its list`,
        harmless: true,
        run: async (context) =>
          app.options.workflows.listNames(
            { location: place, source: await sourceOptions(app, draft, 1) },
            context,
          ),
        done: (list, self) => {
          if (list.locations.length > 0) {
            app.replace(self, namesPage(app, place, list, open, finish));
            return;
          }
          app.pop(self);
          app.say('that source lists nothing; type the name of an image instead');
        },
        failed: (error, self) =>
          app.replace(
            self,
            refusalPage(app, error, {
              what: `The list of ${inert(place, 100)}`,
              effect: 'nothing was added',
            }),
          ),
      }),
    );
  function finish(place: string, chosen: readonly string[]): void {
    while (app.page !== below && app.pages.length > 1) app.pop();
    add(chosen.map((one) => asExported(one, place)));
  }
  open(location);
}

/** In a layout a plain tag is no full name; the directory gives the rest, and it can be seen before signing. */
function asExported(location: string, place: string): string {
  if (!place.startsWith('oci:')) return location.replace(/^docker:\/\//, '');
  const name = location.slice(place.length + 1);
  if (name.includes('/')) return location;
  const base = path
    .basename(place)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  return `localhost/${base || 'image'}:${name}=${location}`;
}

function namesPage(
  app: App,
  place: string,
  { of, locations, truncated }: NameList,
  open: (location: string) => void,
  finish: (place: string, chosen: readonly string[]) => void,
): Page {
  const { style } = app.options;
  const images = of === 'images';
  const list = createList<string>({
    items: locations,
    key: (item) => item,
    text: (item) => item,
    marks: images,
  });
  // What all have in common is said once.
  const short = (item: string): string => {
    const plain = item.replace(/^docker:\/\//, '');
    for (const start of [`${place}:`, `${place.replace(/\/$/, '')}/`])
      if (plain.startsWith(start)) return plain.slice(start.length);
    return plain;
  };
  const keys: readonly KeyHint[] = images
    ? [
        { action: 'mark' },
        { action: 'proceed', label: 'add chosen' },
        { action: 'open', label: 'add this' },
        { action: 'markAll' },
        { action: 'filter' },
      ]
    : [{ action: 'open', label: 'its tags' }, { action: 'filter' }];
  return {
    kind: 'names',
    title: inert(place, 60),
    keys: [...keys, ...HIDDEN_LIST_KEYS],
    get field() {
      return list.field;
    },
    typed: () => list.filterChanged(),
    act: (action) => {
      if (list.act(action)) return true;
      const current = list.current();
      if (action === 'proceed' && images) {
        if (list.marked.size === 0) app.say('choose with space first');
        else
          finish(
            place,
            locations.filter((one) => list.marked.has(one)),
          );
      } else if (action === 'open' && current !== undefined) {
        if (images) finish(place, [current]);
        else open(current);
      } else return false;
      return true;
    },
    lines: (view) => [
      `${style.bold(inert(place, 200))}  ${images ? `${list.marked.size} of ${locations.length} chosen` : `${locations.length} repositories`}${truncated ? '; it has more than are listed' : ''}`,
      '',
      ...list.lines(view.rows - 2, style, (item, here, marked) =>
        row(view, here, `${images ? `${mark(view, marked)} ` : ''}${inert(short(item), 300)}`),
      ),
    ],
  };
}
