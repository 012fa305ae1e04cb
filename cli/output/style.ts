/** How text may look on one stream: colours, symbols, width. Never a colour without a word beside it. */
export interface Style {
  readonly color: boolean;
  readonly unicode: boolean;
  readonly columns: number;
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
  warn(text: string): string;
  readonly pass: string;
  readonly fail: string;
  readonly attention: string;
  readonly skip: string;
  readonly dash: string;
}

export interface StyleOptions {
  readonly color: boolean;
  readonly unicode: boolean;
  readonly columns: number;
}

export function createStyle({ color, unicode, columns }: StyleOptions): Style {
  const paint = (open: number, close: number) => (text: string) =>
    color ? `\u001b[${open}m${text}\u001b[${close}m` : text;
  const good = paint(32, 39);
  const bad = paint(31, 39);
  const warn = paint(33, 39);
  const dim = paint(2, 22);
  return {
    color,
    unicode,
    columns,
    bold: paint(1, 22),
    dim,
    good,
    bad,
    warn,
    pass: good(unicode ? '✓' : '+'),
    fail: bad(unicode ? '✗' : 'x'),
    attention: warn('!'),
    skip: dim('-'),
    dash: unicode ? '–' : '-',
  };
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether colours may go to a stream: --no-color, NO_COLOR, FORCE_COLOR, TERM=dumb, then whether it is a terminal. */
export function wantsColor(env: Environment, isTerminal: boolean, noColor: boolean): boolean {
  if (noColor || (env['NO_COLOR'] ?? '') !== '') return false;
  const forced = env['FORCE_COLOR'];
  if (forced !== undefined) return forced !== '0' && forced !== 'false';
  return isTerminal && env['TERM'] !== 'dumb';
}

/** Whether the locale can show more than ASCII. */
export function wantsUnicode(env: Environment, platform: string): boolean {
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'];
  if (locale === undefined || locale === '') return platform === 'win32' || platform === 'darwin';
  return /utf-?8/i.test(locale);
}

/** Whether a stream takes a picture that moves: a terminal that is neither dumb nor a machine's. */
export function wantsAnimation(env: Environment, isTerminal: boolean): boolean {
  const ci = env['CI'];
  return (
    isTerminal && env['TERM'] !== 'dumb' && (ci === undefined || ci === '' || ci === 'false' || ci === '0')
  );
}
