/**
 * Other TUF clients and repositories: python-tuf over the metadata of a bundle, sealift over what python-tuf made.
 * SEALIFT_PYTHON_TUF names a Python that has the packages tuf and securesystemslib[crypto].
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signMetadata } from '../../core/trust/collection.ts';
import { openNativeSigner } from '../../core/trust/signer.ts';
import { runProgram, startSealift } from '../../fixtures/cli.ts';
import { singleImage } from '../../fixtures/images.ts';
import { endProcess } from '../../fixtures/registry.ts';
import { addressFrom } from '../../fixtures/walk.ts';
import { filesOf, makeWorld, TEST_PASSPHRASE, type World } from '../../fixtures/world.ts';

const python = process.env['SEALIFT_PYTHON_TUF'];
const CLIENT = path.join(import.meta.dirname, 'tuf-client');
const NAME = 'docker.io/library/alpine:3.20';

let world: World;
let work: string;
let server: Server;
let url: string;
let served: string;
let files: Map<string, Buffer>;
/** What `sealift serve` shows of the gate that has imported the bundle. */
let gateUrl: string;
let serving: ChildProcess;
const image = singleImage();

beforeAll(async () => {
  const now = new Date(Math.floor(Date.now() / 1000) * 1000);
  world = await makeWorld({ keys: 'native', now });
  work = mkdtempSync(path.join(os.tmpdir(), 'sl-tuf-'));
  served = path.join(work, 'served');
  const bundle = await world.export({ [NAME]: image }, { now });
  await world.pin(bundle.output, { now });
  await world.import(bundle.output, { now });
  const serve = ['serve', `store:${world.store}`, '--gate', world.gate, '--listen', '127.0.0.1:0'];
  serving = startSealift(serve, { env: { HOME: work, XDG_DATA_HOME: work }, cwd: work });
  gateUrl = `http://${await addressFrom(serving)}/_trust`;
  files = filesOf(bundle.output);
  for (const [name, bytes] of files) put(name, bytes);
  // A target is the manifest, which a TUF client asks for by hash and name.
  const hash = createHash('sha256').update(image.bytes).digest('hex');
  put(`targets/docker.io/library/${hash}.alpine:3.20`, image.bytes);
  server = createServer((request, response) => {
    try {
      const file = path.join(served, decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname));
      if (!file.startsWith(served)) throw new Error('outside');
      response.end(readFileSync(file));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server?.close();
  if (serving) await endProcess(serving);
  await world?.close();
  rmSync(work, { recursive: true, force: true });
});

function put(name: string, bytes: Uint8Array): void {
  const file = path.join(served, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, bytes);
}

function client(directory: string, base: string, args: readonly string[]) {
  return runProgram(CLIENT, [
    ...['--metadata-dir', path.join(work, directory), '--metadata-url', `${base}/metadata`],
    ...['--target-dir', path.join(work, `${directory}-targets`), '--target-base-url', `${base}/targets`],
    ...args,
  ]);
}

describe('the client of the conformance suite', () => {
  it('starts from a root, refreshes from a bundle and downloads a target', async () => {
    const root = path.join(served, 'metadata/1.root.json');
    expect((await client('own', url, ['refresh'])).code).toBe(1);
    expect((await client('own', url, ['init', root])).code).toBe(0);
    expect(await client('own', url, ['refresh'])).toMatchObject({ code: 0, stderr: '' });
    expect(await client('own', url, ['download', '--target-name', NAME])).toMatchObject({
      code: 0,
      stderr: '',
    });
    const got = readFileSync(path.join(work, 'own-targets', encodeURIComponent(NAME)));
    expect(got.equals(image.bytes)).toBe(true);
    const other = await client('own', url, ['download', '--target-name', 'docker.io/library/none:1']);
    expect(other.code).toBe(1);
  });

  it('does the same against sealift serve, which shows what the gate trusts', async () => {
    const root = path.join(served, 'metadata/1.root.json');
    expect((await client('by-serve', gateUrl, ['init', root])).code).toBe(0);
    const download = await client('by-serve', gateUrl, ['download', '--target-name', NAME]);
    expect(download).toMatchObject({ code: 0, stderr: '' });
    const got = readFileSync(path.join(work, 'by-serve-targets', encodeURIComponent(NAME)));
    expect(got.equals(image.bytes)).toBe(true);
  });

  it('keeps no root that does not carry its own signatures', async () => {
    const document = JSON.parse(String(files.get('metadata/1.root.json'))) as {
      signatures: { sig: string }[];
    };
    for (const signature of document.signatures)
      signature.sig = signature.sig.replace(/^../, (first) => (first === 'ff' ? '00' : 'ff'));
    put('unsigned/metadata/1.root.json', Buffer.from(JSON.stringify(document)));
    const root = path.join(served, 'unsigned/metadata/1.root.json');
    expect((await client('unsigned', url, ['init', root])).code).toBe(1);
    expect((await client('unsigned', url, ['refresh'])).code).toBe(1);
  });

  it('goes on with the timestamp it has where the same version says something else, and fetches nothing twice', async () => {
    const root = path.join(served, 'metadata/1.root.json');
    await client('again', url, ['init', root]);
    expect((await client('again', url, ['download', '--target-name', NAME])).code).toBe(0);
    const before = readFileSync(path.join(work, 'again/timestamp.json'));
    const secret =
      readdirSync(path.join(world.collection, 'keys')).find((name) => name.endsWith('.pem')) ?? '';
    const key = readFileSync(path.join(world.collection, 'keys', secret));
    const { signed } = JSON.parse(String(before)) as { signed: Record<string, never> };
    const other = await signMetadata(
      { ...signed, _type: 'timestamp', meta: { 'snapshot.json': { version: 100 } } },
      [openNativeSigner(key, TEST_PASSPHRASE, secret)],
      new Date(),
    );
    // Only this is there: whatever is asked for besides is missing.
    put('other/metadata/timestamp.json', other);
    const second = await client('again', `${url}/other`, ['download', '--target-name', NAME]);
    expect(second).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(path.join(work, 'again/timestamp.json')).equals(before)).toBe(true);
  });

  it('refuses a timestamp of which a byte was changed', async () => {
    const timestamp = files.get('metadata/timestamp.json') ?? Buffer.alloc(0);
    put('bad/metadata/1.root.json', files.get('metadata/1.root.json') ?? Buffer.alloc(0));
    put('bad/metadata/timestamp.json', Buffer.from(String(timestamp).replace('"version":2', '"version":3')));
    await client('bad', `${url}/bad`, ['init', path.join(served, 'metadata/1.root.json')]);
    const refused = await client('bad', `${url}/bad`, ['refresh']);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toContain('does not verify');
  });
});

describe.skipIf(python === undefined)('python-tuf (needs SEALIFT_PYTHON_TUF)', () => {
  const run = (script: string, ...args: string[]) => {
    const file = path.join(
      work,
      `script-${createHash('sha256').update(script).digest('hex').slice(0, 8)}.py`,
    );
    writeFileSync(file, script);
    return runProgram(python ?? '', [file, ...args]);
  };

  const REFRESH = `
import os, sys
from tuf.ngclient import Updater
base, work, root = sys.argv[1:4]
os.makedirs(work + '/m'); os.makedirs(work + '/t')
first = open(root, 'rb').read()
updater = Updater(bootstrap=first, metadata_dir=work + '/m', metadata_base_url=base + '/metadata/', target_dir=work + '/t', target_base_url=base + '/targets/')
updater.refresh()
info = updater.get_targetinfo('${NAME}')
print(info.length, info.hashes['sha256'])
print(updater.download_target(info, work + '/t/manifest'))
`;

  it.each([
    ['the metadata of a bundle', () => url],
    ['sealift serve', () => gateUrl],
  ])('refreshes a native-key collection from %s and downloads a manifest', async (name, base) => {
    const directory = path.join(work, `python ${name}`);
    const result = await run(REFRESH, base(), directory, path.join(served, 'metadata/1.root.json'));
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toContain(`${image.size} ${image.digest.replace('sha256:', '')}`);
    expect(readFileSync(path.join(directory, 't/manifest')).equals(image.bytes)).toBe(true);
  });

  it('makes a repository that sealift refreshes, delegations and a root rotation included', async () => {
    const made = await run(
      `
import os, sys
from datetime import datetime, timedelta, timezone
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import *
out = sys.argv[1]
os.makedirs(out + '/metadata'); os.makedirs(out + '/targets')
expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=9)
one, two, deleg = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa()
root = Root(expires=expires, consistent_snapshot=True)
for role in ('root', 'timestamp', 'snapshot', 'targets'): root.add_key(one.public_key, role)
def write(md, name, *signers):
    for i, signer in enumerate(signers): md.sign(signer, append=i > 0)
    md.to_file(out + '/metadata/' + name)
write(Metadata(root), '1.root.json', one)
root.version = 2
root.add_key(two.public_key, 'root'); root.revoke_key(one.public_key.keyid, 'root')
write(Metadata(root), '2.root.json', one, two)
data = b'a target'
inner = Targets(expires=expires, targets={'a/b.txt': TargetFile.from_data('a/b.txt', data)})
write(Metadata(inner), '1.team.json', deleg)
targets = Targets(expires=expires, delegations=Delegations(keys={deleg.public_key.keyid: deleg.public_key}, roles={'team': DelegatedRole('team', [deleg.public_key.keyid], 1, False, paths=['a/*'])}))
write(Metadata(targets), '1.targets.json', one)
write(Metadata(Snapshot(expires=expires, meta={'targets.json': MetaFile(1), 'team.json': MetaFile(1)})), '1.snapshot.json', one)
write(Metadata(Timestamp(expires=expires, snapshot_meta=MetaFile(1))), 'timestamp.json', one)
os.makedirs(out + '/targets/a')
open(out + '/targets/a/' + inner.targets['a/b.txt'].hashes['sha256'] + '.b.txt', 'wb').write(data)
`,
      path.join(served, 'foreign'),
    );
    expect(made).toMatchObject({ code: 0 });
    await client('foreign', `${url}/foreign`, ['init', path.join(served, 'foreign/metadata/1.root.json')]);
    expect(await client('foreign', `${url}/foreign`, ['download', '--target-name', 'a/b.txt'])).toMatchObject(
      {
        code: 0,
        stderr: '',
      },
    );
    expect(readFileSync(path.join(work, 'foreign-targets', 'a%2Fb.txt'), 'utf8')).toBe('a target');
    expect(JSON.parse(readFileSync(path.join(work, 'foreign/root.json'), 'utf8'))).toMatchObject({
      signed: { version: 2 },
    });
  });
});
