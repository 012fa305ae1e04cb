/**
 * The OpenPGP rules beside gpg's own verdict, for keys that gpg made and signatures that it made by them. Every row
 * where the two differ is explained in docs/trust.md ("What an OpenPGP signature must be").
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isSealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { readCertificate } from '../../../core/trust/certificates.ts';
import { openGpgSigner } from '../../../core/trust/gpg.ts';
import { verifyOpenpgp } from '../../../core/trust/openpgp.ts';
import { type GpgHome, makeGpgHome } from '../../../fixtures/gpg-home.ts';
import { describePeer } from '../../../fixtures/peers.ts';

const DAY = 24 * 60 * 60 * 1000;
const SIGNED = new Date('2026-06-01T00:00:00Z');
/** When the signature is judged, by gpg too. */
const LATER = new Date('2026-09-01T00:00:00Z');
const DATA = Buffer.from('line one\nline two\n');
const PURPOSE = ['--sig-notation', 'purpose@sealift=tuf-root'];

let home: GpgHome;
let users = 0;

interface Case {
  readonly fingerprint: string;
  readonly signature: Buffer;
  readonly judgedAt?: Date;
  readonly data?: Buffer;
}

function user(): string {
  users += 1;
  return `user-${users}`;
}

/** Through `gpg:`, as everything is signed. */
async function sign(fingerprint: string): Promise<Case> {
  const access = { passphrase: async () => undefined, gpg: home.settings };
  const signer = await openGpgSigner(`gpg:${fingerprint}`, access);
  return { fingerprint, signature: Buffer.from(await signer.sign(DATA, 'tuf-root', SIGNED), 'hex') };
}

/** By gpg alone, with what sealift would never ask it for. */
async function signBy(fingerprint: string, ...options: string[]): Promise<Case> {
  const { stdout, status } = await home.run(
    ['--local-user', fingerprint, ...options, '--output', '-', '--detach-sign'],
    DATA,
  );
  if (stdout.length === 0) throw new Error(status);
  return { fingerprint, signature: stdout };
}

async function subkeyOf(fingerprint: string, expires = 'never'): Promise<void> {
  await home.run(['--passphrase', '', '--quick-add-key', fingerprint, 'ed25519', 'sign', expires]);
}

/** Judged by a clock that is behind; the key is old enough for both. */
async function signAhead(days: number): Promise<Case> {
  home.setClock(new Date(SIGNED.getTime() - 10 * DAY));
  const fingerprint = await home.make(user());
  home.setClock(SIGNED);
  return { ...(await sign(fingerprint)), judgedAt: new Date(SIGNED.getTime() - days * DAY) };
}

/** Menu of gpg: 0 no reason, 1 compromised, 2 superseded, 3 no longer used. */
async function revoke(fingerprint: string, reason: number): Promise<void> {
  const { stdout, status } = await home.run(
    ['--no-batch', '--command-fd', '0', '--gen-revoke', fingerprint],
    Buffer.from(`y\n${reason}\n\ny\n`),
  );
  if (stdout.length === 0) throw new Error(status);
  await home.run(['--import'], stdout);
}

async function edit(fingerprint: string, ...lines: string[]): Promise<void> {
  const text = `${[...lines, 'save'].join('\n')}\n`;
  await home.run(['--no-batch', '--command-fd', '0', '--edit-key', fingerprint], Buffer.from(text));
}

const CASES: Readonly<Record<string, () => Promise<Case>>> = {
  RSA: async () => await sign(await home.make(user(), { algorithm: 'rsa2048' })),
  'legacy Ed25519': async () => await sign(await home.make(user())),
  'ECDSA P-256': async () => await sign(await home.make(user(), { algorithm: 'nistp256' })),
  'signing subkey': async () => {
    const fingerprint = await home.make(user());
    await subkeyOf(fingerprint);
    return await sign(fingerprint);
  },
  'primary expired since': async () => await sign(await home.make(user(), { expires: '2026-07-01' })),
  'signing subkey expired since': async () => {
    const fingerprint = await home.make(user());
    await subkeyOf(fingerprint, '2026-07-01');
    return await sign(fingerprint);
  },
  'primary of the subkey expired since': async () => {
    const fingerprint = await home.make(user(), { expires: '2026-07-01' });
    await subkeyOf(fingerprint);
    return await sign(fingerprint);
  },
  'expired and renewed': async () => {
    const made = await sign(await home.make(user(), { expires: '2026-07-01' }));
    home.setClock(new Date(SIGNED.getTime() + 31 * DAY));
    await home.run(['--quick-set-expire', made.fingerprint, '5y']);
    return made;
  },
  'revoked without a reason': async () => {
    const made = await sign(await home.make(user()));
    await revoke(made.fingerprint, 0);
    return made;
  },
  'revoked as compromised': async () => {
    const made = await sign(await home.make(user()));
    await revoke(made.fingerprint, 1);
    return made;
  },
  'revoked as superseded': async () => {
    const made = await sign(await home.make(user()));
    await revoke(made.fingerprint, 2);
    return made;
  },
  'revoked as no longer used': async () => {
    const made = await sign(await home.make(user()));
    await revoke(made.fingerprint, 3);
    return made;
  },
  'subkey revoked as compromised': async () => {
    const fingerprint = await home.make(user());
    await subkeyOf(fingerprint);
    const made = await sign(fingerprint);
    await edit(fingerprint, 'key 1', 'revkey', 'y', '1', '', 'y');
    return made;
  },
  'subkey revoked as superseded': async () => {
    const fingerprint = await home.make(user());
    await subkeyOf(fingerprint);
    const made = await sign(fingerprint);
    await edit(fingerprint, 'key 1', 'revkey', 'y', '2', '', 'y');
    return made;
  },
  'by SHA-1': async () =>
    await signBy(await home.make(user(), { algorithm: 'rsa2048' }), ...PURPOSE, '--digest-algo', 'SHA1'),
  'by SHA-224': async () =>
    await signBy(await home.make(user(), { algorithm: 'rsa2048' }), ...PURPOSE, '--digest-algo', 'SHA224'),
  'RSA of 1024 bits': async () => await signBy(await home.make(user(), { algorithm: 'rsa1024' }), ...PURPOSE),
  DSA: async () => await signBy(await home.make(user(), { algorithm: 'dsa2048' }), ...PURPOSE),
  'in text mode': async () => await signBy(await home.make(user()), ...PURPOSE, '--textmode'),
  'without a purpose': async () => await signBy(await home.make(user())),
  'for another purpose': async () =>
    await signBy(await home.make(user()), '--sig-notation', 'purpose@sealift=sha256sums'),
  'with an end of its own': async () =>
    await signBy(await home.make(user()), ...PURPOSE, '--default-sig-expire', '5y'),
  'with a critical notation nobody knows': async () =>
    await signBy(await home.make(user()), ...PURPOSE, '--sig-notation', '!other@example.org=x'),
  'two signatures': async () => {
    const other = await home.make(user());
    return await signBy(await home.make(user()), ...PURPOSE, '--local-user', other);
  },
  'a day and a half ahead of the clock': async () => await signAhead(1.5),
  'three days ahead of the clock': async () => await signAhead(3),
  'before the key was made': async () => {
    home.setClock(new Date(SIGNED.getTime() + 2 * DAY));
    const fingerprint = await home.make(user());
    home.setClock(SIGNED);
    return await signBy(fingerprint, ...PURPOSE, '--ignore-time-conflict', '--ignore-valid-from');
  },
  'over other bytes': async () => {
    const fingerprint = await home.make(user());
    return { ...(await sign(fingerprint)), data: Buffer.from('line one\nline 2\n') };
  },
};

/** Rows of the table in docs/trust.md: our verdict on final metadata, on links of the root chain, gpg's, and why. */
const DOCUMENTED = new Map(
  readFileSync(path.join(import.meta.dirname, '../../../docs/trust.md'), 'utf8')
    .split('\n')
    .filter((line) => /\b(?:GOODSIG|EXPKEYSIG|REVKEYSIG|BADSIG|ERRSIG), exit/.test(line))
    .map((line): [string, string[]] => {
      const [name = '', ...cells] = line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.replaceAll('`', '').trim());
      return [name, cells];
    }),
);

async function ours(
  { fingerprint, signature, judgedAt = LATER, data = DATA }: Case,
  mode: 'final' | 'link',
): Promise<string> {
  try {
    const exported = (await home.run(['--export', fingerprint])).stdout;
    const certificate = await readCertificate(exported, DEFAULT_LIMITS);
    await verifyOpenpgp(certificate, data, signature.toString('hex'), {
      purpose: 'tuf-root',
      now: judgedAt,
      mode,
    });
    return 'accepted';
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
}

async function gpgs({ signature, judgedAt = LATER, data = DATA }: Case): Promise<string> {
  home.setClock(judgedAt);
  const file = path.join(home.directory, 'data');
  writeFileSync(file, data);
  writeFileSync(`${file}.sig`, signature);
  const { status, code } = await home.run(['--verify', `${file}.sig`, file]);
  const word =
    /\[GNUPG:\] (GOODSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|BADSIG|ERRSIG)\b/.exec(status)?.[1] ?? 'nothing';
  return `${word}, exit ${code}`;
}

describePeer(['gpg'], 'OpenPGP verdicts', () => {
  let isGpg22 = false;
  beforeAll(async () => {
    home = makeGpgHome(SIGNED);
    isGpg22 = / 2\.2\./.test((await home.run(['--version'])).stdout.toString());
  });
  afterAll(async () => {
    await home?.close();
  });

  it.each(Object.entries(CASES))('%s', async (name, make) => {
    home.setClock(SIGNED);
    const made = await make();
    const [final, link, gpg] = DOCUMENTED.get(name) ?? [];
    expect([await ours(made, 'final'), await ours(made, 'link')]).toEqual([final, link]);
    // The table says of which version it speaks.
    if (isGpg22) expect(await gpgs(made)).toBe(gpg);
  });

  it('are all in the table, and every difference is explained', () => {
    expect([...DOCUMENTED.keys()]).toEqual(Object.keys(CASES));
    for (const [name, [final, link, gpg, why]] of DOCUMENTED) {
      const agree = (final === 'accepted') === (gpg === 'GOODSIG, exit 0') && final === link;
      expect(agree || (why ?? '') !== '', name).toBe(true);
    }
  });
});
