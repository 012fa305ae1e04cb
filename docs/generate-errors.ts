/** Writes docs/errors.md from the error codes and the exit codes: npm run docs. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { EXIT_CODES } from '../cli/exit-codes.ts';
import { ERROR_CODES } from '../core/errors.ts';

function row(cells: readonly (string | number)[]): string {
  return `| ${cells.join(' | ')} |`;
}

export function renderErrorTable(): string {
  return [
    '# Errors and exit codes',
    '',
    'Generated from the source by `npm run docs`; a test holds it current.',
    '',
    'Every refusal has a code. Scripts branch on the code (`--json`, field `error.code`) or on the exit code; the words may change at any time. A code is never renamed and never changes its category. New codes may be added: treat an unknown one by its exit code, and an unknown exit code as a failure.',
    '',
    '## Exit codes',
    '',
    row(['code', 'meaning']),
    row(['---', '---']),
    ...Object.values(EXIT_CODES).map(([code, meaning]) => row([code, meaning])),
    '',
    '`verify` ends with 5 where a check or an image is refused; `import` with 3 where some images were let in and others refused. `serve` ends with 0 when it is stopped by a signal.',
    '',
    '## Error codes',
    '',
    row(['code', 'category', 'exit code', 'meaning']),
    row(['---', '---', '---', '---']),
    ...Object.entries(ERROR_CODES).map(([code, [category, meaning]]) =>
      row([`\`${code}\``, category, EXIT_CODES[category][0], meaning]),
    ),
    '',
  ].join('\n');
}

if (import.meta.main) {
  writeFileSync(path.join(import.meta.dirname, 'errors.md'), renderErrorTable());
}
