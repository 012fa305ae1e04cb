import type { Style } from '../output/style.ts';
import type { Field } from './field.ts';
import type { Action } from './keys.ts';

/** What a page may fill. */
export interface View {
  readonly columns: number;
  /** Lines between breadcrumbs and footer. */
  readonly rows: number;
  readonly style: Style;
  readonly now: Date;
  /** Milliseconds that never go back. */
  readonly clock: number;
  /** Somebody listens: words instead of pictures. */
  readonly spoken?: boolean;
}

export interface KeyHint {
  readonly action: Action;
  /** Where the word of the key map says too little here. */
  readonly label?: string;
  /** Not in the footer, only in the help. */
  readonly quiet?: boolean;
}

/** Every kind of page there is; a test reaches and leaves each by keys alone. */
export const PAGE_KINDS = [
  'start',
  'choose',
  'work',
  'refusal',
  'help',
  'json',
  'image',
  'result',
  'pin',
  'verdicts',
  'checks',
  'destination',
  'changes',
  'confirm',
  'inspect',
  'roles',
  'gate',
  'images',
  'names',
  'preview',
  'sources',
  'platforms',
  'settings',
  'review',
  'passphrase',
] as const;
export type PageKind = (typeof PAGE_KINDS)[number];

/** One page of the program: lines out, actions in. Knows nothing of Ink or React. */
export interface Page {
  readonly kind: PageKind;
  readonly title: string;
  /** What it reacts to, most important first. */
  readonly keys: readonly KeyHint[];
  /** Set while something is typed: letters go there and are no actions. */
  readonly field?: Field | undefined;
  /** Something runs that must be stopped before the page can be left; the screen is drawn some times a second. */
  readonly busy?: boolean;
  lines(view: View): readonly string[];
  /** True where it was handled; else what is usual is done (back, quit, help). */
  act(action: Action): boolean;
  /** Something was typed into the field. */
  typed?(): void;
  /** It can be seen again, after pages above it are gone. */
  shown?(): void;
  /** The page is gone: what runs for it is to stop. */
  closed?(): void;
}

export const HIDDEN_LIST_KEYS: readonly KeyHint[] = (
  ['up', 'down', 'pageUp', 'pageDown', 'first', 'last'] as const
).map((action) => ({ action, quiet: true }));
