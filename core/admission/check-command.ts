/**
 * A program of the gatekeeper's own that looks at every image before it is let in, such as a malware scanner. It gets a
 * copy of the image as an OCI layout, and its exit code decides: 0 lets the image in, anything else does not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { access, constants, copyFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { indexJson, ociLayoutFile } from '../bundle/computed.ts';
import type { BundleImage, BundleManifest } from '../bundle/manifest.ts';
import type { Context } from '../context.ts';
import { keptByReceipts } from '../delta/kept.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { makeDirectory } from '../fs/durable.ts';
import type { Gate } from '../gate/gate.ts';
import type { ContentJudgement } from '../judge.ts';
import { blobPath, type Digest } from '../oci/digest.ts';
import type { ImageVerdict } from '../results.ts';
import type { Store } from '../store/store.ts';

export interface CheckCommand {
  /** Program and arguments. An argument `{}` stands for the directory of the layout; without one it is the last. */
  readonly command: readonly [string, ...string[]];
  /** What the program finds in its environment, PATH among it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Milliseconds it may take for one image. */
  readonly timeoutMs: number;
  /** Directory in which images are written out that go into no store; without it those cannot be looked at. */
  readonly temporary?: string | undefined;
  /** Ends the process group with that number: what the program started ends with it. */
  readonly kill: (group: number, signal: 'SIGTERM' | 'SIGKILL') => void;
}

/** Where the program finds what it looks at. */
export interface CheckPlace {
  /** A directory for this alone; what is in it is removed, before and after. */
  readonly quarantine: string;
  /** Puts a blob into a file that is not there yet: the whole of it, known to be what its digest says. */
  copy(digest: Digest, file: string): Promise<void>;
}

export interface CheckedImage {
  readonly name: string;
  readonly digest: string;
  readonly passed: boolean;
  /** How it ended, in words: `exit 1`, `SIGSEGV`, `no answer within 60 s`. */
  readonly ended: string;
  readonly seconds: number;
  /** The end of what it printed, inert, at most 16 KiB. */
  readonly output: string;
}

const PREFIX = 'the check command refuses it: ';
/** What of the output is kept. */
const MOST_OUTPUT = 16 * 1024;
/** Milliseconds a program has to tidy up after it was asked to end. */
const PATIENCE = 5000;
/** Milliseconds in which what a program has printed must arrive once it has ended. */
const LAST_WORDS = 1000;

/**
 * Finds the program before anything is read.
 * @throws SealiftError `invalid-argument` where there is none, or none that may be run
 */
export async function findCheckCommand({ command: [program], environment }: CheckCommand): Promise<void> {
  const places = program.includes('/')
    ? [program]
    : (environment['PATH'] ?? '')
        .split(path.delimiter)
        .filter((directory) => path.isAbsolute(directory))
        .map((directory) => path.join(directory, program));
  for (const place of places) {
    const found = await access(place, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return;
  }
  throw new SealiftError('invalid-argument', 'there is no such program, or it may not be run', {
    subject: '--check-command',
    got: inert(program),
    hint: 'give the path of the program; arguments are split at blanks, and no shell reads them',
  });
}

/**
 * Runs the program on one image after the other.
 * @param blobsOf digests of everything an image needs
 * @throws SealiftError `cancelled`, `destination-*`, `invalid-argument` where the program cannot be started; what `copy`
 *   throws
 */
export async function checkImages(
  images: readonly BundleImage[],
  blobsOf: (name: string) => Iterable<Digest>,
  { quarantine, copy }: CheckPlace,
  check: CheckCommand,
  context: Context,
): Promise<readonly CheckedImage[]> {
  const title = `asking ${inert(path.basename(check.command[0]))} about ${images.length} image${images.length === 1 ? '' : 's'}`;
  context.emit({ type: 'phase', phase: 'check-command', title });
  const checked: CheckedImage[] = [];
  try {
    for (const [index, image] of images.entries()) {
      context.signal.throwIfAborted();
      await rm(quarantine, { recursive: true, force: true });
      const layout = path.join(quarantine, `image-${index + 1}`);
      await writeLayout(layout, image, blobsOf(image.name), copy, context);
      const answer = await run(layout, image, check, context);
      checked.push(answer);
      context.emit({
        type: 'notice',
        level: answer.passed ? 'info' : 'warning',
        code: answer.passed ? 'image-checked' : 'image-refused',
        message: `${image.name}: ${answer.passed ? 'passed' : `refused, ${refusalOf(answer)}`}`,
      });
    }
    return checked;
  } finally {
    await rm(quarantine, { recursive: true, force: true });
  }
}

/** Why an image was refused, in one line. */
export function refusalOf({ ended, output }: CheckedImage): string {
  const last = output.split('\\u{a}').filter((line) => line.trim() !== '');
  const said = last.at(-1);
  return said === undefined ? ended : `${ended}: ${said.slice(-200)}`;
}

/** Copies, so that a program that changes what it looks at changes nothing in the store. */
async function writeLayout(
  layout: string,
  image: BundleImage,
  blobs: Iterable<Digest>,
  copy: CheckPlace['copy'],
  context: Context,
): Promise<void> {
  for (const algorithm of ['sha256', 'sha512'])
    await makeDirectory(path.join(layout, 'blobs', algorithm), 'state');
  await writeFile(path.join(layout, 'oci-layout'), ociLayoutFile());
  await writeFile(path.join(layout, 'index.json'), indexJson([image]));
  for (const digest of blobs) {
    context.signal.throwIfAborted();
    await copy(digest, path.join(layout, blobPath(digest)));
  }
}

async function run(
  layout: string,
  { name, digest }: BundleImage,
  check: CheckCommand,
  context: Context,
): Promise<CheckedImage> {
  const [program, ...given] = check.command;
  const args = given.includes('{}')
    ? given.map((argument) => (argument === '{}' ? layout : argument))
    : [...given, layout];
  const begun = performance.now();
  const child = spawn(program, args, {
    cwd: layout,
    env: { ...check.environment, SEALIFT_IMAGE: name, SEALIFT_DIGEST: digest, SEALIFT_LAYOUT: layout },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A process group of its own.
    detached: true,
  });
  const said = collectOutput(child);
  let late = false;
  const timers: NodeJS.Timeout[] = [];
  const end = (signal: 'SIGTERM' | 'SIGKILL'): void => {
    if (child.pid !== undefined) check.kill(child.pid, signal);
  };
  const letGo = (): void => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  };
  const stop = (): void => {
    end('SIGTERM');
    timers.push(setTimeout(() => end('SIGKILL'), PATIENCE));
  };
  timers.push(
    setTimeout(() => {
      late = true;
      stop();
    }, check.timeoutMs),
  );
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>(
      (resolve, reject) => {
        child.once('error', reject);
        child.once('close', (exit, by) => resolve({ code: exit, signal: by }));
        // What it left behind may hold the pipes open for ever, and have left its process group.
        child.once('exit', () => {
          end('SIGKILL');
          timers.push(setTimeout(letGo, LAST_WORDS));
        });
      },
    );
    context.signal.throwIfAborted();
    return {
      name,
      digest,
      passed: code === 0 && !late,
      ended: late
        ? `no answer within ${Math.round(check.timeoutMs / 1000)} s`
        : code === null
          ? (signal ?? 'unknown')
          : `exit ${code}`,
      seconds: Math.round((performance.now() - begun) / 1000),
      output: said(),
    };
  } catch (cause) {
    context.signal.throwIfAborted();
    throw new SealiftError('invalid-argument', 'the program cannot be started', {
      subject: '--check-command',
      got: inert(program),
      cause,
    });
  } finally {
    for (const timer of timers) clearTimeout(timer);
    context.signal.removeEventListener('abort', stop);
  }
}

/** The end of both outputs, in the order it came. */
function collectOutput(child: ChildProcess): () => string {
  let kept = Buffer.alloc(0);
  const take = (part: Buffer): void => {
    kept = Buffer.concat([kept, part]);
    if (kept.length > MOST_OUTPUT) kept = kept.subarray(kept.length - MOST_OUTPUT);
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  return () => inert(kept.toString('utf8').trim(), MOST_OUTPUT);
}

/** What the program said of the images that were to be let in. */
export interface CheckOutcome {
  readonly passing: readonly ImageVerdict[];
  /** With the reason why. */
  readonly refused: readonly ImageVerdict[];
  readonly checked: readonly CheckedImage[];
}

/** Blobs of a store, which are there and hashed. @param store its directory */
export function checkPlaceIn(store: string): CheckPlace {
  return {
    quarantine: path.join(store, '.sealift', 'check'),
    // Costs neither time nor space where the file system shares blocks.
    copy: (digest, file) => copyFile(path.join(store, blobPath(digest)), file, constants.COPYFILE_FICLONE),
  };
}

/**
 * Asks the program about images whose blobs are at that place, and writes what it said into the audit log.
 * @throws SealiftError as {@link checkImages}
 */
export async function askCheckCommand(
  gate: Gate,
  place: CheckPlace,
  chosen: readonly ImageVerdict[],
  bundle: { readonly manifest: BundleManifest; readonly content: ContentJudgement },
  check: CheckCommand,
  { actor }: { readonly actor: string },
  context: Context,
): Promise<CheckOutcome> {
  const names = new Set(chosen.map(({ name }) => name));
  const checked = await checkImages(
    bundle.manifest.images.filter(({ name }) => names.has(name)),
    (name) => bundle.content.blobs.get(name) ?? [],
    place,
    check,
    context,
  );
  const answers = new Map(checked.map((answer) => [answer.name, answer]));
  for (const { name, digest, passed, ended, seconds, output } of checked) {
    const fields = { name, digest, passed, command: check.command.join(' '), ended, seconds, output };
    await gate.audit({ now: context.now, actor, event: 'checked', fields });
  }
  // Nothing is let in by absence: an image without an answer has not passed.
  const passing = chosen.filter(({ name }) => answers.get(name)?.passed === true);
  const refused = chosen.flatMap((image): ImageVerdict[] => {
    if (passing.includes(image)) return [];
    const answer = answers.get(image.name);
    const why = answer === undefined ? 'it was not asked' : refusalOf(answer);
    return [{ ...image, verdict: 'invalid', reason: `${PREFIX}${why}` }];
  });
  return { passing, refused, checked };
}

/** The error where what the program refused keeps the whole import out; undefined where the rest is let in. */
export function checkRefusal(
  { passing, refused }: CheckOutcome,
  admitPassing: boolean | undefined,
): SealiftError | undefined {
  const [first] = refused;
  if (first === undefined || (admitPassing === true && passing.length > 0)) return undefined;
  const all = passing.length + refused.length;
  const number = refused.length === all ? `${all}` : `${refused.length} of ${all}`;
  return new SealiftError(
    'check-refused',
    `the check command refuses ${number} image${all === 1 ? '' : 's'}: ${first.reason.replace(PREFIX, '')}`,
    {
      subject: first.name,
      check: 'check-command',
      hint:
        passing.length > 0
          ? 'sealift trust audit shows what it said; --admit-passing lets the others in'
          : 'sealift trust audit shows what it said',
    },
  );
}

/** Takes the blobs of refused images out of the store, as far as no image needs them and no receipt vouches for them. */
export async function discardRefused(store: Store, context: Context): Promise<void> {
  try {
    const keep = await keptByReceipts(store.directory, context.now, false);
    await store.gc({ dryRun: false, keep });
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    const message = `blobs of refused images stay in the store, where nothing names them: ${error.message}`;
    context.emit({ type: 'notice', level: 'warning', code: 'blobs-left', message });
  }
}
