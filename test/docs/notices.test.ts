/** Scripts read the codes of notices: every one that is written somewhere stands in the docs, and no other. */
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../..');
const DOCS = readFileSync(path.join(ROOT, 'docs/json-output.md'), 'utf8');

/** `code level` of every notice, as the code has them. */
function written(): Set<string> {
  const found = new Set<string>();
  for (const file of globSync('{core,cli}/**/*.ts', { cwd: ROOT })) {
    const text = readFileSync(path.join(ROOT, file), 'utf8');
    const objects = text.matchAll(/type: 'notice',\s*level: ('[a-z]+'|\w+),\s*code(?:: ([^,]+))?,/g);
    const calls = text.matchAll(/\b(?:notice|tell)\(\s*'(info|warning)',\s*([^,]+),/g);
    for (const [, level = '', code = ''] of [...objects, ...calls])
      found.add(`${code} ${level}`.replaceAll("'", ''));
    const all = [...text.matchAll(/\btype: 'notice',/g)].length;
    expect([file, [...text.matchAll(/type: 'notice',\s*level/g)].length]).toEqual([file, all]);
  }
  return found;
}

function documented(): Set<string> {
  const section = DOCS.slice(DOCS.indexOf('### Notices'));
  const rows = section.matchAll(/^\| ((?:`[a-z-]+`(?:, )?)+) \| (info|warning) \|/gm);
  return new Set(
    [...rows].flatMap(([, codes = '', level]) =>
      codes.split(', ').map((code) => `${code.replaceAll('`', '')} ${level}`),
    ),
  );
}

it('every code of a notice is in docs/json-output.md, with its level', () => {
  const codes = written();
  // Handed through: the code is in the argument of the call, or an error's.
  for (const passed of [' level', 'code warning']) codes.delete(passed);
  const kinds = ['collection', 'gate', 'store'].map((kind) => `${kind}-used info`);
  expect(codes.delete(['`$', '{kind}-used` info'].join(''))).toBe(true);
  expect([...documented()].sort()).toEqual([...codes, ...kinds].sort());
});
