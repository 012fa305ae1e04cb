/**
 * Policies: containers-policy.json(5) and what sealift adds to it (docs/policy.md), read strictly. What this file
 * does not know it refuses; a requirement that was misread could let something in.
 */
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { type JsonObject, type JsonValue, parseJson } from '../../json/strict.ts';
import type { Limits } from '../../limits.ts';
import { isDigest } from '../../oci/digest.ts';
import { isTag, parseReference, type Reference } from '../../oci/reference.ts';
import { findPositions, type Positions } from './positions.ts';

/** Keys as a policy names them: files, or the base64 of one. */
export type KeySource =
  | { readonly kind: 'paths'; readonly paths: readonly string[] }
  | { readonly kind: 'data'; readonly data: readonly string[] };

/** Which names in a signature are accepted for an image. */
export type SignedIdentity =
  | { readonly type: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { readonly type: 'exactReference'; readonly reference: Reference; readonly text: string }
  | { readonly type: 'exactRepository'; readonly reference: Reference; readonly text: string }
  | { readonly type: 'remapIdentity'; readonly prefix: string; readonly signedPrefix: string };

/** Types of which this sealift knows the grammar and has no verifier: each refuses by its name. */
export const UNJUDGED_TYPES = [
  'sigstoreSigned',
  'signedBaseLayer',
  'notation',
  'contentTrust',
  'attestation',
  'provenance',
  'certifiedBy',
  'maxAge',
] as const;
export type UnjudgedType = (typeof UNJUDGED_TYPES)[number];

export type Requirement = {
  /** In the file, from 1. */
  readonly line: number;
} & (
  | { readonly type: 'insecureAcceptAnything' | 'reject' }
  | {
      readonly type: 'signedBy';
      readonly keyType: string;
      readonly keys: KeySource;
      readonly identity: SignedIdentity;
      /** `log`: what expired since the carrier found it good is accepted, and told. */
      readonly expiry: 'enforce' | 'log';
    }
  | { readonly type: UnjudgedType; readonly value: JsonObject }
);

export interface Policy {
  /** Path of the file, or what else names it. */
  readonly file: string;
  readonly default: readonly Requirement[];
  /** By transport, then by scope. */
  readonly transports: ReadonlyMap<string, ReadonlyMap<string, readonly Requirement[]>>;
}

export const MAX_POLICY_BYTES = 16 * 1024 * 1024;

const KEY_TYPES = ['GPGKeys', 'signedByGPGKeys', 'X509Certificates', 'signedByX509CAs'];
/** Transports whose scopes are absolute paths (containers-policy.json(5)). */
const PATH_TRANSPORTS = ['dir', 'oci', 'oci-archive', 'docker-archive', 'sif'];
type Path = readonly (string | number)[];

/**
 * Reads a policy.
 * @param file names it in errors
 * @throws SealiftError `policy-invalid`, with the line
 */
export function parsePolicy(bytes: Uint8Array, file: string, limits: Limits): Policy {
  const text = new TextDecoder().decode(bytes.subarray(0, MAX_POLICY_BYTES));
  const positions = findPositions(text);
  let value: JsonValue;
  try {
    value = parseJson(bytes, { what: file, maxBytes: MAX_POLICY_BYTES, maxDepth: limits.jsonDepth });
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    const line = error.code === 'json-duplicate-key' ? positions.duplicate : positions.fault;
    throw new SealiftError('policy-invalid', `${line ? `line ${line}: ` : ''}${error.message}`, {
      subject: inert(file),
      cause: error,
    });
  }
  return new PolicyReader(file, positions).policy(value);
}

class PolicyReader {
  readonly #file: string;
  readonly #positions: Positions;

  constructor(file: string, positions: Positions) {
    this.#file = file;
    this.#positions = positions;
  }

  policy(value: JsonValue): Policy {
    const root = this.#object(value, [], ['default', 'transports']);
    if (root['default'] === undefined)
      throw this.#wrong([], 'there is no "default"', 'one, for what no scope names');
    const transports = new Map<string, ReadonlyMap<string, readonly Requirement[]>>();
    if (root['transports'] !== undefined) {
      const all = this.#object(root['transports'], ['transports']);
      for (const [transport, scopes] of Object.entries(all)) {
        const path = ['transports', transport];
        const found = new Map<string, readonly Requirement[]>();
        for (const [scope, requirements] of Object.entries(this.#object(scopes, path))) {
          this.#checkScope(transport, scope, [...path, scope]);
          found.set(scope, this.#requirements(requirements, [...path, scope]));
        }
        transports.set(transport, found);
      }
    }
    return { file: this.#file, default: this.#requirements(root['default'], ['default']), transports };
  }

  #checkScope(transport: string, scope: string, path: Path): void {
    if (scope === '' || !PATH_TRANSPORTS.includes(transport)) return;
    const clean = scope.startsWith('/') && !/\/\/|\/$|\/\.\.?(?:\/|$)/.test(scope);
    if (!clean) throw this.#wrong(path, `scope "${inert(scope, 120)}"`, 'a clean absolute path');
  }

  #requirements(value: JsonValue | undefined, path: Path): readonly Requirement[] {
    if (!Array.isArray(value)) throw this.#wrong(path, describe(value), 'a list of requirements');
    if (value.length === 0)
      throw this.#wrong(path, 'an empty list of requirements', 'at least one; {"type":"reject"} refuses all');
    return value.map((item: JsonValue, index) => this.requirement(item, [...path, index]));
  }

  requirement(value: JsonValue, path: Path): Requirement {
    const object = this.#object(value, path);
    const line = this.#positions.lineOf(path);
    const type = this.#string(object, 'type', path);
    switch (type) {
      case 'insecureAcceptAnything':
      case 'reject':
        this.#only(object, ['type'], path);
        return { type, line };
      case 'signedBy':
        return { line, ...this.#signedBy(object, path) };
      case 'sigstoreSigned':
        this.#sigstoreSigned(object, path);
        return { type, value: object, line };
      default: {
        const grammar = GRAMMARS.get(type);
        if (!grammar)
          throw this.#wrong(
            [...path, 'type'],
            `requirement type "${inert(type, 80)}"`,
            'a type sealift knows',
          );
        this.#grammar(object, grammar, path);
        return { type: type as UnjudgedType, value: object, line };
      }
    }
  }

  #signedBy(object: JsonObject, path: Path) {
    this.#only(
      object,
      ['type', 'keyType', 'keyPath', 'keyPaths', 'keyData', 'signedIdentity', 'expiry'],
      path,
    );
    const keyType = this.#string(object, 'keyType', path);
    if (!KEY_TYPES.includes(keyType))
      throw this.#wrong([...path, 'keyType'], `"${inert(keyType, 80)}"`, KEY_TYPES.join(', '));
    return {
      type: 'signedBy' as const,
      keyType,
      keys: this.#keys(object, path),
      identity: this.#identity(object, path),
      expiry: this.#expiry(object, path),
    };
  }

  #expiry(object: JsonObject, path: Path): 'enforce' | 'log' {
    if (object['expiry'] === undefined) return 'enforce';
    const expiry = this.#string(object, 'expiry', path);
    if (expiry === 'enforce' || expiry === 'log') return expiry;
    throw this.#wrong([...path, 'expiry'], `"${inert(expiry, 80)}"`, 'enforce or log');
  }

  /** Exactly one of keyPath, keyPaths and keyData; none of them empty. */
  #keys(object: JsonObject, path: Path): KeySource {
    this.#oneOf(object, ['keyPath', 'keyPaths', 'keyData'], path);
    if (object['keyPath'] !== undefined)
      return { kind: 'paths', paths: [this.#string(object, 'keyPath', path)] };
    if (object['keyPaths'] !== undefined)
      return { kind: 'paths', paths: this.#strings(object, 'keyPaths', path) };
    return { kind: 'data', data: [this.#base64(object, 'keyData', path)] };
  }

  #identity(object: JsonObject, path: Path, field = 'signedIdentity'): SignedIdentity {
    const at = [...path, field];
    if (object[field] === undefined) return { type: 'matchRepoDigestOrExact' };
    const identity = this.#object(object[field], at);
    const type = this.#string(identity, 'type', at);
    switch (type) {
      case 'matchExact':
      case 'matchRepoDigestOrExact':
      case 'matchRepository':
        this.#only(identity, ['type'], at);
        return { type };
      case 'exactReference': {
        this.#only(identity, ['type', 'dockerReference'], at);
        const text = this.#string(identity, 'dockerReference', at);
        const reference = this.#reference(text, [...at, 'dockerReference']);
        if (isNameOnly(text))
          throw this.#wrong(
            [...at, 'dockerReference'],
            `"${inert(text, 160)}"`,
            'a reference with a tag or digest',
          );
        return { type, reference, text };
      }
      case 'exactRepository': {
        this.#only(identity, ['type', 'dockerRepository'], at);
        const text = this.#string(identity, 'dockerRepository', at);
        return { type, reference: this.#reference(text, [...at, 'dockerRepository']), text };
      }
      case 'remapIdentity':
        this.#only(identity, ['type', 'prefix', 'signedPrefix'], at);
        return {
          type,
          prefix: this.#prefix(identity, 'prefix', at),
          signedPrefix: this.#prefix(identity, 'signedPrefix', at),
        };
      default:
        throw this.#wrong(
          [...at, 'type'],
          `"${inert(type, 80)}"`,
          'a signedIdentity type of containers-policy.json(5)',
        );
    }
  }

  #reference(text: string, path: Path): Reference {
    try {
      return parseReference(text);
    } catch (error) {
      throw this.#wrong(
        path,
        isSealiftError(error) ? error.message : `"${inert(text, 160)}"`,
        'an image reference',
      );
    }
  }

  #prefix(object: JsonObject, field: string, path: Path): string {
    const text = this.#string(object, field, path);
    const domain =
      /^(?:[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*(?:\.[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/;
    const component = /^[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*$/;
    const [first = '', ...rest] = text.split('/');
    const good =
      text.length <= 255 &&
      (domain.test(first) || component.test(first)) &&
      rest.every((part) => component.test(part));
    if (!good)
      throw this.#wrong([...path, field], `"${inert(text, 160)}"`, 'a host, a namespace or a repository');
    return text;
  }

  #sigstoreSigned(object: JsonObject, path: Path): void {
    const roots = ['keyPath', 'keyPaths', 'keyData', 'keyDatas', 'fulcio', 'pki'];
    const rekor = ['rekorPublicKeyPath', 'rekorPublicKeyPaths', 'rekorPublicKeyData', 'rekorPublicKeyDatas'];
    this.#only(object, ['type', 'signedIdentity', ...roots, ...rekor], path);
    this.#oneOf(object, roots, path);
    for (const field of ['keyPath', 'rekorPublicKeyPath']) this.#optional(object, field, path, 'string');
    for (const field of ['keyPaths', 'rekorPublicKeyPaths']) this.#optional(object, field, path, 'strings');
    for (const field of ['keyData', 'rekorPublicKeyData']) this.#optional(object, field, path, 'base64');
    for (const field of ['keyDatas', 'rekorPublicKeyDatas']) this.#optional(object, field, path, 'base64s');
    const logs = rekor.filter((field) => object[field] !== undefined);
    if (logs.length > 1) throw this.#wrong([...path, logs[1] ?? ''], logs.join(' and '), 'one of them');
    if (object['fulcio'] !== undefined) {
      const at = [...path, 'fulcio'];
      const fulcio = this.#object(object['fulcio'], at, ['caPath', 'caData', 'oidcIssuer', 'subjectEmail']);
      this.#oneOf(fulcio, ['caPath', 'caData'], at);
      this.#optional(fulcio, 'caPath', at, 'string');
      this.#optional(fulcio, 'caData', at, 'base64');
      this.#string(fulcio, 'oidcIssuer', at);
      this.#string(fulcio, 'subjectEmail', at);
      if (logs.length === 0)
        throw this.#wrong(path, 'fulcio without a key of Rekor', 'one: it proves the time');
    }
    if (object['pki'] !== undefined) {
      const at = [...path, 'pki'];
      const fields = ['caRootsPath', 'caRootsData', 'caIntermediatesPath', 'caIntermediatesData'];
      const pki = this.#object(object['pki'], at, [...fields, 'subjectEmail', 'subjectHostname']);
      this.#oneOf(pki, ['caRootsPath', 'caRootsData'], at);
      for (const field of Object.keys(pki))
        this.#optional(pki, field, at, field.endsWith('Data') ? 'base64' : 'string');
      if (pki['caIntermediatesPath'] !== undefined && pki['caIntermediatesData'] !== undefined)
        throw this.#wrong([...at, 'caIntermediatesData'], 'both forms of caIntermediates', 'one of them');
      if (pki['subjectEmail'] === undefined && pki['subjectHostname'] === undefined)
        throw this.#wrong(at, 'no subject', 'subjectEmail or subjectHostname');
      if (logs.length > 0) throw this.#wrong([...path, logs[0] ?? ''], 'a key of Rekor with pki', 'none');
    }
    this.#identity(object, path);
  }

  #grammar(object: JsonObject, grammar: Grammar, path: Path): void {
    this.#only(object, ['type', ...Object.keys(grammar.fields), ...(grammar.oneOf ?? [])], path);
    for (const [field, kind] of Object.entries(grammar.fields)) {
      if (object[field] === undefined && !kind.endsWith('?'))
        throw this.#wrong(path, `no "${field}"`, `one in a requirement of type ${String(object['type'])}`);
      this.#optional(object, field, path, kind.replace('?', '') as Kind);
    }
    if (grammar.oneOf) {
      this.#oneOf(object, grammar.oneOf, path);
      for (const field of grammar.oneOf) {
        this.#optional(
          object,
          field,
          path,
          field.endsWith('s') ? 'strings' : field.endsWith('Data') ? 'base64' : 'string',
        );
      }
    }
  }

  /** A field that may be absent; where it is there it has this form. */
  #optional(object: JsonObject, field: string, path: Path, kind: Kind): void {
    const value = object[field];
    if (value === undefined) return;
    const at = [...path, field];
    switch (kind) {
      case 'string':
        this.#string(object, field, path);
        return;
      case 'strings':
        this.#strings(object, field, path);
        return;
      case 'base64':
        this.#base64(object, field, path);
        return;
      case 'base64s':
        for (const [index, text] of this.#strings(object, field, path).entries())
          if (!isBase64(text)) throw this.#wrong([...at, index], 'text that is not base64', 'base64');
        return;
      case 'digests':
        for (const [index, text] of this.#strings(object, field, path).entries())
          if (!isDigest(text)) throw this.#wrong([...at, index], `"${inert(text, 80)}"`, 'a digest');
        return;
      case 'boolean':
        if (typeof value !== 'boolean') throw this.#wrong(at, describe(value), 'true or false');
        return;
      case 'count':
        if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1)
          throw this.#wrong(at, describe(value), 'an integer of at least 1');
        return;
      case 'expiry':
        if (value !== 'enforce' && value !== 'log')
          throw this.#wrong(at, describe(value), '"enforce" or "log"');
        return;
      case 'level':
        if (value !== 'strict' && value !== 'permissive' && value !== 'audit')
          throw this.#wrong(at, describe(value), '"strict", "permissive" or "audit"');
        return;
      case 'age':
        if (value !== 'image' && value !== 'signature')
          throw this.#wrong(at, describe(value), '"image" or "signature"');
        return;
      case 'signer': {
        const { type } = this.requirement(value, at);
        if (type !== 'signedBy' && type !== 'sigstoreSigned' && type !== 'notation')
          throw this.#wrong([...at, 'type'], `"${type}"`, 'signedBy, sigstoreSigned or notation');
        return;
      }
      case 'identity':
        this.#identity(object, path, field);
        return;
      case 'conditions':
        this.#conditions(value, at);
        return;
    }
  }

  #conditions(value: JsonValue, path: Path): void {
    if (!Array.isArray(value) || value.length === 0)
      throw this.#wrong(path, describe(value), 'a list of conditions');
    for (const [index, item] of value.entries()) {
      const at = [...path, index];
      const condition = this.#object(item as JsonValue, at, ['pointer', 'equals', 'in', 'matches']);
      const pointer = this.#string(condition, 'pointer', at, true);
      if (!/^(?:\/(?:[^~/]|~[01])*)*$/.test(pointer))
        throw this.#wrong([...at, 'pointer'], `"${inert(pointer, 80)}"`, 'a JSON pointer (RFC 6901)');
      this.#oneOf(condition, ['equals', 'in', 'matches'], at);
      const { in: choices, matches } = condition;
      if (choices !== undefined && (!Array.isArray(choices) || choices.length === 0))
        throw this.#wrong([...at, 'in'], describe(choices), 'a list that is not empty');
      if (matches !== undefined) {
        try {
          new RegExp(this.#string(condition, 'matches', at), 'u');
        } catch (error) {
          if (isSealiftError(error)) throw error;
          throw this.#wrong([...at, 'matches'], describe(matches), 'a regular expression');
        }
      }
    }
  }

  // ---------------------------------------------------------------- fields

  #object(value: JsonValue | undefined, path: Path, keys?: readonly string[]): JsonObject {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.#wrong(path, describe(value), 'an object');
    if (keys) this.#only(value as JsonObject, keys, path);
    return value as JsonObject;
  }

  #only(object: JsonObject, keys: readonly string[], path: Path): void {
    for (const name of Object.keys(object)) {
      if (!keys.includes(name))
        throw this.#wrong(
          [...path, name],
          `the unknown field "${inert(name, 80)}"`,
          `none but ${keys.join(', ')}`,
        );
    }
  }

  #oneOf(object: JsonObject, fields: readonly string[], path: Path): void {
    const found = fields.filter((field) => object[field] !== undefined);
    if (found.length !== 1)
      throw this.#wrong(
        found[1] === undefined ? path : [...path, found[1]],
        found.length === 0 ? 'none' : found.join(' and '),
        `exactly one of ${fields.join(', ')}`,
      );
  }

  #string(object: JsonObject, field: string, path: Path, empty = false): string {
    const value = object[field];
    if (value === undefined) throw this.#wrong(path, `no "${field}"`, 'one');
    if (typeof value !== 'string' || (value === '' && !empty))
      throw this.#wrong([...path, field], describe(value), 'text that is not empty');
    return value;
  }

  #strings(object: JsonObject, field: string, path: Path): readonly string[] {
    const value = object[field];
    const at = [...path, field];
    if (!Array.isArray(value)) throw this.#wrong(at, describe(value), 'a list');
    if (value.length === 0) throw this.#wrong(at, 'an empty list', 'at least one entry');
    return value.map((item: JsonValue, index) => {
      if (typeof item !== 'string' || item === '')
        throw this.#wrong([...at, index], describe(item), 'text that is not empty');
      return item;
    });
  }

  #base64(object: JsonObject, field: string, path: Path): string {
    const text = this.#string(object, field, path);
    if (!isBase64(text)) throw this.#wrong([...path, field], 'text that is not base64', 'base64');
    return text;
  }

  #wrong(path: Path, got: string, want: string): SealiftError {
    const where = path
      .map((part) =>
        typeof part === 'number' ? `[${part}]` : /^[\w-]+$/.test(part) ? `.${part}` : `."${part}"`,
      )
      .join('')
      .replace(/^\./, '');
    const line = this.#positions.lineOf(path);
    return new SealiftError(
      'policy-invalid',
      `line ${line}: ${where === '' ? '' : `${inert(where, 200)}: `}got ${got}, want ${want}`,
      { subject: inert(this.#file), got, want },
    );
  }
}

type Kind =
  | 'string'
  | 'strings'
  | 'base64'
  | 'base64s'
  | 'digests'
  | 'boolean'
  | 'count'
  | 'expiry'
  | 'level'
  | 'age'
  | 'signer'
  | 'identity'
  | 'conditions';

interface Grammar {
  /** With `?` where the field may be absent. */
  readonly fields: Readonly<Record<string, Kind | `${Kind}?`>>;
  /** Fields of which exactly one is there: texts, lists or base64, by how the name ends. */
  readonly oneOf?: readonly string[];
}

const GRAMMARS: ReadonlyMap<string, Grammar> = new Map<string, Grammar>([
  ['signedBaseLayer', { fields: { baseLayerIdentity: 'identity' } }],
  [
    'notation',
    {
      fields: { trustedIdentities: 'strings', level: 'level?', expiry: 'expiry?' },
      oneOf: ['caPath', 'caPaths', 'caData'],
    },
  ],
  [
    'contentTrust',
    { fields: { gun: 'string?', expiry: 'expiry?' }, oneOf: ['rootPath', 'rootData', 'rootKeyIds'] },
  ],
  [
    'attestation',
    { fields: { predicateType: 'string', signer: 'signer', conditions: 'conditions?', expiry: 'expiry?' } },
  ],
  [
    'provenance',
    {
      fields: {
        builders: 'strings',
        signer: 'signer',
        sources: 'strings?',
        anchors: 'digests?',
        expiry: 'expiry?',
      },
    },
  ],
  ['certifiedBy', { fields: { threshold: 'count?' }, oneOf: ['keyPath', 'keyPaths', 'keyData'] }],
  ['maxAge', { fields: { days: 'count', of: 'age?' } }],
]);

function isBase64(text: string): boolean {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(text);
}

/** Whether a reference as written has neither tag nor digest. */
export function isNameOnly(text: string): boolean {
  if (text.includes('@')) return false;
  const last = text.slice(text.lastIndexOf('/') + 1);
  const colon = last.indexOf(':');
  return colon < 0 || !isTag(last.slice(colon + 1));
}

function describe(value: JsonValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (typeof value === 'string') return `"${inert(value, 80)}"`;
  if (typeof value === 'object')
    return Array.isArray(value) ? (value.length === 0 ? 'an empty list' : 'a list') : 'an object';
  return String(value);
}

/** One line that names a requirement: its type and what it is about. */
export function requirementText(requirement: Requirement): string {
  if (requirement.type !== 'signedBy') return requirement.type;
  const { identity, keys } = requirement;
  const by = keys.kind === 'paths' ? keys.paths.join(', ') : 'keys in the policy';
  const whom =
    identity.type === 'exactReference' || identity.type === 'exactRepository'
      ? `${identity.type} ${identity.text}`
      : identity.type === 'remapIdentity'
        ? `remapIdentity ${identity.prefix} to ${identity.signedPrefix}`
        : identity.type;
  const expiry = requirement.expiry === 'log' ? ', expiry log' : '';
  return `signedBy ${inert(by)}, ${inert(whom)}${expiry}`;
}
