import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { HAS_TERMINAL, runInTerminal } from './terminal.ts';

const PROGRAM = path.join(import.meta.dirname, 'fake-program.ts');
const ENV = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', LANG: 'C.UTF-8', TERM: 'xterm' };
const HIDE = '\u001b[?25l';
const SHOW = '\u001b[?25h';

const run = (argv: string[], steps: [string, string][], env: Record<string, string> = {}) =>
  runInTerminal([process.execPath, PROGRAM, ...argv], { ...ENV, ...env }, steps);

describe.skipIf(!HAS_TERMINAL).concurrent('on a terminal', () => {
  test('a new passphrase is asked for twice and never shown', async () => {
    const { screen, code, left } = await run(
      ['init', './x'],
      [
        ['Passphrase for', 'zex\u007fbra42\r'],
        ['The same again: ', 'quagga\r'],
        ['not the same', ''],
        ['Passphrase for', 'zebra42\r'],
        ['The same again: ', 'zebra42\r'],
      ],
    );
    expect(left).toBe(0);
    expect(code).toBe(0);
    expect(screen).toContain('made with a passphrase of 7 characters');
    expect(screen).not.toMatch(/zebra|zex|quagga/);
  });

  test('Ctrl-C at the question ends with 130', async () => {
    const { screen, code } = await run(['init', './x'], [['Passphrase for', 'sec\u0003']]);
    expect(code).toBe(130);
    expect(screen).not.toContain('sec\r');
    expect(screen).toContain('stopped at the question');
  });

  test('--no-input asks nothing', async () => {
    const { screen, code } = await run(['init', './x', '--no-input'], []);
    expect(code).toBe(8);
    expect(screen).not.toContain('Passphrase for the');
  });

  test('an import shows what it found and asks; no is 130', async () => {
    const { screen, code, left } = await run(['import', 'b.tar'], [['Import into', 'n\r']]);
    expect(left).toBe(0);
    expect(code).toBe(130);
    expect(screen.indexOf('docker.io/library/alpine:3.20')).toBeLessThan(screen.indexOf('Import into'));
    expect(screen).not.toContain('all in');
  });

  test('an import that is answered with yes goes on, and checks are shown once', async () => {
    const { screen, code, left } = await run(['import', 'b.tar'], [['Import into', 'y\r']]);
    expect(left).toBe(0);
    expect(code).toBe(0);
    expect(screen.split('passed  format').length).toBe(2);
    expect(screen).toContain('all in');
    expect(screen.lastIndexOf(SHOW)).toBeGreaterThanOrEqual(screen.lastIndexOf(HIDE));
  });

  test('--yes does not ask', async () => {
    const { screen, code } = await run(['import', 'b.tar', '--yes'], []);
    expect(code).toBe(0);
    expect(screen).not.toContain('[y/N]');
  });

  test.each([
    ['^SIGINT', 130],
    ['\u0003', 130],
    ['^SIGTERM', 143],
  ])('%j during a transfer stops cleanly and gives the cursor back', async (stop, expected) => {
    const { screen, code, left } = await run(['export', 'alpine', '-o', 'x.tar'], [['0 of 2 blobs', stop]]);
    expect(left).toBe(0);
    expect(code).toBe(expected);
    expect(screen).toContain('stopping; Ctrl-C again stops at once');
    expect(screen).toContain(HIDE);
    expect(screen.lastIndexOf(SHOW)).toBeGreaterThan(screen.lastIndexOf(HIDE));
    // Scrollback is never wiped, the alternate screen never used.
    expect(screen).not.toMatch(/\u001b\[3J|\u001b\[\?1049/);
  });

  test('a second Ctrl-C ends at once, with the cursor back', async () => {
    const { screen, code, left } = await run(
      ['export', 'alpine', '-o', 'x.tar', '--force'],
      [
        ['0 of 2 blobs', '\u0003'],
        ['stopping', '\u0003'],
      ],
    );
    expect(left).toBe(0);
    expect(code).toBe(130);
    expect(screen.lastIndexOf(SHOW)).toBeGreaterThan(screen.lastIndexOf(HIDE));
  });

  test.each([
    [{ TERM: 'dumb' }, []],
    [{ CI: 'true', NO_COLOR: '1' }, []],
    [{}, ['--no-progress', '--no-color']],
  ])('%j %j: lines without a single escape sequence', async (env, argv) => {
    const { screen, code } = await run(
      ['import', 'b.tar', '--yes', ...argv],
      [],
      env as Record<string, string>,
    );
    expect(code).toBe(0);
    expect(screen).toContain('imported');
    expect(screen).not.toContain('\u001b');
  });

  test('NO_COLOR takes the colours from the moving picture too', async () => {
    const { screen } = await run(['import', 'b.tar', '--yes'], [], { NO_COLOR: '1' });
    expect(screen).toContain('passed  format');
    expect(screen).not.toMatch(/\u001b\[[0-9;]*m/);
    expect(screen).not.toContain('Warning');
    const colored = await run(['import', 'b.tar', '--yes'], []);
    expect(colored.screen).toMatch(/\u001b\[32m/);
  });
});
