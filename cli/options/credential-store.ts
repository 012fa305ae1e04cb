/** Writing credentials where docker, podman, skopeo and sealift read them. */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import { makeDirectory, writeFileDurably } from '../../core/fs/durable.ts';
import type { JsonObject, JsonValue } from '../../core/json/strict.ts';
import type { Login } from '../../core/transport/source.ts';
import {
  type AuthFile,
  bad,
  type CredentialSettings,
  dockerConfigFile,
  HUB_HOSTS,
  HUB_KEY,
  helperFor,
  type KeptToken,
  keysFor,
  lookUp,
  normaliseKey,
  objectOf,
  readAuthFile,
  readFiles,
  TOKEN_USER,
  tellHelper,
} from './credentials.ts';

/** A registry, or a part of one, that one login is for. */
export interface LoginScope {
  /** `HOST[:PORT]`; `docker.io` for Docker Hub. */
  readonly host: string;
  /** Path within the registry; undefined for all of it. */
  readonly path: string | undefined;
}

const HOST = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?$/;
const PATH = /^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/;

/** `HOST[:PORT][/PATH]`. @throws SealiftError `invalid-argument` */
export function parseLoginScope(text: string): LoginScope {
  const plain = text.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '');
  const slash = plain.indexOf('/');
  const host = slash < 0 ? plain : plain.slice(0, slash);
  const rest = slash < 0 ? undefined : plain.slice(slash + 1);
  if (!HOST.test(host) || (rest !== undefined && (!PATH.test(rest) || rest.length > 255))) {
    throw new SealiftError(
      'invalid-argument',
      `got ${inert(text)}, want a registry such as quay.io or registry.example:5000`,
      { subject: 'REGISTRY', hint: 'docker.io is Docker Hub; a path behind the host is for that part alone' },
    );
  }
  return { host: HUB_HOSTS.has(host) ? 'docker.io' : host, path: rest };
}

/** For people. */
export function showScope({ host, path: rest }: LoginScope): string {
  return rest === undefined ? host : `${host}/${rest}`;
}

/** The key of an entry. Docker Hub's is the old address, which docker, podman and skopeo all find. */
function keyOf(scope: LoginScope): string {
  return scope.host === 'docker.io' && scope.path === undefined ? HUB_KEY : showScope(scope);
}

export interface Kept {
  readonly file: string;
  /** The program that keeps the secret, where the file names one. */
  readonly helper: string | undefined;
}

/**
 * Keeps a login in the file that will be asked first for it, by way of the credential helper that file names; where there
 * is an identity token that one, as docker does, and not the password.
 * @throws SealiftError `invalid-argument`, `destination-failed`
 */
export async function saveLogin(
  scope: LoginScope,
  login: Login & { readonly identityToken?: string | undefined },
  settings: CredentialSettings,
): Promise<Kept> {
  const { file, document } = await chooseFile(scope, settings);
  const key = keyOf(scope);
  // Helpers know hosts only.
  const helper =
    scope.path === undefined ? helperFor(document, file, keysFor(scope.host, undefined)) : undefined;
  const { username, identityToken } = login;
  let entry: JsonObject;
  if (helper === undefined) {
    const password = identityToken === undefined ? login.password : '';
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    entry = identityToken === undefined ? { auth } : { auth, identitytoken: identityToken };
  } else {
    const kept = identityToken === undefined ? login : { username: TOKEN_USER, password: identityToken };
    await giveToHelper(helper, key, kept, file, settings.env);
    // Docker keeps an empty entry, by which it knows where somebody is logged in.
    entry = {};
  }
  const auths = { ...withoutKey(objectOf(document['auths']), scope), [key]: entry };
  await write(file, { ...document, auths });
  return { file, helper };
}

function giveToHelper(
  helper: string,
  server: string,
  { username, password }: Login,
  file: string,
  env: CredentialSettings['env'],
): Promise<void> {
  const secret = JSON.stringify({ ServerURL: server, Username: username, Secret: password });
  return tellHelper(helper, 'store', secret, file, env);
}

/**
 * Puts the identity token a server gave in the place of the one it was asked with. Where that one is no longer there,
 * somebody else has logged in since, and everything is left as it is.
 * @throws SealiftError `invalid-argument`
 */
export async function keepRenewed(
  { file, identityToken: old, helper }: KeptToken,
  identityToken: string,
  env: CredentialSettings['env'],
): Promise<void> {
  if (helper !== undefined) {
    const login = { username: TOKEN_USER, password: identityToken };
    return giveToHelper(helper.name, helper.server, login, file, env);
  }
  const document = (await readAuthFile(file, true)) ?? {};
  const inside = objectOf(document['auths']);
  const pair = (token: string) => Buffer.from(`${TOKEN_USER}:${token}`).toString('base64');
  let found = false;
  const entries = Object.entries(inside ?? document).map(([key, value]) => {
    const entry = objectOf(value);
    if (entry?.['identitytoken'] === old) {
      found = true;
      return [key, { ...entry, identitytoken: identityToken }];
    }
    if (entry?.['auth'] === pair(old)) {
      found = true;
      return [key, { ...entry, auth: pair(identityToken) }];
    }
    return [key, value];
  });
  if (!found) return;
  const auths = Object.fromEntries(entries) as JsonObject;
  await write(file, inside === undefined ? auths : { ...document, auths });
}

/**
 * Forgets a login in every file that is read.
 * @returns where it was
 * @throws SealiftError `invalid-argument`, `destination-failed`
 */
export async function removeLogin(scope: LoginScope, settings: CredentialSettings): Promise<readonly Kept[]> {
  const removed: Kept[] = [];
  for (const { file, document, flat } of await readFiles(settings)) {
    const auths = objectOf(document['auths']);
    const left = withoutKey(auths, scope);
    const had = Object.keys(left).length < Object.keys(auths ?? {}).length;
    const keys = keysFor(scope.host, undefined);
    const own = lookUp(objectOf(document['credHelpers']), keys) !== undefined;
    const helper = scope.path === undefined && (had || own) ? helperFor(document, file, keys) : undefined;
    if (helper !== undefined) await tellHelper(helper, 'erase', keyOf(scope), file, settings.env);
    if (had) await write(file, flat ? left : { ...document, auths: left });
    if (had || helper !== undefined) removed.push({ file, helper });
  }
  return removed;
}

async function chooseFile(scope: LoginScope, settings: CredentialSettings): Promise<AuthFile> {
  const named = settings.authFile ?? (settings.env['REGISTRY_AUTH_FILE'] || undefined);
  if (named !== undefined) {
    return { file: named, document: (await readAuthFile(named, false)) ?? {}, flat: false };
  }
  const keys = keysFor(scope.host, scope.path);
  const files = (await readFiles(settings)).filter(({ flat }) => !flat);
  const speaksOfIt = ({ document }: AuthFile) =>
    lookUp(objectOf(document['auths']), keys) !== undefined ||
    lookUp(objectOf(document['credHelpers']), keys) !== undefined;
  const usual = dockerConfigFile(settings);
  return (
    files.find(speaksOfIt) ??
    files.find(({ file }) => file === usual) ?? { file: usual, document: {}, flat: false }
  );
}

function withoutKey(auths: JsonObject | undefined, scope: LoginScope): Record<string, JsonValue> {
  const key = normaliseKey(keyOf(scope));
  return Object.fromEntries(Object.entries(auths ?? {}).filter(([name]) => normaliseKey(name) !== key));
}

async function write(file: string, document: JsonObject): Promise<void> {
  try {
    await makeDirectory(path.dirname(file), 'secret');
    // Where the file is a link, what it leads to is replaced, and the link stays.
    const target = await realpath(file).catch(() => file);
    await writeFileDurably(target, `${JSON.stringify(document, undefined, '\t')}\n`, 'secret');
  } catch (error) {
    throw bad(file, `it cannot be written (${inert((error as NodeJS.ErrnoException).code ?? 'unknown')})`);
  }
}
