/**
 * The client workflow of TUF (specification section 5) as an ordered state machine over bytes that were read
 * already. It opens nothing and reads no clock: one reading of it is handed in and holds for all steps.
 */
import { inert, SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { KeySummary, RoleSummary } from '../results.ts';
import { CertificateStore } from './certificates.ts';
import { checkClock, checkEntry, checkExpiry, checkVersion, compareVersions, rollback } from './checks.ts';
import type { TufKey } from './keys.ts';
import {
  type Delegations,
  formatDate,
  type Metadata,
  type ParseOptions,
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
  type RoleKeys,
  type RootMetadata,
  rootFingerprint,
  type SnapshotMetadata,
  type SuccinctRoles,
  type TargetsMetadata,
  type TimestampMetadata,
} from './metadata.ts';
import type { SearchView } from './search.ts';
import { type SignatureRules, verifySignature, verifyThreshold } from './threshold.ts';

/** What the gate stores: raw files, exactly as they were verified. */
export interface KeptMetadata {
  readonly root: Uint8Array;
  readonly timestamp?: Uint8Array | undefined;
  readonly snapshot?: Uint8Array | undefined;
  readonly targets?: Uint8Array | undefined;
  /** Delegated roles by name. */
  readonly delegated: ReadonlyMap<string, Uint8Array>;
  /** Certificates by fingerprint, merged over all that was ever seen: a revocation stays. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** The clock floor; undefined where there is none (yet, or any more). */
  readonly floor?: Date | undefined;
}

export interface TrustedSetOptions {
  /** The one reading of the host's clock. */
  readonly now: Date;
  readonly limits: Limits;
  /** The profile of collections; false reads any TUF repository. Default true. */
  readonly strictProfile?: boolean | undefined;
  /** Takes metadata from more than 48 h ahead of the host's clock, and lifetimes over 400 days. */
  readonly allowClockJump?: boolean | undefined;
  /** Certificates of the bundle, binary. */
  readonly certificates?: readonly Uint8Array[] | undefined;
}

const PIN = /^[0-9a-f]{64}$/;
const BUNDLE_PATH = /^_bundle\/([0-9a-f]{64})\/\*\.json$/;

type Phase = 'roots' | 'timestamp' | 'snapshot' | 'targets' | 'done';

export class TrustedSet {
  readonly #options: TrustedSetOptions;
  readonly #strict: boolean;
  readonly #certificates: CertificateStore;
  /** Certificates that were kept already; others are only kept once a trusted role names them. */
  readonly #keptCertificates: ReadonlyMap<string, Uint8Array>;
  #phase: Phase = 'roots';
  #root: RootMetadata;
  #timestamp: TimestampMetadata | undefined;
  #snapshot: SnapshotMetadata | undefined;
  #targets: TargetsMetadata | undefined;
  readonly #delegated = new Map<string, TargetsMetadata>();
  /** What was kept from the last run: only ever compared with. */
  #previousTimestamp: TimestampMetadata | undefined;
  #previousSnapshot: SnapshotMetadata | undefined;
  #previousTargets: TargetsMetadata | undefined;
  #previousDelegated = new Map<string, TargetsMetadata>();
  #floor: Date | undefined;
  #newFloor: Date | undefined;
  /** Pairs of delegator and role whose signatures have been verified. */
  readonly #edges = new Set<string>();
  /** Role → earliest of its expiry and that of the certificates its thresholds rest on. */
  readonly #until = new Map<string, number>();

  private constructor(
    options: TrustedSetOptions,
    certificates: CertificateStore,
    keptCertificates: ReadonlyMap<string, Uint8Array>,
    root: RootMetadata,
  ) {
    this.#options = options;
    this.#strict = options.strictProfile ?? true;
    this.#certificates = certificates;
    this.#keptCertificates = keptCertificates;
    this.#root = root;
  }

  /**
   * Starts from a pin: the candidate whose fingerprint equals it, which must carry its own threshold. The
   * pin is the hash of a root, never of a key: a forged root can list the genuine key.
   * @throws SealiftError `invalid-argument`, `pin-mismatch`, and what the root's own signatures give
   */
  static async fromPin(
    pin: string,
    roots: readonly Uint8Array[],
    options: TrustedSetOptions,
  ): Promise<TrustedSet> {
    if (!PIN.test(pin)) {
      throw new SealiftError(
        'invalid-argument',
        `pin is not a fingerprint: got ${inert(pin)}, want 64 lower-case hex digits`,
      );
    }
    const parse = parseOptions('root', options);
    let pinned: RootMetadata | undefined;
    for (const bytes of roots.slice(0, options.limits.roots)) {
      let candidate: RootMetadata;
      try {
        candidate = parseRoot(bytes, parse);
      } catch {
        continue; // what cannot be read is not what was pinned
      }
      if (rootFingerprint(candidate) === pin) {
        pinned = candidate;
        break;
      }
    }
    if (!pinned) {
      throw new SealiftError(
        'pin-mismatch',
        `none of ${roots.length} roots has the pinned fingerprint, want ${pin}`,
        {
          want: pin,
          hint: 'compare the fingerprint with the one the collection prints (sealift inspect), over another channel',
          check: 'root-chain',
        },
      );
    }
    const store = new CertificateStore(options.limits);
    for (const bytes of options.certificates ?? []) await store.add(bytes);
    const set = new TrustedSet(options, store, new Map(), pinned);
    await set.#verify(pinned, pinned.roles.root, pinned.keys, 'link', 'root');
    return set;
  }

  /**
   * Starts from what was kept. Kept files are compared with, never believed anew: the last root is verified
   * again by {@link finishRoots}.
   * @throws SealiftError `state-damaged` where a kept file cannot be read
   */
  static async fromKept(kept: KeptMetadata, options: TrustedSetOptions): Promise<TrustedSet> {
    const store = new CertificateStore(options.limits);
    const read = async <T>(what: string, action: () => T | Promise<T>): Promise<T> => {
      try {
        return await action();
      } catch (cause) {
        throw new SealiftError('state-damaged', `kept trust metadata cannot be read: ${inert(what)}`, {
          subject: inert(what),
          cause,
          hint: 'restore the gate from its backup, or pin the collection anew',
        });
      }
    };
    const root = await read('root', () => parseRoot(kept.root, parseOptions('root', options)));
    for (const [fingerprint, bytes] of kept.certificates) {
      const { fingerprint: found } = await read(`certificate ${fingerprint}`, () => store.add(bytes));
      if (found !== fingerprint)
        throw new SealiftError('state-damaged', 'a kept certificate has another fingerprint', {
          subject: inert(fingerprint),
          got: found,
        });
    }
    for (const bytes of options.certificates ?? []) await store.add(bytes);
    const set = new TrustedSet(options, store, new Map(kept.certificates), root);
    const { timestamp, snapshot, targets } = kept;
    if (timestamp) {
      set.#previousTimestamp = await read('timestamp', () =>
        parseTimestamp(timestamp, parseOptions('timestamp', options)),
      );
    }
    if (snapshot) {
      set.#previousSnapshot = await read('snapshot', () =>
        parseSnapshot(snapshot, parseOptions('snapshot', options)),
      );
    }
    if (targets) {
      set.#previousTargets = await read('targets', () =>
        parseTargets(targets, parseOptions('targets', options)),
      );
    }
    for (const [role, bytes] of kept.delegated) {
      set.#previousDelegated.set(
        role,
        await read(role, () => parseTargets(bytes, parseOptions(role, options))),
      );
    }
    set.#floor = kept.floor;
    set.#newFloor = kept.floor;
    return set;
  }

  get root(): RootMetadata {
    return this.#root;
  }
  get timestamp(): TimestampMetadata | undefined {
    return this.#timestamp;
  }
  get snapshot(): SnapshotMetadata | undefined {
    return this.#snapshot;
  }
  get targets(): TargetsMetadata | undefined {
    return this.#targets;
  }
  /** Verified delegated roles by name, in the order in which they were verified: search order after {@link advance}. */
  get delegated(): ReadonlyMap<string, TargetsMetadata> {
    return this.#delegated;
  }
  /** The certificates in use, merged. */
  get certificates(): CertificateStore {
    return this.#certificates;
  }
  /** What was accepted in the last run, for the search; nothing after a fast-forward recovery. */
  get previous(): SearchView {
    // Its edges were verified when it was accepted.
    return { targets: this.#previousTargets, delegated: this.#previousDelegated, isVerifiedEdge: () => true };
  }
  /** True where the bundle's certificates say something of the kept ones that was not known: a renewal, a revocation. */
  get hasNewCertificates(): boolean {
    return [...this.#keptCertificates].some(([fingerprint, bytes]) => {
      const merged = this.#certificates.get(fingerprint);
      return merged !== undefined && !Buffer.from(merged.bytes).equals(bytes);
    });
  }
  /** Time of the run: the later of the host's clock and the floor. */
  get time(): Date {
    const { now } = this.#options;
    return this.#floor !== undefined && this.#floor > now ? this.#floor : now;
  }
  /** True where the signatures of `role` have been verified with the keys of `delegator`. */
  isVerifiedEdge(delegator: string, role: string): boolean {
    return this.#edges.has(edge(delegator, role));
  }
  /** Collection id as the path of the bundles role has it; undefined before targets, or where there is none. */
  get collectionId(): string | undefined {
    for (const { paths } of this.#targets?.delegations?.roles ?? []) {
      const id = paths.length === 1 ? BUNDLE_PATH.exec(paths[0] ?? '')?.[1] : undefined;
      if (id !== undefined) return id;
    }
    return undefined;
  }

  /** What to store now. Call it after each step. */
  kept(): KeptMetadata {
    const delegated = new Map<string, Uint8Array>();
    for (const [role, { bytes }] of [...this.#previousDelegated, ...this.#delegated])
      delegated.set(role, bytes);
    const named = new Set(this.#keptCertificates.keys());
    const holders = [
      this.#root,
      this.#targets?.delegations,
      ...[...this.#delegated.values()].map((role) => role.delegations),
    ];
    for (const holder of holders) {
      for (const { keytype, keyval } of holder?.keys.values() ?? [])
        if (keytype === 'openpgp') named.add(keyval.public);
    }
    const certificates = new Map<string, Uint8Array>();
    for (const [fingerprint, { bytes }] of this.#certificates.all) {
      if (named.has(fingerprint)) certificates.set(fingerprint, bytes);
    }
    return {
      root: this.#root.bytes,
      timestamp: (this.#timestamp ?? this.#previousTimestamp)?.bytes,
      snapshot: (this.#snapshot ?? this.#previousSnapshot)?.bytes,
      targets: (this.#targets ?? this.#previousTargets)?.bytes,
      delegated,
      certificates,
      floor: this.#newFloor,
    };
  }

  /**
   * The next root (5.3.3 to 5.3.9). Its expiry is not looked at (5.3.10 does, for the last one only).
   * @throws SealiftError `root-chain-broken`, `signature-threshold` and its kin
   */
  async updateRoot(bytes: Uint8Array): Promise<void> {
    this.#expect('roots', 'root');
    const next = parseRoot(bytes, parseOptions('root', this.#options));
    // 5.3.5: exactly one higher. (Before the signatures: the sooner it is said, the clearer.)
    if (next.version !== this.#root.version + 1) {
      throw new SealiftError(
        'root-chain-broken',
        `root has version ${next.version}, want ${this.#root.version + 1}`,
        {
          subject: 'root',
          got: next.version,
          want: this.#root.version + 1,
          check: 'root-chain',
        },
      );
    }
    // 5.3.4: a threshold of the old root's keys, and one of its own.
    await this.#verify(next, this.#root.roles.root, this.#root.keys, 'link', 'root');
    await this.#verify(next, next.roles.root, next.keys, 'link', 'root');
    // 5.3.11, fast-forward recovery. Done with each link, not once at the end: each root is stored before the
    // next is looked at, and a run that ends in between must not leave the old versions to be compared with.
    const rotated = (role: 'timestamp' | 'snapshot') =>
      !sameKeys(this.#root.roles[role].keyids, next.roles[role].keyids);
    if (rotated('timestamp') || rotated('snapshot')) {
      this.#previousTimestamp = undefined;
      this.#previousSnapshot = undefined;
      this.#previousTargets = undefined;
      this.#previousDelegated = new Map();
    }
    if (rotated('timestamp')) {
      this.#floor = undefined;
      this.#newFloor = undefined;
    }
    this.#root = next;
  }

  /**
   * Compares the file a bundle has for the trusted root's version. Signatures may have been added to it since;
   * its content may not have changed.
   * @throws SealiftError `fork`
   */
  checkSameRoot(bytes: Uint8Array | undefined): void {
    if (!bytes || Buffer.from(bytes).equals(this.#root.bytes)) return;
    const found = parseRoot(bytes, parseOptions('root', this.#options));
    if (rootFingerprint(found) === rootFingerprint(this.#root)) return;
    throw new SealiftError(
      'fork',
      `version ${this.#root.version} of root was accepted before with other content`,
      {
        subject: 'root',
        got: rootFingerprint(found),
        want: rootFingerprint(this.#root),
        check: 'root-chain',
      },
    );
  }

  /**
   * No more roots: the last one is judged as final metadata.
   * @throws SealiftError `metadata-expired` (5.3.10), `key-expired`, `key-revoked`, `signature-threshold`
   */
  async finishRoots(): Promise<void> {
    this.#expect('roots', 'root');
    await this.#verify(this.#root, this.#root.roles.root, this.#root.keys, 'final', 'root');
    checkExpiry(this.#root, 'root', this.time, 'root-chain');
    this.#phase = 'timestamp';
  }

  /**
   * 5.4. `same` where version and content are those kept: the run goes on.
   * @throws SealiftError `signature-threshold` and its kin, `rollback`, `fork`, `metadata-expired`, `clock-jump`,
   * `lifetime-too-long`
   */
  async updateTimestamp(bytes: Uint8Array): Promise<'new' | 'same'> {
    this.#expect('timestamp', 'timestamp');
    const next = parseTimestamp(bytes, parseOptions('timestamp', this.#options));
    // 5.4.2
    await this.#verify(next, this.#root.roles.timestamp, this.#root.keys, 'final', 'timestamp');
    if (this.#strict) await this.#refuseStraySignatures(next);
    // 5.4.3
    const previous = this.#previousTimestamp;
    // 5.4.3.1 has the file that is known stay, whatever the other says. Here that is a fork, which people must hear of.
    if (!this.#strict && previous?.version === next.version) {
      checkExpiry(previous, 'timestamp', this.time, 'timestamp');
      this.#timestamp = previous;
      this.#phase = 'snapshot';
      return 'same';
    }
    compareVersions(next, previous, 'timestamp');
    if (previous && next.snapshot.version < previous.snapshot.version) {
      throw rollback('snapshot', next.snapshot.version, previous.snapshot.version);
    }
    // 5.4.4
    checkExpiry(next, 'timestamp', this.time, 'timestamp');
    if (next.created && this.#options.allowClockJump !== true)
      checkClock(next.created, next.expires, this.#options.now);
    this.#timestamp = next;
    if (next.created && (this.#newFloor === undefined || next.created > this.#newFloor))
      this.#newFloor = next.created;
    this.#phase = 'snapshot';
    return previous?.version === next.version ? 'same' : 'new';
  }

  /**
   * 5.5.
   * @throws SealiftError `mix-and-match`, `signature-threshold` and its kin, `rollback`, `fork`, `metadata-expired`
   */
  async updateSnapshot(bytes: Uint8Array): Promise<void> {
    this.#expect('snapshot', 'snapshot');
    const entry = this.#timestamp?.snapshot;
    if (!entry) throw outOfOrder('snapshot');
    // 5.5.2, before anything is parsed
    checkEntry(bytes, entry, 'snapshot');
    const next = parseSnapshot(bytes, parseOptions('snapshot', this.#options));
    // 5.5.3
    await this.#verify(next, this.#root.roles.snapshot, this.#root.keys, 'final', 'snapshot');
    // 5.5.4
    checkVersion(next, entry, 'snapshot');
    // 5.5.5
    compareVersions(next, this.#previousSnapshot, 'snapshot');
    for (const [role, { version }] of this.#previousSnapshot?.meta ?? []) {
      const found = next.meta.get(role);
      if (!found) {
        throw new SealiftError(
          'rollback',
          `snapshot no longer lists the role ${inert(role)}, which it listed before`,
          {
            subject: inert(role),
            check: 'snapshot',
          },
        );
      }
      if (found.version < version) throw rollback(role, found.version, version);
    }
    // 5.5.6
    checkExpiry(next, 'snapshot', this.time, 'snapshot');
    this.#snapshot = next;
    this.#phase = 'targets';
  }

  /**
   * 5.6.1 to 5.6.6 for the top-level targets role.
   * @throws SealiftError as {@link updateDelegated}
   */
  async updateTargets(bytes: Uint8Array): Promise<void> {
    this.#expect('targets', 'targets');
    this.#targets = await this.#readTargets(
      'targets',
      'root',
      bytes,
      this.#root.roles.targets,
      this.#root.keys,
      this.#previousTargets,
    );
    this.#phase = 'done';
  }

  /**
   * 5.6 for one delegated role, verified with the keys of this delegator; a role that two others delegate to
   * is verified with the keys of each.
   * @throws SealiftError `mix-and-match`, `signature-threshold` and its kin, `rollback`, `fork`, `metadata-expired`
   */
  async updateDelegated(role: string, delegator: string, bytes: Uint8Array): Promise<void> {
    this.#expect('done', role);
    const delegations = this.delegationsOf(delegator);
    const found = delegations?.roles.find(({ name }) => name === role);
    const roleKeys =
      found ??
      (delegations?.succinct && isBin(delegations.succinct, role) ? delegations.succinct : undefined);
    if (!delegations || !roleKeys) {
      throw new SealiftError('mix-and-match', `${inert(delegator)} does not delegate to ${inert(role)}`, {
        subject: inert(role),
      });
    }
    const { delegatedRoles } = this.#options.limits;
    if (!this.#delegated.has(role) && this.#delegated.size >= delegatedRoles) {
      throw new SealiftError(
        'metadata-malformed',
        `there are more delegated roles than are searched, want at most ${delegatedRoles}`,
        { want: delegatedRoles },
      );
    }
    const metadata = await this.#readTargets(
      role,
      delegator,
      bytes,
      roleKeys,
      delegations.keys,
      this.#previousDelegated.get(role),
    );
    if (!this.#delegated.has(role)) this.#delegated.set(role, metadata);
  }

  /** Delegations of a verified role. */
  delegationsOf(role: string): Delegations | undefined {
    return role === 'targets' ? this.#targets?.delegations : this.#delegated.get(role)?.delegations;
  }

  /** Earliest of all verified metadata and of the certificates their thresholds rest on. */
  effectiveExpiry(): Date {
    return new Date(Math.min(...this.#until.values()));
  }

  /** Roles in order root, timestamp, snapshot, targets, delegated in search order. */
  roleSummaries(): readonly RoleSummary[] {
    const summaries: RoleSummary[] = [];
    const add = (
      role: string,
      metadata: Metadata | undefined,
      roleKeys: RoleKeys,
      keys: ReadonlyMap<string, TufKey>,
    ): void => {
      if (!metadata) return;
      summaries.push({
        role,
        version: metadata.version,
        expires: formatDate(metadata.expires),
        threshold: roleKeys.threshold,
        keys: roleKeys.keyids.flatMap((id) => {
          const key = keys.get(id);
          return key ? [this.#keySummary(id, key)] : [];
        }),
      });
    };
    const { roles, keys } = this.#root;
    add('root', this.#root, roles.root, keys);
    add('timestamp', this.#timestamp, roles.timestamp, keys);
    add('snapshot', this.#snapshot, roles.snapshot, keys);
    add('targets', this.#targets, roles.targets, keys);
    const seen = new Set<string>();
    for (const delegator of ['targets', ...this.#delegated.keys()]) {
      const delegations = this.delegationsOf(delegator);
      for (const delegation of delegations?.roles ?? []) {
        if (seen.has(delegation.name)) continue;
        seen.add(delegation.name);
        add(
          delegation.name,
          this.#delegated.get(delegation.name),
          delegation,
          delegations?.keys ?? new Map(),
        );
      }
    }
    return summaries;
  }

  #keySummary(keyId: string, key: TufKey): KeySummary {
    if (key.keytype !== 'openpgp') return { keyId, type: inert(key.keytype) };
    const fingerprint = key.keyval.public;
    const certificate = this.#certificates.get(fingerprint);
    return {
      keyId,
      type: key.keytype,
      fingerprint,
      userId: certificate?.userId,
      expires: certificate?.expires && formatDate(certificate.expires),
    };
  }

  #expect(phase: Phase, role: string): void {
    if (this.#phase !== phase) throw outOfOrder(role);
  }

  async #readTargets(
    role: string,
    delegator: string,
    bytes: Uint8Array,
    roleKeys: RoleKeys,
    keys: ReadonlyMap<string, TufKey>,
    previous: TargetsMetadata | undefined,
  ): Promise<TargetsMetadata> {
    const entry = this.#snapshot?.meta.get(role);
    if (!entry) {
      throw new SealiftError('mix-and-match', `snapshot does not list the role ${inert(role)}`, {
        subject: inert(role),
        check: 'targets',
      });
    }
    // 5.6.2
    checkEntry(bytes, entry, role);
    const next = parseTargets(bytes, parseOptions(role, this.#options));
    // 5.6.3
    await this.#verify(next, roleKeys, keys, 'final', role);
    // 5.6.4
    checkVersion(next, entry, role);
    compareVersions(next, previous, role);
    // 5.6.5
    checkExpiry(next, role, this.time, 'targets');
    this.#edges.add(edge(delegator, role));
    return next;
  }

  #rules(mode: 'final' | 'link'): SignatureRules {
    const { allowClockJump: allowFuture } = this.#options;
    return { certificates: this.#certificates, time: this.time, mode, allowFuture };
  }

  /** @throws SealiftError as {@link verifyThreshold} */
  async #verify(
    metadata: Metadata,
    role: RoleKeys,
    keys: ReadonlyMap<string, TufKey>,
    mode: 'final' | 'link',
    name: string,
  ): Promise<void> {
    const ends = await verifyThreshold(metadata, role, keys, this.#rules(mode), name);
    if (mode === 'link') return;
    this.#until.set(name, Math.min(this.#until.get(name) ?? Infinity, metadata.expires.getTime(), ends));
  }

  /**
   * Every signature of a timestamp must be by a key of the role, and verify. No hash is said of this file
   * elsewhere, so that otherwise a byte of a superfluous signature could differ unnoticed. (Other roles may
   * carry signatures of keys that were rotated away.)
   */
  async #refuseStraySignatures(metadata: Metadata): Promise<void> {
    const role = this.#root.roles.timestamp;
    for (const [keyId, sig] of metadata.signatures) {
      const key = role.keyids.includes(keyId) ? this.#root.keys.get(keyId) : undefined;
      if (!key)
        throw new SealiftError(
          'signature-invalid',
          'timestamp has a signature by a key that is not of its role',
          { subject: 'timestamp', got: inert(keyId), check: 'timestamp' },
        );
      try {
        await verifySignature(metadata, keyId, key, sig, this.#rules('final'));
      } catch (error) {
        if (error instanceof SealiftError && (error.code === 'key-expired' || error.code === 'key-revoked'))
          continue;
        throw error;
      }
    }
  }
}

function parseOptions(role: string, options: TrustedSetOptions): ParseOptions {
  return { role, limits: options.limits, strict: options.strictProfile ?? true };
}

const edge = (delegator: string, role: string): string => `${delegator}\0${role}`;

export function outOfOrder(role: string): SealiftError {
  return new SealiftError('internal', `${inert(role)} metadata is given out of order`);
}

const sameKeys = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((id) => b.includes(id));

function isBin(succinct: SuccinctRoles, role: string): boolean {
  const prefix = `${succinct.namePrefix}-`;
  const suffix = role.slice(prefix.length);
  const digits = (2 ** succinct.bitLength - 1).toString(16).length;
  if (!role.startsWith(prefix) || suffix.length !== digits || !/^[0-9a-f]+$/.test(suffix)) return false;
  return Number.parseInt(suffix, 16) < 2 ** succinct.bitLength;
}
