#!/usr/bin/env node
/**
 * Entry of the program. Parses and says a clear line under an older Node too, and answers --version before
 * anything else is loaded; so nothing here may be imported that is not tiny.
 */
import { VERSION } from '../core/version.ts';
import { refuseOldNode } from './node-version.ts';

const refusal = refuseOldNode(process.version);
const [first] = process.argv.slice(2);
if (refusal !== undefined) {
  process.stderr.write(`${refusal}\n`);
  process.exitCode = 1;
} else if (process.argv.length === 3 && (first === '--version' || first === '-V')) {
  process.stdout.write(`sealift ${VERSION}\n`);
} else {
  import('./process.ts').then(
    ({ runProcess }) => runProcess(),
    (error) => {
      process.stderr.write(`sealift: error: the program is damaged: ${String(error)}\n`);
      process.exitCode = 1;
    },
  );
}
