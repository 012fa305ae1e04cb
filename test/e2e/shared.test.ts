/** Two officers of one group, and somebody who is not in it, on one machine: one gate, one store, one collection. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { programFile, type RunResult, runProgram, succeeded } from '../../fixtures/cli.ts';
import { makeLayout, multiArchImage, singleImage } from '../../fixtures/images.ts';
import { hasPeer } from '../../fixtures/peers.ts';
import { makeWalk, PASSPHRASE, type Walk } from '../../fixtures/walk.ts';

/** Numbers that no user has; the kernel asks for no more. */
const GROUP = 61_000;
const ANNA = { uid: 61_001, umask: '077', groups: `61001,${GROUP}` };
const BERTA = { uid: 61_002, umask: '000', groups: `61002,${GROUP}` };
const STRANGER = { uid: 61_003, umask: '022', groups: '61003' };
type Person = typeof ANNA;
const PEOPLE = [ANNA, BERTA, STRANGER];

const NAME = 'registry.example/team/app';
const canBe = process.getuid?.() === 0 && hasPeer('setpriv');

describe.skipIf(!canBe)('a group shares its state (needs root and setpriv)', () => {
  let walk: Walk;
  const place = (...parts: string[]) => walk.sandbox.path(...parts);

  async function as(person: Person, args: readonly string[]): Promise<RunResult> {
    const home = place(`home-${person.uid}`);
    return await runProgram(
      'setpriv',
      [
        ...[`--reuid=${person.uid}`, `--regid=${person.uid}`, `--groups=${person.groups}`, '--'],
        ...['sh', '-c', `umask ${person.umask}; exec "$@"`, 'sh', process.execPath, programFile(), ...args],
      ],
      {
        cwd: home,
        env: {
          ...walk.sandbox.env,
          HOME: home,
          XDG_DATA_HOME: path.join(home, 'data'),
          XDG_CONFIG_HOME: path.join(home, 'config'),
          XDG_CACHE_HOME: path.join(home, 'cache'),
          XDG_RUNTIME_DIR: home,
          TMPDIR: home,
        },
      },
    );
  }
  const must = async (person: Person, ...args: string[]) =>
    succeeded(await as(person, args), `${person.uid}: ${args.join(' ')}`);
  const signing = (person: Person) => [
    '--no-input',
    '--passphrase-file',
    place(`home-${person.uid}`, 'pass'),
  ];

  /** Everything below `directory` whose group may not work with it, or that others may see. */
  function misfits(directory: string): string[] {
    const found: string[] = [];
    const look = (file: string): void => {
      const { mode, gid } = lstatSync(file);
      const wanted = lstatSync(file).isDirectory() ? 0o2770 : 0o660;
      if (gid !== GROUP || (mode & 0o7777) !== wanted)
        found.push(`${path.relative(directory, file)} ${gid} ${(mode & 0o7777).toString(8)}`);
      if (wanted === 0o2770) for (const name of readdirSync(file)) look(path.join(file, name));
    };
    look(directory);
    return found;
  }

  beforeAll(() => {
    walk = makeWalk();
    chmodSync(walk.sandbox.directory, 0o755);
    for (const { uid } of PEOPLE) {
      const home = place(`home-${uid}`);
      mkdirSync(home, { mode: 0o700 });
      writeFileSync(path.join(home, 'pass'), `${PASSPHRASE}\n`, { mode: 0o600 });
      for (const file of [home, path.join(home, 'pass')]) chownSync(file, uid, uid);
    }
    // What an administrator does: install --directory --mode 2770 --group sealift DIR
    for (const name of ['collection', 'gate', 'store']) {
      mkdirSync(place(name));
      chownSync(place(name), 0, GROUP);
      chmodSync(place(name), 0o2770);
    }
    mkdirSync(place('stick'));
    chmodSync(place('stick'), 0o777);
    makeLayout(place('layout'), [
      { name: 'v1', root: singleImage() },
      { name: 'v2', root: multiArchImage() },
    ]);
  });
  afterAll(() => walk?.sandbox.remove());

  it('each goes on where the other stopped, with umask 077 and 000, and strangers are kept out', async () => {
    const [one, two, three] = ['one.tar', 'two.tar', 'three.tar'].map((name) => place('stick', name));
    if (!one || !two || !three) throw new Error('no paths');
    const recovery = ['--recovery-key', place(`home-${ANNA.uid}`, 'recovery.key')];
    await must(ANNA, 'init', '--keys', 'native', ...signing(ANNA), ...recovery);
    expect(misfits(place('collection'))).toEqual([]);
    await must(ANNA, 'export', `${NAME}:1=oci:${place('layout')}:v1`, '-o', one, ...signing(ANNA));
    chmodSync(one, 0o644);
    // The one who did not make it exports, renews and rotates; the other goes on with that.
    await must(BERTA, 'export', `${NAME}:2=oci:${place('layout')}:v2`, '-o', two, ...signing(BERTA));
    await must(BERTA, 'trust', 'key', 'rotate', '--role', 'images', ...signing(BERTA));
    await must(ANNA, 'trust', 'remove', `${NAME}:1`, '--reason', 'a hole', ...signing(ANNA));
    await must(ANNA, 'export', '--metadata-only', '-o', three, ...signing(ANNA));
    chmodSync(three, 0o644);
    expect(misfits(place('collection'))).toEqual([]);
    expect(statSync(place(`home-${ANNA.uid}`, 'recovery.key')).mode & 0o777).toBe(0o600);

    const root = JSON.parse((await must(BERTA, 'trust', 'root', '--json')).stdout) as {
      result: { collectionId: string };
    };
    const yes = ['--yes', '--no-input'];
    await must(ANNA, 'trust', 'pin', one, '--fingerprint', root.result.collectionId, '--yes');
    await must(ANNA, 'import', one, ...yes);
    await must(BERTA, 'import', two, ...yes);
    await must(ANNA, 'import', three, ...yes);
    expect((await must(BERTA, 'ls')).stdout).not.toContain(`${NAME}:1`);
    await must(ANNA, 'receipt', '-o', place(`home-${ANNA.uid}`, 'receipt.json'));
    await must(BERTA, 'receipt', '-o', place(`home-${BERTA.uid}`, 'receipt.json'));
    writeFileSync(place('policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}', { mode: 0o644 });
    await must(BERTA, 'policy', 'set', place('policy.json'), '--yes');
    // Another scope for the pin, by the one who did not make it; and the clock, and what is not needed any more.
    await must(
      BERTA,
      'trust',
      'pin',
      two,
      '--fingerprint',
      root.result.collectionId,
      '--scope',
      `${NAME}`,
      '--yes',
    );
    await must(BERTA, 'trust', 'clock', 'reset');
    await must(ANNA, 'import', three, ...yes);
    await must(BERTA, 'gc');

    const audit = JSON.parse((await must(ANNA, 'trust', 'audit', '--json')).stdout) as {
      result: { whole: boolean; shown: { actor: string; event: string }[] };
    };
    expect(audit.result.whole).toBe(true);
    const actors = new Set(audit.result.shown.map(({ actor }) => actor));
    expect([...actors].sort()).toEqual(['uid 61001', 'uid 61002']);
    for (const kind of ['gate', 'store']) expect(misfits(place(kind))).toEqual([]);

    for (const args of [['trust', 'status'], ['ls'], ['trust', 'list'], ['import', two, ...yes]]) {
      const kept = await as(STRANGER, args);
      expect([args, kept.code]).toEqual([args, 7]);
    }
    const told = await as(STRANGER, ['trust', 'status']);
    expect(told.stderr).toContain('you may not read it');
    expect((await must(ANNA, 'trust', 'audit', '--json')).stdout).not.toContain('61003');
  });

  it('recognises a lock that another of the group holds, and one that is left over', async () => {
    const lock = place('gate', 'lock');
    const { hostname } = await import('node:os').then((os) => ({ hostname: os.hostname() }));
    writeFileSync(lock, `${hostname} ${process.pid} \n`, { mode: 0o640 });
    chownSync(lock, ANNA.uid, GROUP);
    const held = await as(BERTA, ['trust', 'clock', 'reset']);
    expect([held.code, held.stderr]).toEqual([7, expect.stringContaining(`process ${process.pid}`)]);
    writeFileSync(lock, `${hostname} 4194305 1\n`);
    await must(BERTA, 'trust', 'clock', 'reset');
  });

  it('says that a gate is refused which every user may write to, and warns of files by strangers', async () => {
    chmodSync(place('gate'), 0o2777);
    const refused = await as(ANNA, ['trust', 'status', '--json']);
    expect([refused.code, refused.stdout]).toEqual([5, expect.stringContaining('gate-unsafe')]);
    expect(refused.stderr).toContain('chmod o-w');
    chmodSync(place('gate'), 0o2770);
    chownSync(place('gate', 'policy.json'), STRANGER.uid, STRANGER.uid);
    chmodSync(place('gate', 'policy.json'), 0o664);
    const warned = await must(ANNA, 'trust', 'status');
    expect(warned.stderr).toContain('policy.json');
  });

  it('shares nothing in a directory that was not made for it, whatever the umask', async () => {
    for (const person of [ANNA, BERTA]) {
      const home = place(`home-${person.uid}`);
      const own = ['--gate', path.join(home, 'own-gate'), '--store', path.join(home, 'own-store')];
      const { stdout } = await must(person, 'trust', 'root', '--json');
      const id = (JSON.parse(stdout) as { result: { collectionId: string } }).result.collectionId;
      const bundle = place('stick', 'two.tar');
      await must(person, 'trust', 'pin', bundle, '--fingerprint', id, '--yes', ...own);
      await must(person, 'import', bundle, '--yes', '--no-input', ...own);
      const modes = new Set<string>();
      const look = (file: string): void => {
        const stats = lstatSync(file);
        modes.add(`${stats.isDirectory() ? 'd' : 'f'}${(stats.mode & 0o7777).toString(8)}`);
        if (stats.isDirectory()) for (const name of readdirSync(file)) look(path.join(file, name));
      };
      look(path.join(home, 'own-gate'));
      expect([...modes].sort()).toEqual(['d700', 'f600']);
    }
  });
});
