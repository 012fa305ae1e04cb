import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { OLDEST_NODE, refuseOldNode } from '../../cli/node-version.ts';
import { PROJECT, programFile, runSealift } from '../../fixtures/cli.ts';

/** Scripts the program loads, by name: V8 lists them in its coverage. */
function loadedScripts(...argv: string[]): string[] {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-coverage-'));
  try {
    execFileSync(process.execPath, [programFile(), ...argv], {
      env: { PATH: process.env['PATH'], HOME: directory, NODE_V8_COVERAGE: directory },
      stdio: 'ignore',
    });
    return readdirSync(directory).flatMap((file) => {
      const { result } = JSON.parse(readFileSync(path.join(directory, file), 'utf8')) as {
        result: { url: string }[];
      };
      // The rest is Node's own.
      return result.flatMap(({ url }) => (url.startsWith('file:') ? [path.basename(url)] : []));
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe('an older Node', () => {
  test.each(['v18.20.0', 'v20.20.2', 'v22.23.3', 'v24.14.9'])(
    '%s is refused in one clear line',
    (version) => {
      expect(refuseOldNode(version)).toBe(`sealift: error: Node ${version} is too old, want v24.15 or newer`);
    },
  );

  test.each(['v24.15.0', 'v24.21.0', 'v25.0.0', 'v26.10.0'])('%s is taken', (version) => {
    expect(refuseOldNode(version)).toBeUndefined();
  });

  test('the oldest Node is the one package.json names', () => {
    const { engines } = JSON.parse(readFileSync(path.join(PROJECT, 'package.json'), 'utf8')) as {
      engines: { node: string };
    };
    expect(engines.node).toBe(`>=${OLDEST_NODE.join('.')}`);
  });

  const old = '/usr/bin/node';
  const version = existsSync(old) ? spawnSync(old, ['--version'], { encoding: 'utf8' }).stdout.trim() : '';
  test.skipIf(version === '' || refuseOldNode(version) === undefined)(
    'says so when it really runs the program',
    () => {
      for (const argv of [[], ['--version'], ['export', 'a']]) {
        const run = spawnSync(old, [programFile(), ...argv], { encoding: 'utf8' });
        expect(run).toMatchObject({ status: 1, stdout: '', stderr: `${refuseOldNode(version)}\n` });
      }
    },
  );
});

describe('the built program', () => {
  test('answers --version from the entry alone', async () => {
    const { version } = JSON.parse(readFileSync(path.join(PROJECT, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(await runSealift(['--version'])).toMatchObject({
      code: 0,
      stdout: `sealift ${version}\n`,
      stderr: '',
    });
    const scripts = loadedScripts('--version');
    expect(scripts).toContain('sealift.js');
    expect(scripts.filter((name) => !/^(sealift|version-.*)\.js$/.test(name))).toEqual([]);
  });

  test('needs no parser, no screen and no cryptography to help', () => {
    const scripts = loadedScripts('--help').join(' ');
    expect(scripts).toContain('process-');
    expect(scripts).not.toMatch(/parse-|progress-view-|openpgp-|archiver-/);
  });

  test('loads no screen and no cryptography for a command that needs none', () => {
    const scripts = loadedScripts('version').join(' ');
    expect(scripts).toContain('parse-');
    expect(scripts).not.toMatch(/progress-view-|openpgp-|archiver-/);
  });

  test('shows help on standard output, and on standard error when nothing was asked', async () => {
    const asked = await runSealift(['--help']);
    expect(asked).toMatchObject({ code: 0, stderr: '' });
    const nothing = await runSealift([]);
    expect(nothing).toMatchObject({ code: 2, stdout: '' });
    expect(nothing.stderr).toBe(asked.stdout);
  });

  test('survives a reader that goes away', () => {
    const run = spawnSync(
      '/bin/sh',
      ['-c', `"$0" "$1" --help | true; "$0" "$1" completion | true`, process.execPath, programFile()],
      {
        encoding: 'utf8',
      },
    );
    expect(run).toMatchObject({ status: 0, stderr: '' });
  });

  test('does not read code or settings from where it is started', () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-cwd-'));
    try {
      execFileSync(
        '/bin/sh',
        ['-c', 'echo \'{"yargs":{"strict":false},"version":"9.9.9"}\' > package.json'],
        { cwd: directory },
      );
      const run = spawnSync(process.execPath, [programFile(), 'ls', '--nonsense'], {
        cwd: directory,
        encoding: 'utf8',
      });
      expect(run.status).toBe(2);
      expect(run.stderr).toContain('unknown option, got --nonsense');
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('comes with the licences of what it holds', () => {
    const text = readFileSync(path.join(PROJECT, 'dist/cli/THIRD-PARTY-LICENSES.txt'), 'utf8');
    for (const name of ['yargs', 'ink', 'react', 'openpgp', 'archiver'])
      expect(text).toMatch(new RegExp(`^${name} \\d`, 'm'));
  });
});
