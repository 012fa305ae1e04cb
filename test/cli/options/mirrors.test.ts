import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadMirrors, parseMirrorOption } from '../../../cli/options/mirrors.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(path.join(os.tmpdir(), 'sealift-mirrors-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function write(file: string, text: string): string {
  const full = path.join(home, file);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, text);
  return full;
}
const load = async (env: Record<string, string> = {}) =>
  (await loadMirrors([], { env, homedir: path.join(home, 'user'), system: path.join(home, 'etc') })).rules;
const USER = 'user/.config/containers/registries.conf';
const RULE = '[[registry]]\nlocation = "r.example"\n';

describe('registries.conf', () => {
  it('gives prefixes, locations and mirrors', async () => {
    write(
      USER,
      `unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "r.example/team"
location = "real.example/t"
insecure = true
[[registry.mirror]]
location = "m.example:5000/x"
insecure = true
[[registry.mirror]]
location = "n.example"
pull-from-mirror = "tag-only"
[[registry]]
location = "bad.example"
blocked = true
[[registry]]
prefix = "*.d.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "n.example"
`,
    );
    expect(await load()).toEqual([
      {
        prefix: 'r.example/team',
        location: 'real.example/t',
        insecure: true,
        blocked: false,
        mirrors: [
          { location: 'm.example:5000/x', insecure: true, pull: 'all' },
          { location: 'n.example', insecure: false, pull: 'tag-only' },
        ],
      },
      { prefix: 'bad.example', insecure: false, blocked: true, mirrors: [] },
      {
        prefix: '*.d.example',
        insecure: false,
        blocked: false,
        mirrors: [{ location: 'n.example', insecure: false, pull: 'digest-only' }],
      },
    ]);
  });

  it("is the user's before the system's, with the drop-ins of both over it", async () => {
    const mirror = (name: string): string => `${RULE}[[registry.mirror]]\nlocation = "${name}"\n`;
    write('etc/registries.conf', mirror('system.example'));
    expect((await load())[0]?.mirrors[0]?.location).toBe('system.example');
    write(USER, mirror('user.example'));
    expect((await load())[0]?.mirrors[0]?.location).toBe('user.example');
    write('etc/registries.conf.d/1.conf', mirror('drop.example'));
    write('etc/registries.conf.d/2.txt', 'not [ toml');
    expect((await load())[0]?.mirrors[0]?.location).toBe('drop.example');
    write('user/.config/containers/registries.conf.d/0.conf', mirror('mine.example'));
    expect(await load()).toMatchObject([{ mirrors: [{ location: 'mine.example' }] }]);
    const other = write('other.conf', '');
    await expect(load({ CONTAINERS_REGISTRIES_CONF: path.join(home, 'none') })).rejects.toThrow(/not there/);
    expect(await load({ CONTAINERS_REGISTRIES_CONF: other })).toMatchObject([
      { mirrors: [{ location: 'mine.example' }] },
    ]);
  });

  it('need not be there, and may be of the first form, which has no mirrors', async () => {
    expect(await load()).toEqual([]);
    write(USER, "[registries.search]\nregistries = ['docker.io']\n");
    expect(await load()).toEqual([]);
  });

  it.each([
    ['registry = 3'],
    ['[[registry]]\nblocked = true'],
    ['[[registry]]\nlocation = "https://r.example"'],
    ['[[registry]]\nlocation = "r.example/../x"'],
    ['[[registry]]\nprefix = "*"\nlocation = "r.example"'],
    [`${RULE}insecure = "yes"`],
    [`${RULE}[[registry.mirror]]\ninsecure = true`],
    [`${RULE}[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "never"`],
    [`${RULE}mirror = [3]`],
    ['[[registry'],
    [`a = ${'['.repeat(5000)}`],
  ])('is refused with %j', async (text) => {
    const file = write(USER, text);
    await expect(load()).rejects.toMatchObject({ code: 'invalid-argument', subject: file });
  });
});

describe('--mirror', () => {
  it('takes several for one registry, HTTP where it is spelt out', () => {
    expect(parseMirrorOption('docker.io=m.example:5000/hub,http://[::1]:5000')).toEqual({
      prefix: 'docker.io',
      insecure: false,
      blocked: false,
      mirrors: [
        { location: 'm.example:5000/hub', insecure: false, plainHttp: false, pull: 'all' },
        { location: '[::1]:5000', insecure: false, plainHttp: true, pull: 'all' },
      ],
    });
  });

  it.each([
    ['docker.io'],
    ['=m.example'],
    ['docker.io='],
    ['docker.io=a,,b'],
    ['docker.io=ftp://x'],
    ['a b=c'],
  ])('refuses %j', (text) => {
    expect(() => parseMirrorOption(text)).toThrow(/--mirror/);
  });
});
