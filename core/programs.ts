/** Other programs of this machine. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import path from 'node:path';

export type Environment = Readonly<Record<string, string | undefined>>;

/** The first of `names` that is on the PATH of the given environment. */
export async function findProgram(
  names: readonly string[],
  environment: Environment | undefined,
): Promise<{ readonly name: string; readonly file: string } | undefined> {
  for (const name of names) {
    for (const directory of (environment?.['PATH'] ?? '').split(path.delimiter)) {
      // A relative entry would make what runs depend on where sealift was started.
      if (!path.isAbsolute(directory)) continue;
      const file = path.join(directory, name);
      try {
        await access(file, constants.X_OK);
        if ((await stat(file)).isFile()) return { name, file };
      } catch {
        // not here
      }
    }
  }
  return undefined;
}

/** What a program needs to find its files, and nothing of ours: no credentials, no proxies. */
const PASSED_ON = /^(?:PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|LC_[A-Z]+|XDG_[A-Z_]+)$/;

/** The part of an environment that is handed to programs of others. */
export function programEnvironment(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => PASSED_ON.test(name)));
}
