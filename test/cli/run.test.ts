import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { COMMANDS } from '../../cli/commands/index.ts';
import { parseListen } from '../../cli/commands/serve.ts';
import { completions } from '../../cli/completions.ts';
import { collectionPath, dataDirectory, resolvePaths } from '../../cli/options/paths.ts';
import { parseDuration, parseFingerprint, parseMoment } from '../../cli/options/values.ts';
import { SealiftError } from '../../core/errors.ts';
import type { ExportOptions, ImportOptions, VerifyOptions } from '../../core/workflow-options.ts';
import { documentOf, exported, FINGERPRINT, imported, NOW, runFake, verified } from './fakes.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-cli-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('--json', () => {
  test('success is one document', async () => {
    const run = await runFake(['verify', 'b.tar', '--json'], {
      verifyBundle: () => Promise.resolve(verified),
    });
    expect(run.code).toBe(0);
    expect(documentOf(run)).toEqual({
      schemaVersion: 1,
      ok: true,
      exitCode: 0,
      command: 'verify',
      result: JSON.parse(JSON.stringify(verified)),
    });
  });

  test('a refusal is one document, and words on standard error', async () => {
    const run = await runFake(['trust', 'status', '--json'], {
      trustStatus: () =>
        Promise.reject(
          new SealiftError('rollback', 'too old', {
            subject: 's',
            got: 3,
            want: 4,
            hint: 'h',
            check: 'timestamp',
          }),
        ),
    });
    expect(run.code).toBe(5);
    expect(documentOf(run)).toEqual({
      schemaVersion: 1,
      ok: false,
      exitCode: 5,
      command: 'trust status',
      error: {
        code: 'rollback',
        message: 'too old',
        subject: 's',
        got: 3,
        want: 4,
        hint: 'h',
        check: 'timestamp',
      },
    });
    expect(run.stderr).toContain('sealift: error: too old');
  });

  test('a mistake in the arguments is one document too', async () => {
    const run = await runFake(['exprt', '--json']);
    expect(run.code).toBe(2);
    expect(documentOf(run)).toMatchObject({ ok: false, command: null, error: { code: 'invalid-argument' } });
  });

  test('what nobody foresaw is one document', async () => {
    const run = await runFake(['trust', 'status', '--json'], {
      trustStatus: () => Promise.reject(new TypeError('boom')),
    });
    expect(run.code).toBe(1);
    expect(documentOf(run)).toMatchObject({ exitCode: 1, error: { code: 'internal' } });
    expect(run.stderr).not.toContain('    at ');
  });

  test('and a bundle cannot both go to standard output', async () => {
    const run = await runFake(['export', 'alpine', '-o', '-', '--json']);
    expect(run.code).toBe(2);
    expect(documentOf(run)).toMatchObject({ error: { subject: '--json' } });
  });
});

describe('results and exit codes', () => {
  const [first] = verified.images;
  const refused = { ...first!, name: 'docker.io/library/b:1', verdict: 'invalid' as const, admitted: false };

  test('a refused image fails a verification', async () => {
    const run = await runFake(['verify', 'b.tar'], {
      verifyBundle: () => Promise.resolve({ ...verified, images: [first!, refused] }),
    });
    expect(run.code).toBe(5);
  });

  test('a partial import is 3, one that let nothing in is 5', async () => {
    const importing = (names: string[]) => ({
      importBundle: () => Promise.resolve({ ...imported, images: [first!, refused], imported: names }),
    });
    expect((await runFake(['import', 'b.tar'], importing([first!.name]))).code).toBe(3);
    expect((await runFake(['import', 'b.tar'], importing([]))).code).toBe(5);
  });

  test('--silent prints nothing at all, also when it fails', async () => {
    const good = await runFake(['verify', '-s', 'b.tar'], { verifyBundle: () => Promise.resolve(verified) });
    expect(good).toEqual({ code: 0, stdout: '', stderr: '' });
    const bad = await runFake(['verify', '--silent', 'b.tar'], {
      verifyBundle: () => Promise.reject(new SealiftError('not-pinned', 'no')),
    });
    expect(bad).toEqual({ code: 5, stdout: '', stderr: '' });
  });

  test('--quiet leaves the one value a script wants', async () => {
    const root = {
      location: '/c',
      kind: 'collection',
      collectionId: FINGERPRINT,
      collectionName: 'c',
      fingerprint: FINGERPRINT,
      rootVersion: 1,
      expires: '2029-01-01T00:00:00Z',
      threshold: 1,
      keys: [],
    } as const;
    const run = await runFake(['trust', 'root', '-q'], { readRoot: () => Promise.resolve(root) });
    expect(run).toEqual({ code: 0, stdout: `${FINGERPRINT}\n`, stderr: '' });
  });

  test('off a terminal there is not one escape sequence', async () => {
    const run = await runFake(['import', 'b.tar', '-v'], {
      importBundle: (_options, context) => {
        context.emit({ type: 'phase', phase: 'verify', title: 'verifying' });
        context.emit({ type: 'check', check: 'format', status: 'passed', detail: 'fine' });
        context.emit({ type: 'notice', level: 'warning', code: 'x', message: 'a \u001b[31m warning' });
        return Promise.resolve(imported);
      },
    });
    expect(run.code).toBe(0);
    expect(run.stdout + run.stderr).not.toContain('\u001b');
    expect(run.stderr).toContain(
      'verifying\n✓ passed  format          fine\n! warning: a \\u{1b}[31m warning\n',
    );
  });

  test('--progress-json gives every event as a line', async () => {
    const run = await runFake(['import', 'b.tar', '--progress-json'], {
      importBundle: (_options, context) => {
        context.emit({ type: 'phase', phase: 'verify', title: 'verifying' });
        return Promise.resolve(imported);
      },
    });
    const events = run.stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string });
    expect(events.map((event) => event.type)).toEqual(['notice', 'phase']);
  });

  test('the state in use is said on standard error', async () => {
    const run = await runFake(['verify', 'b.tar', '--gate', 'here'], {
      verifyBundle: () => Promise.resolve(verified),
    });
    expect(run.stderr).toContain('gate: /nowhere/here');
  });

  test('a run whose standard output is closed says that, not that it was stopped', async () => {
    const run = await runFake(
      ['verify', 'b.tar'],
      { verifyBundle: () => Promise.reject(new DOMException('x', 'AbortError')) },
      { signal: AbortSignal.abort(new SealiftError('destination-failed', 'standard output is closed')) },
    );
    expect(run.code).toBe(7);
    expect(run.stderr).toContain('sealift: error: standard output is closed');
  });

  test('what was interrupted says how it goes on', async () => {
    const run = await runFake(
      ['import', 'b.tar'],
      { importBundle: () => Promise.reject(new DOMException('x', 'AbortError')) },
      {
        signal: AbortSignal.abort(new SealiftError('cancelled', 'stopped by SIGINT')),
        stoppedBy: () => 'SIGINT',
      },
    );
    expect(run.code).toBe(130);
    expect(run.stderr).toContain('sealift: hint: the same command goes on where this one stopped');
  });

  test('with sudo the gate of the user behind it is pointed out', async () => {
    const home = path.join(directory, 'home');
    const gate = path.join(home, '.local/share/sealift/gate');
    mkdirSync(gate, { recursive: true });
    const users = path.join(directory, 'passwd');
    writeFileSync(users, `jo:x:1234:1234::${home}:/bin/sh\n`);
    const none = {
      flag: () => false,
      text: () => undefined,
      list: () => [],
      integer: () => undefined,
      positional: () => undefined,
      positionals: () => [],
    };
    const place = { env: { SUDO_UID: '1234' }, uid: 0, home: '/root', cwd: '/' };
    expect(resolvePaths(none, place, users).gateBehindSudo).toBe(gate);
    expect(resolvePaths(none, { ...place, env: { SUDO_UID: '1235' } }, users).gateBehindSudo).toBeUndefined();
    expect(resolvePaths(none, { ...place, uid: 1234 }, users).gateBehindSudo).toBeUndefined();
    expect(
      resolvePaths(none, { ...place, env: { SUDO_UID: '1234', SEALIFT_GATE: '/g' } }, users).gateBehindSudo,
    ).toBeUndefined();
  });

  test('a run stopped by SIGTERM ends with 143', async () => {
    const run = await runFake(
      ['verify', 'b.tar'],
      { verifyBundle: () => Promise.reject(new DOMException('x', 'AbortError')) },
      { stoppedBy: () => 'SIGTERM' },
    );
    expect(run.code).toBe(143);
  });
});

describe('options reach the workflows', () => {
  test('export', async () => {
    let seen: ExportOptions | undefined;
    const run = await runFake(
      [
        'export',
        'alpine:3.20',
        '-o',
        'x.tar',
        '--platform',
        'linux/amd64',
        '--expires',
        '12h',
        '--exclude-evidence',
        'all',
        '--plain-http',
        '--collection',
        'acme',
      ],
      {
        exportBundle: (options) => {
          seen = options;
          return Promise.resolve(exported);
        },
      },
    );
    expect(run.code).toBe(0);
    expect(seen).toMatchObject({
      collection: '/home/jo/.local/share/sealift/collections/acme',
      output: { kind: 'file', path: '/nowhere/x.tar' },
      platforms: ['linux/amd64'],
      lifetime: 43_200_000,
      includeEvidence: false,
      force: false,
      concurrency: 4,
      pid: 4711,
      source: { plainHttp: true, insecureSkipTlsVerify: false },
    });
  });

  test('what weakens TLS is said', async () => {
    const run = await runFake(['export', 'alpine', '-o', 'x.tar', '--insecure-skip-tls-verify'], {
      exportBundle: () => Promise.resolve(exported),
    });
    expect(run.stderr).toContain("! warning: registries' certificates are not checked");
  });

  test('verify and import', async () => {
    let seen: VerifyOptions | undefined;
    let taken: ImportOptions | undefined;
    await runFake(
      [
        'verify',
        'b.tar',
        'a',
        'b',
        '--no-deep',
        '--fingerprint',
        FINGERPRINT.toUpperCase().replace(/(.{4})/g, '$1 '),
      ],
      {
        verifyBundle: (options) => {
          seen = options;
          return Promise.resolve(verified);
        },
      },
    );
    expect(seen).toMatchObject({
      names: ['a', 'b'],
      deep: false,
      fingerprint: FINGERPRINT,
      overrides: { allowClockJump: false },
    });
    await runFake(
      ['import', 'b.tar', '--only', 'a', '--only', 'b', '--to', 'store:/srv/x', '--allow-clock-jump'],
      {
        importBundle: (options) => {
          taken = options;
          return Promise.resolve(imported);
        },
      },
    );
    expect(taken).toMatchObject({ store: '/srv/x', only: ['a', 'b'], overrides: { allowClockJump: true } });
    // Without a terminal nobody is asked.
    expect(taken?.confirm).toBeUndefined();
  });

  test('a directory is no output', async () => {
    const run = await runFake(['export', 'alpine', '-o', directory]);
    expect(run.code).toBe(2);
    expect(run.stderr).toContain('want a file or -');
  });

  test('an existing collection and a directory cannot both be named', async () => {
    expect((await runFake(['init', 'x', '--collection', 'y'])).code).toBe(2);
  });
});

describe('passphrases', () => {
  const withPassphrase = async (argv: string[]) => {
    let seen: string | undefined;
    const run = await runFake(['export', 'alpine', '-o', 'x.tar', '--no-input', ...argv], {
      exportBundle: async (options) => {
        seen = await options.passphrase('the key');
        await options.passphrase('the key again');
        return exported;
      },
    });
    return { run, seen };
  };

  test('the first line of a file', async () => {
    const file = path.join(directory, 'p');
    writeFileSync(file, 'gehe im\r\nsecond', { mode: 0o600 });
    const { run, seen } = await withPassphrase(['--passphrase-file', file]);
    expect(seen).toBe('gehe im');
    expect(run.stderr).not.toContain('warning');
    expect(run.stdout + run.stderr).not.toContain('gehe im');
  });

  test('a file others can read is warned of', async () => {
    const file = path.join(directory, 'p');
    writeFileSync(file, 'x\n');
    chmodSync(file, 0o644);
    const { run } = await withPassphrase(['--passphrase-file', file]);
    expect(run.code).toBe(0);
    expect(run.stderr).toContain('can be read by other users');
  });

  test('a command, run once', async () => {
    const log = path.join(directory, 'log');
    const { seen } = await withPassphrase([
      '--passphrase-command',
      `echo ran >> '${log}'; echo from-command`,
    ]);
    expect(seen).toBe('from-command');
    expect((await import('node:fs')).readFileSync(log, 'utf8')).toBe('ran\n');
  });

  test('the recovery key may have one of its own', async () => {
    const [own, recovery] = ['p', 'r'].map((name) => path.join(directory, name)) as [string, string];
    writeFileSync(own, 'own\n', { mode: 0o600 });
    writeFileSync(recovery, 'recovery\n', { mode: 0o600 });
    const seen: string[] = [];
    const init = (...argv: string[]) =>
      runFake(['init', './c', '--passphrase-file', own, ...argv], {
        createCollection: (options) => {
          seen.push(options.passphrase, options.recoveryPassphrase, options.directory);
          return Promise.resolve(exported.collection);
        },
      });
    const two = await init('--recovery-passphrase-file', recovery);
    expect(two.stdout).not.toContain('the same passphrase');
    const one = await init();
    expect(one.stdout).toContain('the recovery key has the same passphrase as the collection');
    expect(seen).toEqual(['own', 'recovery', '/nowhere/c', 'own', 'own', '/nowhere/c']);
  });

  test.each([
    [['--passphrase-file', '/nonexistent/p'], 2, 'cannot read the passphrase file'],
    [['--passphrase-command', 'exit 3'], 2, 'got exit code 3, want 0'],
    [['--passphrase-command', 'true'], 2, 'the passphrase is empty'],
    [['--passphrase-command', 'true', '--passphrase-fd', '0'], 2, 'got 2 ways to the passphrase'],
    [['--passphrase-fd', '987'], 2, 'cannot read file descriptor 987'],
    [[], 8, 'there is no terminal to ask at'],
  ])('%j is refused', async (argv, code, message) => {
    const { run } = await withPassphrase(argv);
    expect(run.code).toBe(code);
    expect(run.stderr).toContain(message);
  });
});

describe('values', () => {
  test('lengths of time', () => {
    expect(parseDuration('90d', '--expires')).toBe(7_776_000_000);
    expect(parseDuration('30m', '--expires')).toBe(1_800_000);
    expect(parseDuration('1y', '--expires')).toBe(31_536_000_000);
    for (const bad of ['', '0d', '90', 'd', '1.5d', '-1d', '1z', '9999999d']) {
      expect(() => parseDuration(bad, '--expires'), bad).toThrow('want a length of time');
    }
  });

  test('moments', () => {
    expect(parseMoment('2026-11-23T12:00:00Z', '--created')).toEqual(NOW);
    expect(parseMoment('2026-11-23T14:00:00+02:00', '--created')).toEqual(NOW);
    for (const bad of [
      '2026-11-23',
      '2026-02-31T00:00:00Z',
      '2026-11-23T12:00:00',
      'yesterday',
      '2026-11-23T12:00:00.5Z',
    ]) {
      expect(() => parseMoment(bad, '--created'), bad).toThrow('want a moment');
    }
  });

  test('fingerprints', () => {
    expect(parseFingerprint(`sha256:${FINGERPRINT}`, '-f')).toBe(FINGERPRINT);
    expect(() => parseFingerprint(FINGERPRINT.slice(1), '-f')).toThrow('want 64 hexadecimal digits');
    expect(() => parseFingerprint(`${FINGERPRINT}0`, '-f')).toThrow('want 64 hexadecimal digits');
  });

  test('addresses to listen on', () => {
    expect(parseListen('127.0.0.1:0')).toEqual({ host: '127.0.0.1', port: 0 });
    expect(parseListen('[::1]:5000')).toEqual({ host: '::1', port: 5000 });
    expect(parseListen(':5000')).toEqual({ host: '127.0.0.1', port: 5000 });
    for (const bad of ['host', 'host:', '1:2:3', 'host:70000', 'a b:1'])
      expect(() => parseListen(bad), bad).toThrow('want HOST:PORT');
  });

  test('places of state', () => {
    expect(dataDirectory({ env: {}, uid: 0, home: '/root', cwd: '/' })).toBe('/var/lib/sealift');
    expect(dataDirectory({ env: { XDG_DATA_HOME: '/d' }, uid: 1, home: '/h', cwd: '/' })).toBe('/d/sealift');
    expect(dataDirectory({ env: { XDG_DATA_HOME: 'relative' }, uid: 1, home: '/h', cwd: '/' })).toBe(
      '/h/.local/share/sealift',
    );
    expect(collectionPath('acme', '/d', '/c')).toBe('/d/collections/acme');
    expect(collectionPath('./acme', '/d', '/c')).toBe('/c/acme');
    expect(() => collectionPath('-x', '/d', '/c')).toThrow("want a collection's name or a directory");
  });
});

describe('completion', () => {
  test.each([
    [['tr'], ['trust']],
    [
      ['policy', ''],
      ['check', 'explain', 'set', 'clear'],
    ],
    [
      ['export', '--pl'],
      ['--platform', '--plain-http'],
    ],
    [['init', '--keys', 'n'], ['native']],
    [['export', '-o', ''], []],
    [['verify', ''], []],
  ])('%j', (words, expected) => expect(completions(words, COMMANDS)).toEqual(expected));
});
