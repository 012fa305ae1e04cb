import { ERROR_CODES, inert, type SealiftError } from '../../../core/errors.ts';
import { errorText } from '../../output/error-text.ts';
import type { App } from '../app.ts';
import type { Page } from '../page.ts';
import { fold, pair } from '../text.ts';
import { textPage } from './text.ts';

export interface RefusalOptions {
  /** What was being done: "The import of images.tar". */
  readonly what: string;
  readonly checks?: readonly string[];
  /** What did not happen because of it. */
  readonly effect: string;
  readonly again?: () => void;
}

const WORDS: Readonly<Record<string, string>> = {
  trust: 'refused: it is not proven to be what it says',
  malformed: 'refused: it is damaged, or not what it should be',
  source: 'the source did not give what was asked for',
  destination: 'it could not be written',
  needed: 'something is missing',
  usage: 'that cannot be done',
  cancelled: 'stopped',
  unexpected: 'an error nobody expected',
};

/** Only what was judged is refused; the rest did not work. */
const TITLES: Readonly<Record<string, string>> = {
  cancelled: 'Stopped',
  trust: 'Refused',
  malformed: 'Refused',
};

/** A refusal as a page that explains: what, why, what was found, what to do. */
export function refusalPage(app: App, error: SealiftError, options: RefusalOptions): Page {
  const { style } = app.options;
  const { code, category, subject, got, want, hint, check } = error;
  if (category === 'cancelled') {
    if (app.stopping) app.resumeHint = hint;
  } else app.leaveBehind(errorText(error, style));
  return textPage({
    kind: 'refusal',
    title: TITLES[category] ?? 'Failed',
    keys: options.again === undefined ? [] : [{ action: 'refresh', label: 'try again' }],
    act: (action) => {
      if (action !== 'refresh' || options.again === undefined) return false;
      options.again();
      return true;
    },
    lines: ({ columns }) => [
      `${style.fail} ${style.bad(`${options.what}: ${WORDS[category] ?? category}`)}`,
      '',
      ...fold(inert(error.message, 2000), columns),
      '',
      ...pair('meaning', ERROR_CODES[code][1], columns, style),
      ...(subject === undefined ? [] : pair('about', inert(subject, 1000), columns, style)),
      ...(got === undefined ? [] : pair('got', inert(String(got), 1000), columns, style)),
      ...(want === undefined ? [] : pair('want', inert(String(want), 1000), columns, style)),
      ...(check === undefined ? [] : pair('check', inert(check), columns, style)),
      ...pair('code', code, columns, style),
      ...pair('effect', options.effect, columns, style),
      ...(hint === undefined ? [] : pair('what to do', inert(hint, 2000), columns, style)),
      ...(options.checks === undefined || options.checks.length === 0
        ? []
        : ['', style.bold('Checks'), ...options.checks]),
    ],
  });
}
