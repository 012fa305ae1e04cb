/** Writes the key table of docs/tui.md from the key map of the program: npm run docs */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { keyTable } from '../cli/tui/keys.ts';
import { intoDocument } from './into-document.ts';

const FILE = path.join(import.meta.dirname, 'tui.md');
writeFileSync(FILE, intoDocument(readFileSync(FILE, 'utf8'), 'keys', keyTable()));
