import { inert, SealiftError } from '../core/errors.ts';

/** One option of a command. Everything is read as text; the command's own reading gives it a type. */
export interface OptionSpec {
  /** `flag` takes no value, `text` one, `list` may be given again and again. */
  readonly kind: 'flag' | 'text' | 'list';
  readonly describe: string;
  readonly alias?: string;
  /** Name of the value in help, such as FILE. */
  readonly value?: string;
  readonly choices?: readonly string[];
}

export type OptionGroup = Readonly<Record<string, OptionSpec>>;

/** What was written on the command line, read through getters that refuse what a parser lets through. */
export interface Args {
  flag(name: string): boolean;
  text(name: string): string | undefined;
  list(name: string): readonly string[];
  /** A whole number of at least `least`. */
  integer(name: string, least: number, most: number): number | undefined;
  positional(name: string): string | undefined;
  positionals(name: string): readonly string[];
}

function refuse(message: string, subject: string, hint?: string): never {
  throw new SealiftError('invalid-argument', message, { subject, hint });
}

/** Reads what yargs parsed; `restore` undoes the protection of arguments behind `--`. */
export function createArgs(
  parsed: Readonly<Record<string, unknown>>,
  options: OptionGroup,
  restore: (text: string) => string,
): Args {
  function spec(name: string): OptionSpec {
    const found = Object.hasOwn(options, name) ? options[name] : undefined;
    if (found === undefined) throw new SealiftError('internal', `option --${name} is not declared`);
    return found;
  }
  function check(name: string, value: unknown): string {
    if (Array.isArray(value)) {
      return refuse(`option --${name} was given ${value.length} times, want once`, `--${name}`);
    }
    const text = restore(String(value));
    if (text === '') return refuse(`option --${name} has an empty value`, `--${name}`);
    const { choices } = spec(name);
    if (choices !== undefined && !choices.includes(text)) {
      return refuse(`option --${name}: got ${inert(text)}, want one of ${choices.join(', ')}`, `--${name}`);
    }
    return text;
  }
  const args: Args = {
    flag: (name) => {
      spec(name);
      return parsed[name] === true;
    },
    text: (name) => {
      spec(name);
      return parsed[name] === undefined ? undefined : check(name, parsed[name]);
    },
    list: (name) => {
      spec(name);
      const value = parsed[name];
      if (value === undefined) return [];
      return (Array.isArray(value) ? value : [value]).map((item) => check(name, item));
    },
    integer: (name, least, most) => {
      const text = args.text(name);
      if (text === undefined) return undefined;
      const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      if (!(number >= least && number <= most)) {
        return refuse(
          `option --${name}: got ${inert(text)}, want a whole number from ${least} to ${most}`,
          `--${name}`,
        );
      }
      return number;
    },
    positional: (name) => {
      const value = parsed[name];
      if (value === undefined) return undefined;
      const text = restore(String(value));
      return text === '' ? refuse(`${name.toUpperCase()} is empty`, name.toUpperCase()) : text;
    },
    positionals: (name) => {
      const value = parsed[name];
      if (!Array.isArray(value)) return [];
      return value.map((item) => {
        const text = restore(String(item));
        return text === '' ? refuse(`${name.toUpperCase()} is empty`, name.toUpperCase()) : text;
      });
    },
  };
  return args;
}
