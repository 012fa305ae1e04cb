/**
 * A repository that can be had in several places. The digest decides, so any of them will do: what fails is gone on
 * with at the next, also within a blob, and what sends a wrong one is named and asked last.
 */
import { createHash } from 'node:crypto';
import type { Context } from '../../context.ts';
import { isSealiftError, SealiftError } from '../../errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '../../oci/digest.ts';
import { type Endpoint, SHARED_FROM, showEndpoint } from '../mirrors.ts';
import type { Referrers, Source, SourceOptions, TaggedEvidence } from '../source.ts';
import { openRepositorySource, type RepositorySource } from './source.ts';

/** Of a mirror that others stand behind. */
const MIRROR_RETRIES = 1;
/** A mirror that wants to be left alone for longer is left for the next. */
const MIRROR_WAIT_MS = 2_000;
/** Blobs up to this size are checked before a byte of them is handed on, so that a wrong one goes unnoticed above. */
const CHECKED_FIRST = 4 * 1024 * 1024;

/** How long a large blob waits for the judgement on others. */
const LONGEST_TRIAL_MS = 3_000;

/** What runs with one options object know of their endpoints; by `showEndpoint()`. */
interface Knowledge {
  /** Asked after all others, as they failed or sent something wrong. */
  readonly last: Set<string>;
  readonly told: Set<string>;
  /** Have sent a right blob. */
  readonly proven: Set<string>;
  /** How many large blobs are coming from each: nothing is known of one before its end. */
  readonly onTrial: Map<string, number>;
  /** Told when one of these has ended. */
  readonly waiting: Set<() => void>;
  /** Options that differ from those given in how one kind of endpoint is spoken to; one object for one session. */
  readonly options: Map<string, SourceOptions>;
}

const knowledge = new WeakMap<SourceOptions, Knowledge>();

function knowledgeOf(options: SourceOptions): Knowledge {
  let known = knowledge.get(options);
  if (!known) {
    known = {
      last: new Set(),
      told: new Set(),
      proven: new Set(),
      onTrial: new Map(),
      waiting: new Set(),
      options: new Map(),
    };
    knowledge.set(options, known);
  }
  return known;
}

function optionsFor(endpoint: Endpoint, isLast: boolean, options: SourceOptions): SourceOptions {
  const changed: Partial<SourceOptions> = {
    plainHttp: options.plainHttp || endpoint.plainHttp,
    insecureSkipTlsVerify: options.insecureSkipTlsVerify || endpoint.insecure,
    retryTimes: isLast ? options.retryTimes : Math.min(options.retryTimes, MIRROR_RETRIES),
    ...(isLast ? {} : { longestWaitMs: MIRROR_WAIT_MS }),
  };
  const { options: all } = knowledgeOf(options);
  const key = JSON.stringify(changed);
  let found = all.get(key);
  if (!found) {
    found = { ...options, ...changed };
    all.set(key, found);
  }
  return found;
}

interface Place {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly source: RepositorySource;
}

interface Blob {
  readonly digest: Digest;
  readonly size: number;
}

interface Failure {
  readonly place: Place;
  readonly error: SealiftError;
}

/** @throws SealiftError `invalid-reference`, and as the source of one repository */
export function openMirroredSource(
  endpoints: readonly Endpoint[],
  options: SourceOptions,
  context: Context,
): Source {
  const known = knowledgeOf(options);
  const places: Place[] = endpoints.map((endpoint, index) => ({
    name: `${showEndpoint(endpoint)}${endpoint.plainHttp ? ' (http)' : ''}`,
    endpoint,
    source: openRepositorySource(
      endpoint,
      optionsFor(endpoint, index === endpoints.length - 1, options),
      context,
    ),
  }));
  for (const place of places) {
    if (!place.endpoint.insecure || place.endpoint.plainHttp) continue;
    tell('warning', 'tls-not-verified', place, 'its certificate is not checked (insecure = true)');
  }
  /** Places that sent something else for a digest. */
  const wrong = new Map<Digest, Set<Place>>();
  /** Digests whose last reading ended with a wrong one. */
  const again = new Set<Digest>();

  function inOrder(wanted: string): Place[] {
    const fitting = places.filter(
      ({ endpoint: { pull } }) => pull === 'all' || (pull === 'digest-only') === isDigest(wanted),
    );
    const refused = isDigest(wanted) ? wrong.get(wanted) : undefined;
    const left = fitting.filter((place) => refused?.has(place) !== true);
    return [
      ...left.filter(({ name }) => !known.last.has(name)),
      ...left.filter(({ name }) => known.last.has(name)),
    ];
  }

  /**
   * The order for a large blob. Until a mirror has sent one that is right, others share what is read at the same time, so
   * that a corrupt one does not waste the time of all of it.
   */
  function inOrderForLarge(digest: Digest): Place[] {
    const order = inOrder(digest);
    const isMirror = ({ name, endpoint }: Place) => endpoint.isMirror && !known.last.has(name);
    const trials = ({ name }: Place) => (known.proven.has(name) ? 0 : (known.onTrial.get(name) ?? 0));
    return [
      ...order.filter(isMirror).sort((one, other) => trials(one) - trials(other)),
      ...order.filter((place) => !isMirror(place)),
    ];
  }

  /** Puts places on trial, until what they sent has been judged. */
  function createTrial(): { begin(place: Place): void; end(): void } {
    const { onTrial, waiting } = known;
    const begun: string[] = [];
    return {
      begin({ name }) {
        onTrial.set(name, (onTrial.get(name) ?? 0) + 1);
        begun.push(name);
      },
      end() {
        for (const name of begun.splice(0)) onTrial.set(name, (onTrial.get(name) ?? 1) - 1);
        for (const wake of [...waiting]) wake();
      },
    };
  }

  /** False while several mirrors are on trial and none has shown what it is worth: of a corrupt one, one blob is enough. */
  function mayBegin(digest: Digest): boolean {
    const { proven, onTrial, last } = known;
    const mirrors = inOrder(digest).filter(({ name, endpoint }) => endpoint.isMirror && !last.has(name));
    return (
      mirrors.length < 2 || mirrors.some(({ name }) => proven.has(name) || (onTrial.get(name) ?? 0) === 0)
    );
  }

  /** Waits until a trial has ended. @returns false where that took too long */
  function trialEnded(): Promise<boolean> {
    const { waiting } = known;
    const { signal } = context;
    return new Promise((resolve) => {
      const end = (inTime: boolean): void => {
        clearTimeout(timer);
        waiting.delete(wake);
        signal.removeEventListener('abort', abort);
        resolve(inTime);
      };
      const wake = () => end(true);
      const abort = () => end(false);
      // Whoever reads the blob on trial may be waiting for this one.
      const timer = setTimeout(abort, LONGEST_TRIAL_MS);
      waiting.add(wake);
      signal.addEventListener('abort', abort, { once: true });
    });
  }

  function tell(level: 'info' | 'warning', code: string, place: Place, message: string): void {
    const key = `${code} ${place.name} ${message}`;
    if (known.told.has(key)) return;
    known.told.add(key);
    context.emit({ type: 'notice', level, code, message: `${place.name}: ${message}` });
  }

  /** Notes a failure that another place may not have; throws every other. */
  function pass(error: unknown, place: Place, wanted: string, hasNext: boolean): SealiftError {
    if (!isSealiftError(error) || (error.category !== 'source' && error.category !== 'malformed'))
      throw error;
    if (error.code === 'digest-mismatch' || error.code === 'size-mismatch') {
      blame(place, wanted, error.message);
      return error;
    }
    if (error.code !== 'source-not-found') known.last.add(place.name);
    if (hasNext) tell('info', 'mirror-failed', place, `${error.message}; asking the next`);
    return error;
  }

  /** Names a place that sent something else, and does not ask it for this digest again. */
  function blame(place: Place, wanted: string, message: string): void {
    known.last.add(place.name);
    tell('warning', 'mirror-corrupt', place, `sends something else than was asked for: ${message}`);
    if (!isDigest(wanted)) return;
    const set = wrong.get(wanted) ?? new Set();
    set.add(place);
    wrong.set(wanted, set);
  }

  async function first<T>(wanted: string, read: (source: RepositorySource) => Promise<T>): Promise<T> {
    const order = inOrder(wanted);
    const failures: Failure[] = [];
    for (const [index, place] of order.entries()) {
      try {
        return await read(place.source);
      } catch (error) {
        failures.push({ place, error: pass(error, place, wanted, index < order.length - 1) });
      }
    }
    throw summary(failures, wanted);
  }

  /** The registry's own word where it has one, else the last. */
  function summary(failures: readonly Failure[], wanted: string): SealiftError {
    const own = failures.find(({ place }) => !place.endpoint.isMirror) ?? failures.at(-1);
    const others = new Set(failures.filter((one) => one !== own).map(({ place }) => place.name));
    if (!own) return new SealiftError('source-not-found', `no mirror may be asked for ${wanted}`);
    if (others.size === 0) return own.error;
    return new SealiftError(
      own.error.code,
      `${own.error.message} (and ${[...others].join(', ')} could not help either)`,
      {
        subject: own.error.subject,
        got: own.error.got,
        want: own.error.want,
        hint: own.error.hint,
        cause: own.error,
      },
    );
  }

  async function* readChecked(blob: Blob): AsyncGenerator<Uint8Array, void> {
    const { digest, size } = blob;
    again.delete(digest);
    if (size < SHARED_FROM) {
      yield* readFromPlaces(blob, inOrder, () => {});
      return;
    }
    const trial = createTrial();
    try {
      // Nothing may come between the question and the begin of the trial.
      while (!mayBegin(digest)) if (!(await trialEnded())) break;
      yield* readFromPlaces(blob, inOrderForLarge, trial.begin, trial.end);
    } finally {
      trial.end();
    }
  }

  /** @param judged called when what was read has been found right or wrong */
  async function* readFromPlaces(
    blob: Blob,
    orderFor: (digest: Digest) => Place[],
    begin: (place: Place) => void,
    judged: () => void = () => {},
  ): AsyncGenerator<Uint8Array, void> {
    const { digest, size } = blob;
    const isSmall = size <= CHECKED_FIRST;
    for (;;) {
      const hash = createHash(digestAlgorithm(digest));
      const held: Uint8Array[] = [];
      const givers = new Set<Place>();
      const failures: Failure[] = [];
      const order = orderFor(digest);
      let delivered = 0;
      for (const [index, place] of order.entries()) {
        try {
          begin(place);
          for await (const chunk of place.source.blobFrom(blob, delivered)) {
            givers.add(place);
            hash.update(chunk);
            delivered += chunk.length;
            if (isSmall) held.push(chunk);
            else yield chunk;
          }
          break;
        } catch (error) {
          failures.push({ place, error: pass(error, place, digest, index < order.length - 1) });
        }
      }
      if (failures.length === order.length) throw summary(failures, digest);
      const got = hash.digest('hex');
      if (got === digestHex(digest)) {
        if (size >= SHARED_FROM) for (const { name } of givers) known.proven.add(name);
        judged();
        yield* held;
        return;
      }
      // Of several givers any may be the one. The registry itself is believed longest.
      for (const one of givers) {
        if (!one.endpoint.isMirror && givers.size > 1) continue;
        blame(one, digest, `blob ${digest} has another digest`);
      }
      judged();
      // What was handed on cannot be taken back; whoever asked has to begin again.
      const hasOther = inOrder(digest).length > 0;
      if (hasOther && !isSmall) again.add(digest);
      if (!hasOther || !isSmall) throw wrongBlob(digest, got, givers);
    }
  }

  /** Mirrors mostly keep no evidence, and say there is none: all are asked. */
  async function fromAll<T>(
    subject: Digest,
    read: (source: RepositorySource) => Promise<T>,
  ): Promise<readonly { readonly place: Place; readonly answer: T }[]> {
    const order = places.filter(({ name }) => !known.last.has(name));
    const failures: Failure[] = [];
    const found: { place: Place; answer: T }[] = [];
    for (const place of order.length > 0 ? order : places) {
      try {
        found.push({ place, answer: await read(place.source) });
      } catch (error) {
        failures.push({ place, error: pass(error, place, subject, false) });
      }
    }
    for (const place of places) {
      if (found.length > 0 && known.last.has(place.name) && !place.endpoint.plainHttp) {
        tell('warning', 'mirror-evidence', place, 'is not asked for evidence any more, as it failed');
      }
    }
    if (found.length === 0) throw summary(failures, subject);
    return found;
  }

  return {
    location: places.at(-1)?.source.location ?? '',
    manifest: (wanted) => first(wanted, (source) => source.manifest(wanted)),
    blob: async (blob) => {
      places[0]?.source.checkSize(blob);
      return readChecked(blob);
    },
    hasOther: (digest) => again.has(digest) && inOrder(digest).length > 0,
    referrers: async (subject) => {
      const found = await fromAll<Referrers>(subject, (source) => source.referrers(subject));
      const byDigest = new Map<Digest, Descriptor>();
      for (const { descriptors } of found.map(({ answer }) => answer)) {
        for (const one of descriptors) if (!byDigest.has(one.digest)) byDigest.set(one.digest, one);
      }
      const api = found.some(({ answer }) => answer.via === 'referrers-api');
      return { descriptors: [...byDigest.values()], via: api ? 'referrers-api' : 'referrers-tag' };
    },
    tagged: async (subject) => {
      const found = await fromAll<readonly TaggedEvidence[]>(subject, (source) => source.tagged(subject));
      const byTag = new Map<string, TaggedEvidence>();
      // Such a tag moves with every signature that is added: the registry's own word comes before a mirror's.
      for (const isMirror of [false, true]) {
        for (const { place, answer } of found) {
          if (place.endpoint.isMirror !== isMirror) continue;
          for (const one of answer) if (!byTag.has(one.tag)) byTag.set(one.tag, one);
        }
      }
      return [...byTag.values()];
    },
    close: async () => {
      await Promise.all(places.map(({ source }) => source.close()));
    },
  };
}

function wrongBlob(digest: Digest, hex: string, givers: ReadonlySet<Place>): SealiftError {
  const got = `${digestAlgorithm(digest)}:${hex}`;
  const names = [...givers].map(({ name }) => name).join(' and ');
  return new SealiftError(
    'digest-mismatch',
    `blob from ${names} has another digest: got ${got}, want ${digest}`,
    {
      subject: digest,
      got,
      want: digest,
      hint: 'leave that mirror out, or run the same command again',
    },
  );
}
