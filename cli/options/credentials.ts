/**
 * Credentials where docker, podman and skopeo keep them: docker's config.json, containers' auth.json
 * (containers-auth.json(5)) and credential helpers. No content of these files enters a message.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { inert, isSealiftError, SealiftError } from '../../core/errors.ts';
import { readFileLimited } from '../../core/fs/durable.ts';
import { type JsonObject, type JsonValue, parseJson } from '../../core/json/strict.ts';
import type { Credentials, IdentityToken, Login, SourceOptions } from '../../core/transport/source.ts';

export interface CredentialSettings {
  /** `--authfile`; then no other file is looked at, and it has to be there. */
  readonly authFile?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homedir: string;
}

const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_HELPER_OUTPUT = 64 * 1024;
/** A helper may have to ask a person to unlock a keyring. */
const HELPER_TIMEOUT_MS = 120_000;
const HELPER_NAME = /^[A-Za-z0-9._-]{1,100}$/;
const HUB = 'docker.io';
/** Key and server address of Docker Hub ever since registry version 1. */
export const HUB_KEY = 'https://index.docker.io/v1/';
export const HUB_HOSTS: ReadonlySet<string> = new Set([HUB, 'index.docker.io', 'registry-1.docker.io']);

export interface AuthFile {
  readonly file: string;
  readonly document: JsonObject;
  /** On disk it is what `auths` holds here. */
  readonly flat: boolean;
}

/** What docker writes for a user name where the secret is an identity token. */
export const TOKEN_USER = '<token>';

interface Candidate {
  readonly file: string;
  readonly required: boolean;
  /** Docker's first form: what is `auths` today is all of it. */
  readonly flat?: boolean;
}

/** An identity token, and where it was found. */
export interface KeptToken {
  readonly file: string;
  readonly identityToken: string;
  /** Server address by which a credential helper keeps it; the file itself does unless given. */
  readonly helper?: { readonly name: string; readonly server: string } | undefined;
}

/** Puts another identity token in the place of one. @throws SealiftError */
export type KeepRenewed = (kept: KeptToken, identityToken: string) => Promise<void>;

/**
 * Finds credentials, reading the files when the first ones are asked for.
 * @param renew keeps the identity tokens that servers give in place of those that were found
 * @returns for `SourceOptions.credentials`; it rejects with SealiftError `invalid-argument` where a file is
 * unreadable or malformed, or a helper fails
 */
export function loadCredentials(
  settings: CredentialSettings,
  renew: KeepRenewed,
): SourceOptions['credentials'] {
  let files: Promise<AuthFile[]> | undefined;
  const found = new Map<string, Promise<Credentials | undefined>>();
  return (host, repository) => {
    const key = repository === undefined ? host : `${host}/${repository}`;
    let answer = found.get(key);
    if (!answer) {
      files ??= readFiles(settings);
      answer = files.then((all) => findCredentials(all, host, repository, settings.env, renew));
      found.set(key, answer);
    }
    return answer;
  };
}

/** Where docker keeps its configuration. */
export function dockerConfigFile({ env, homedir }: CredentialSettings): string {
  return path.join(env['DOCKER_CONFIG'] || path.join(homedir, '.docker'), 'config.json');
}

function candidates(settings: CredentialSettings): Candidate[] {
  const { authFile, env, homedir } = settings;
  if (authFile !== undefined) return [{ file: authFile, required: true }];
  const fromEnv = env['REGISTRY_AUTH_FILE'];
  if (fromEnv) return [{ file: fromEnv, required: true }];
  const runtime = env['XDG_RUNTIME_DIR'];
  const files = [
    ...(runtime ? [path.join(runtime, 'containers', 'auth.json')] : []),
    path.join(env['XDG_CONFIG_HOME'] || path.join(homedir, '.config'), 'containers', 'auth.json'),
    dockerConfigFile(settings),
  ];
  return [
    ...files.map((file) => ({ file, required: false })),
    { file: path.join(homedir, '.dockercfg'), required: false, flat: true },
  ];
}

/** The files there are, in the order they are looked at. @throws SealiftError `invalid-argument` */
export async function readFiles(settings: CredentialSettings): Promise<AuthFile[]> {
  const files: AuthFile[] = [];
  for (const { file, required, flat = false } of candidates(settings)) {
    const document = await readAuthFile(file, required);
    if (document) files.push({ file, document: flat ? { auths: document } : document, flat });
  }
  return files;
}

export function bad(file: string, what: string, cause?: unknown): SealiftError {
  return new SealiftError('invalid-argument', `credentials file cannot be used: ${what}`, {
    subject: inert(file),
    hint: 'repair it, log in anew with docker login or podman login, or name another file with --authfile',
    cause,
  });
}

export async function readAuthFile(file: string, required: boolean): Promise<JsonObject | undefined> {
  let bytes: Buffer | undefined;
  try {
    bytes = await readFileLimited(file, MAX_FILE_BYTES);
  } catch (error) {
    const code = isSealiftError(error)
      ? `larger than ${MAX_FILE_BYTES} bytes`
      : (error as NodeJS.ErrnoException).code;
    throw bad(file, inert(code ?? 'unreadable'));
  }
  if (bytes === undefined) {
    if (required) throw bad(file, 'it is not there');
    return undefined;
  }
  let value: JsonValue;
  try {
    value = parseJson(bytes, { what: file, maxBytes: MAX_FILE_BYTES, maxDepth: 16 });
  } catch (error) {
    // The reader's words may quote the file; only its code is safe.
    throw bad(
      file,
      `it is not the JSON that is wanted (${isSealiftError(error) ? error.code : 'json-invalid'})`,
    );
  }
  const document = objectOf(value);
  if (!document) throw bad(file, 'want a JSON object');
  for (const field of ['auths', 'credHelpers']) {
    if (document[field] !== undefined && document[field] !== null && !objectOf(document[field])) {
      throw bad(file, `want an object in ${field}`);
    }
  }
  return document;
}

export function objectOf(value: JsonValue | undefined): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined;
}

function textOf(value: JsonValue | undefined, file: string, field: string): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw bad(file, `want a string in ${field}`);
  return value;
}

async function findCredentials(
  files: readonly AuthFile[],
  host: string,
  repository: string | undefined,
  env: CredentialSettings['env'],
  renew: KeepRenewed,
): Promise<Credentials | undefined> {
  const keys = keysFor(host, repository);
  for (const { file, document } of files) {
    // Helpers know hosts only, so an entry for a part of one is in the file.
    const particular = lookUp(objectOf(document['auths']), keys.slice(0, -1));
    const known = particular === undefined ? undefined : readEntry(objectOf(particular), file, renew);
    if (known) return known;
    const helper = helperFor(document, file, keys);
    if (helper !== undefined) {
      const answer = await askHelper(helper, HUB_HOSTS.has(host) ? HUB_KEY : host, file, env, renew);
      if (answer) return answer;
    }
    const entry = lookUp(objectOf(document['auths']), keys);
    const answer = entry === undefined ? undefined : readEntry(objectOf(entry), file, renew);
    if (answer) return answer;
  }
  return undefined;
}

/** Keys an entry may have, the most particular first: `HOST/PATH…`, then the host. */
export function keysFor(host: string, repository: string | undefined): string[] {
  const known = HUB_HOSTS.has(host) ? HUB : host;
  const parts = repository === undefined ? [] : repository.split('/');
  const keys: string[] = [];
  for (let length = parts.length; length > 0; length -= 1)
    keys.push([known, ...parts.slice(0, length)].join('/'));
  return [...keys, known];
}

/** Keys are hosts, URLs (older docker) or host and path (containers). */
export function normaliseKey(key: string): string {
  const url = /^https?:\/\/([^/]+)/.exec(key);
  const plain = url ? (url[1] ?? '') : key.replace(/\/+$/, '');
  const [host = '', ...rest] = plain.split('/');
  return [HUB_HOSTS.has(host) ? HUB : host, ...rest].join('/');
}

export function lookUp(object: JsonObject | undefined, keys: readonly string[]): JsonValue | undefined {
  if (!object) return undefined;
  for (const wanted of keys) {
    if (object[wanted] !== undefined) return object[wanted];
    const key = Object.keys(object).find((candidate) => normaliseKey(candidate) === wanted);
    if (key !== undefined) return object[key];
  }
  return undefined;
}

export function helperFor(document: JsonObject, file: string, keys: readonly string[]): string | undefined {
  const special = lookUp(objectOf(document['credHelpers']), keys);
  const name =
    special === undefined
      ? textOf(document['credsStore'], file, 'credsStore')
      : textOf(special, file, 'credHelpers');
  if (name === '') return undefined;
  if (!HELPER_NAME.test(name)) throw bad(file, `credential helper has a bad name, got ${inert(name, 60)}`);
  return name;
}

function tokenOf(kept: KeptToken, renew: KeepRenewed): IdentityToken {
  let now = kept;
  return {
    identityToken: kept.identityToken,
    renewed: async (identityToken) => {
      const before = now;
      now = { ...now, identityToken };
      await renew(before, identityToken);
    },
  };
}

function readEntry(entry: JsonObject | undefined, file: string, renew: KeepRenewed): Credentials | undefined {
  if (!entry) throw bad(file, 'want an object for each host in auths');
  const identityToken = textOf(entry['identitytoken'], file, 'identitytoken');
  if (identityToken !== '') return tokenOf({ file, identityToken }, renew);
  const auth = textOf(entry['auth'], file, 'auth');
  const login =
    auth === ''
      ? {
          username: textOf(entry['username'], file, 'username'),
          password: textOf(entry['password'], file, 'password'),
        }
      : decodeAuth(auth, file);
  if (login.username === '' && login.password === '') return undefined;
  return login.username === TOKEN_USER ? tokenOf({ file, identityToken: login.password }, renew) : login;
}

function decodeAuth(auth: string, file: string): Login {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(auth)) throw bad(file, 'an auth field is not base64');
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 0) throw bad(file, 'an auth field is not USER:PASSWORD');
  // Docker pads with NUL bytes.
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
}

/** The `get` of the credential helper protocol; undefined where the helper has nothing for that server. */
async function askHelper(
  name: string,
  server: string,
  file: string,
  env: CredentialSettings['env'],
  renew: KeepRenewed,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  const failed = (what: string) =>
    new SealiftError('invalid-argument', `credential helper ${program} ${what}`, {
      subject: inert(file),
      hint: `try it by hand: echo ${inert(server)} | ${program} get`,
    });
  const { code, output } = await run(program, 'get', server, env, failed);
  if (code !== 0) {
    // The protocol has no other way to say so than this text, on standard output.
    if (/credentials not found/i.test(output)) return undefined;
    throw failed(`ended with ${code ?? 'a signal'}`);
  }
  let answer: JsonObject | undefined;
  try {
    answer = objectOf(
      parseJson(Buffer.from(output), { what: program, maxBytes: MAX_HELPER_OUTPUT, maxDepth: 4 }),
    );
  } catch {
    throw failed('did not answer with JSON');
  }
  const username = answer?.['Username'];
  const secret = answer?.['Secret'];
  if (typeof username !== 'string' || typeof secret !== 'string')
    throw failed('answered without Username and Secret');
  if (username !== TOKEN_USER) return { username, password: secret };
  return tokenOf({ file, identityToken: secret, helper: { name, server } }, renew);
}

/**
 * The `store` and `erase` of the credential helper protocol.
 * @param input goes to the helper's standard input, which nobody else can read
 * @throws SealiftError `invalid-argument`
 */
export async function tellHelper(
  name: string,
  action: 'store' | 'erase',
  input: string,
  file: string,
  env: CredentialSettings['env'],
): Promise<void> {
  const program = `docker-credential-${name}`;
  const failed = (what: string) =>
    new SealiftError('invalid-argument', `credential helper ${program} ${what}`, {
      subject: inert(file),
      hint: `the file names this helper; try it by hand: ${program} list`,
    });
  const { code, output } = await run(program, action, input, env, failed);
  if (code === 0 || (action === 'erase' && /credentials not found/i.test(output))) return;
  throw failed(`ended with ${code ?? 'a signal'} at ${action}`);
}

function run(
  program: string,
  action: 'get' | 'store' | 'erase',
  input: string,
  env: CredentialSettings['env'],
  failed: (what: string) => SealiftError,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [action], {
      env: { ...env },
      stdio: ['pipe', 'pipe', 'ignore'],
      shell: false,
      timeout: HELPER_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const chunks: Buffer[] = [];
    let length = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= MAX_HELPER_OUTPUT) {
        chunks.push(chunk);
        return;
      }
      child.kill('SIGKILL');
      reject(failed(`wrote more than ${MAX_HELPER_OUTPUT} bytes`));
    });
    // A helper that ends without reading is judged by its answer.
    child.stdin.on('error', () => {});
    child.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        failed(
          error.code === 'ENOENT' ? 'is not on the PATH' : `cannot be started (${error.code ?? 'unknown'})`,
        ),
      );
    });
    child.once('close', (code) => resolve({ code, output: Buffer.concat(chunks).toString('utf8') }));
    child.stdin.end(`${input}\n`);
  });
}
