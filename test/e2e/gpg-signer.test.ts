/** The built program with a key that gpg holds: made with it, exported and signed by it, never asked for its secret. */
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeSandbox, type Sandbox, succeeded } from '../../fixtures/cli.ts';
import { type GpgHome, makeGpgHome } from '../../fixtures/gpg-home.ts';
import { makeLayout, singleImage } from '../../fixtures/images.ts';
import { TEST_PASSPHRASE } from '../../fixtures/keys/test-keys.ts';
import { describePeer } from '../../fixtures/peers.ts';

const NAME = 'registry.example/team/app:v1';

let home: GpgHome;
let sandbox: Sandbox;

describePeer(['gpg'], 'a key that gpg holds', () => {
  beforeAll(() => {
    home = makeGpgHome(new Date());
    sandbox = makeSandbox();
    makeLayout(sandbox.path('layout'), [{ name: 'v1', root: singleImage() }]);
    writeFileSync(sandbox.path('recovery'), 'passphrase of the recovery key\n', { mode: 0o600 });
    writeFileSync(sandbox.path('key'), `${TEST_PASSPHRASE}\n`, { mode: 0o600 });
    writeFileSync(sandbox.path('wrong'), 'not it\n', { mode: 0o600 });
  });
  afterAll(async () => {
    sandbox?.remove();
    await home?.close();
  });

  const run = (args: readonly string[], more: Record<string, string | undefined> = {}) =>
    sandbox.run(args, {
      env: {
        GNUPGHOME: home.directory,
        PATH: `${home.directory}${path.delimiter}${process.env['PATH']}`,
        GPG_TTY: undefined,
        ...more,
      },
    });

  it('makes a collection, and signs bundles and images', async () => {
    const fingerprint = await home.make('Jo <jo@example.invalid>', {
      algorithm: 'rsa2048',
      passphrase: TEST_PASSPHRASE,
    });
    await home.forget();
    const reference = `gpg:${fingerprint}`;
    const made = succeeded(
      await run([
        ...['init', '--signer', reference, '--recovery-passphrase-file', sandbox.path('recovery')],
        ...['--recovery-key', sandbox.path('recovery.key'), '--passphrase-file', sandbox.path('key')],
      ]),
      'init --signer',
    );
    expect(made.stdout).toContain('Fingerprint of the root');
    const collection = sandbox.path('collection');
    expect(readdirSync(path.join(collection, 'keys'))).toEqual([`${fingerprint.toLowerCase()}.gpg`]);
    expect((await run(['trust', 'key', 'list'])).stdout).toContain('secret half held by gpg');

    // The agent has forgotten it, nobody can be asked, and a wrong passphrase opens nothing.
    await home.forget();
    const bundle = sandbox.path('one.tar');
    const exporting = ['export', `${NAME}=oci:${sandbox.path('layout')}:v1`, '--output', bundle];
    const locked = await run([...exporting, '--no-input']);
    expect(locked.code).toBe(8);
    expect(locked.stderr).toContain('passphrase-needed');
    const wrong = await run([...exporting, '--passphrase-file', sandbox.path('wrong')]);
    expect(wrong.code).toBe(8);
    const without = await run([...exporting, '--no-input'], { PATH: path.dirname(process.execPath) });
    expect(without.stderr).toContain('install gnupg');

    succeeded(await run([...exporting, '--passphrase-file', sandbox.path('key')]), 'export');
    const root = succeeded(await run(['trust', 'root', '--quiet']), 'trust root').stdout.trim();
    const verified = succeeded(await run(['verify', bundle, '--fingerprint', root]), 'verify');
    expect(verified.stdout).toContain(`SHA256SUMS signed by ${fingerprint.toLowerCase()}`);
    const shown = succeeded(await run(['inspect', bundle]), 'inspect');
    expect(shown.stdout).toContain('holds root and targets too');

    const lookaside = sandbox.path('lookaside');
    const signed = succeeded(
      await run([
        ...['sign', `${NAME}=oci:${sandbox.path('layout')}:v1`, '--key', reference],
        ...['--lookaside', lookaside, '--passphrase-file', sandbox.path('key')],
      ]),
      'sign --key gpg:',
    );
    expect(signed.stdout).toContain(fingerprint.toLowerCase());
    expect(
      readdirSync(lookaside, { recursive: true }).some((name) => String(name).endsWith('signature-1')),
    ).toBe(true);
    expect(home.calls()).not.toContain(TEST_PASSPHRASE);
  });
});
