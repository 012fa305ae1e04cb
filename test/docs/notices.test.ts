/** Scripts read the codes of notices: every one that is written somewhere stands in the docs, and no other. */
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../..');
const DOCS = readFileSync(path.join(ROOT, 'docs/json-output.md'), 'utf8');

/** Codes of every notice, as the code has them; those that are handed through have no text of their own. */
function written(): Set<string> {
  const found = new Set<string>();
  for (const file of globSync('{core,cli}/**/*.ts', { cwd: ROOT })) {
    const text = readFileSync(path.join(ROOT, file), 'utf8');
    const objects = [...text.matchAll(/type: 'notice',\s*level\b[^,]*,\s*code\b([^,]*),/g)];
    const calls = text.matchAll(/\b(?:notice|tell)\(\s*'(?:info|warning)',\s*([^,]+),/g);
    for (const [, code = ''] of [...objects, ...calls])
      for (const [, literal = ''] of code.matchAll(/'([a-z-]+)'/g)) found.add(literal);
    // No notice may have a form that is not looked through here.
    expect([file, objects.length]).toEqual([file, [...text.matchAll(/\btype: 'notice',/g)].length]);
  }
  return found;
}

function documented(): string[] {
  const section = DOCS.slice(DOCS.indexOf('### Notices'));
  const rows = section.matchAll(/^\| ((?:`[a-z-]+`(?:, )?)+) \| (?:info|warning) \|/gm);
  return [...rows].flatMap(([, codes = '']) => codes.replaceAll('`', '').split(', '));
}

it('every code of a notice is in docs/json-output.md, and no other', () => {
  const kinds = ['collection', 'gate', 'store'].map((kind) => `${kind}-used`);
  expect(documented().sort()).toEqual([...written(), ...kinds].sort());
});
