/** Drivers with the program: found on the PATH, started by what a person wrote, and by no manifest. */
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeSandbox, type Sandbox, succeeded } from '../../fixtures/cli.ts';
import { exampleDriver, shellDriver, writeDirectoryImage, writeDriver } from '../../fixtures/drivers.ts';
import { multiArchImage } from '../../fixtures/images.ts';

let box: Sandbox;
let env: Record<string, string>;
beforeEach(() => {
  box = makeSandbox();
  env = { PATH: `${box.path('bin')}:${process.env['PATH']}` };
});
afterEach(() => box.remove());

const NAME = 'quay.io/acme/app:1';
const dry = (input: string) => box.run(['export', '-f', '-', '--dry-run', '--json'], { env, input });

describe('a driver', () => {
  it('reads what a list of lines names, relative to where sealift was started', async () => {
    const image = multiArchImage();
    writeDirectoryImage(box.path('image'), image);
    writeDriver(box.path('bin'), 'dir', exampleDriver());
    const run = succeeded(await dry(`# ours\n${NAME}=dir:./image\n`), 'export');
    expect(JSON.parse(run.stdout).result.images).toMatchObject([{ name: NAME, digest: image.digest }]);
  });

  it('that is not there is told as an unknown location, before anything is signed', async () => {
    const run = await box.run(['export', `${NAME}=vault://team/app`, '-o', 'out.tar', '--dry-run'], { env });
    expect(run.code).toBe(2);
    expect(run.stderr).toContain('unknown kind of location, got vault://team/app, want one of docker://');
    expect(run.stderr).toContain('there is no sealift-transport-vault on the PATH');
  });

  it.each(['image: vault://team/app', 'image: vault:/team/app', 'repository: vault://team\ntag: "1"'])(
    'is not started by a manifest that says %j',
    async (text) => {
      writeDriver(box.path('bin'), 'vault', shellDriver({ capabilities: `touch '${box.path('started')}'` }));
      expect((await dry(`${text}\n`)).code).not.toBe(0);
      expect(existsSync(box.path('started'))).toBe(false);
    },
  );
});
