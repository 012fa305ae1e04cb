/**
 * What the pages cost: first paint of the built program in a terminal, the picture of 64 blobs under way, a key in a list
 * of 10,000 images, memory.
 *
 *   node test/bench/tui.ts [--rounds 7] [--seconds 10] [--json FILE]
 *
 * Exit 1 where a target is missed. On a machine that is busy elsewhere the times say nothing.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { parseArgs } from 'node:util';
import { createStyle } from '../../cli/output/style.ts';
import { type App, type AppOptions, createApp } from '../../cli/tui/app.ts';
import { createMachine } from '../../cli/tui/machine.ts';
import type { Page } from '../../cli/tui/page.ts';
import { textPage } from '../../cli/tui/pages/text.ts';
import { workPage } from '../../cli/tui/pages/work.ts';
import { coreWorkflows } from '../../cli/workflows.ts';
import type { Context } from '../../core/context.ts';
import { buildIfStale, programFile } from '../../fixtures/cli.ts';
import { makeLayout, multiArchImage } from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '10' },
    json: { type: 'string' },
    /** Runs one part in this process and prints its figures. */
    part: { type: 'string' },
  },
});

const TARGETS = { paint: 400, share: 0.1, key: 50, memory: 200 };
const [COLUMNS, ROWS] = [120, 40];
const BLOBS = 64;
const IMAGES = 10_000;

const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

// ---------------------------------------------------------------- parts

interface Shown {
  readonly app: App;
  readonly bytes: () => number;
  close(): Promise<void>;
}

function appOptions(): AppOptions {
  const from = 'environment' as const;
  const nowhere = (name: string) => ({ path: `/nonexistent/${name}`, from });
  const surroundings = { env: {}, uid: 1000, home: '/nonexistent', cwd: '/nonexistent' };
  return {
    workflows: coreWorkflows,
    machine: createMachine(surroundings, { mounts: '/nonexistent' }),
    paths: {
      collection: nowhere('collection'),
      gate: nowhere('gate'),
      store: nowhere('store'),
      gateBehindSudo: undefined,
    },
    ...surroundings,
    actor: 'bench',
    pid: process.pid,
    readNow: () => new Date(),
    clock: () => performance.now(),
    signal: new AbortController().signal,
    interrupt: () => {},
    style: createStyle({ color: true, unicode: true, columns: COLUMNS }),
    writeTerminal: () => {},
  };
}

/** The real screen on a terminal that swallows everything. */
async function show(first: (app: App) => Page): Promise<Shown> {
  const { showScreen } = await import('../../cli/tui/screen.ts');
  const stdout = Object.assign(new PassThrough(), { isTTY: true, columns: COLUMNS, rows: ROWS });
  let bytes = 0;
  stdout.on('data', (part: Buffer) => {
    bytes += part.length;
  });
  const stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    isRaw: false,
    setRawMode: () => stdin,
    ref: () => stdin,
    unref: () => stdin,
  });
  const app = createApp(appOptions(), first);
  const screen = showScreen(app, { stdin, stdout });
  await screen.flushed();
  return {
    app,
    bytes: () => bytes,
    close: async () => {
      app.quit();
      await app.ended;
      await screen.close();
      await app.close();
    },
  };
}

const blank = (): Page => textPage({ kind: 'start', title: 'Start', lines: () => [] });

/** 64 blobs, each told of 40 times a second, as a transfer over a fast network does. */
async function transfer(emit: Context['emit'], seconds: number): Promise<void> {
  const size = 1024 * 1024 * 1024;
  const digests = Array.from({ length: BLOBS }, (_, at) => `sha256:${String(at).padStart(64, '0')}`);
  emit({ type: 'phase', phase: 'transfer', title: 'transferring' });
  emit({ type: 'transfer', bytes: size * BLOBS, blobs: BLOBS, skippedBytes: 0 });
  for (const digest of digests) emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
  const end = performance.now() + seconds * 1000;
  for (let step = 1; performance.now() < end; step += 1) {
    for (const digest of digests)
      emit({ type: 'blob', state: 'progress', digest, bytes: step * 1_000_000, size });
    await sleep(25);
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function partTransfer(seconds: number): Promise<Record<string, number>> {
  const shown = await show(blank);
  let events = 0;
  shown.app.push(
    workPage<void>(shown.app, {
      title: 'Exporting',
      heading: 'Writing images.tar',
      run: async (context) => {
        // What comes before the transfer is not what is measured.
        await sleep(500);
        const before = { cpu: cpuMs(), at: performance.now() };
        await transfer((event) => {
          events += 1;
          context.emit(event);
        }, seconds);
        share = (cpuMs() - before.cpu) / (performance.now() - before.at);
      },
      done: () => {},
      failed: () => {},
    }),
  );
  let share = Number.NaN;
  while (Number.isNaN(share)) await sleep(50);
  const written = shown.bytes();
  await shown.close();
  return { share, events, written, memory: process.resourceUsage().maxRSS / 1024 };
}

/** The same events with nobody who looks, so that the picture alone can be told. */
async function partEvents(seconds: number): Promise<Record<string, number>> {
  await sleep(500);
  const before = { cpu: cpuMs(), at: performance.now() };
  await transfer(() => {}, seconds);
  return { share: (cpuMs() - before.cpu) / (performance.now() - before.at) };
}

// ---------------------------------------------------------------- the built program in a terminal

// Types when it sees what it waits for; the last keys are typed one by one, each timed until the picture answers.
const DRIVER = `
import fcntl, json, os, pty, select, struct, sys, termios, time
job = json.loads(sys.argv[1])
begun = time.monotonic()
pid, fd = pty.fork()
if pid == 0:
    os.execvpe(job["argv"][0], job["argv"], job["env"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ${ROWS}, ${COLUMNS}, 0, 0))
def wait(text, seconds=120):
    seen, end = b"", time.monotonic() + seconds
    while text not in seen:
        if time.monotonic() > end:
            raise SystemExit("did not come: %r in %r" % (text, seen[-3000:]))
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65536)
def cpu():
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")
def drain(quiet):
    while select.select([fd], [], [], quiet)[0]:
        os.read(fd, 65536)
wait(b"What do you want")
paint, worked = time.monotonic() - begun, cpu()
wait(b"this machine")
for text, keys in job["steps"]:
    drain(0.1)
    os.write(fd, keys.encode())
    wait(text.encode())
times, before = [], cpu()
for key in job["timed"]:
    drain(0.08)
    at = time.monotonic()
    os.write(fd, key.encode())
    select.select([fd], [], [], 5)
    os.read(fd, 65536)
    times.append((time.monotonic() - at) * 1000)
drain(0.2)
cpu_keys = cpu()
with open("/proc/%d/status" % pid) as status:
    peak = [line for line in status if line.startswith("VmHWM")][0].split()[1]
os.kill(pid, 15)
try:
    while os.read(fd, 65536):
        pass
except OSError:
    pass
os.waitpid(pid, 0)
print(json.dumps({"paint": paint * 1000, "memory": int(peak) / 1024, "times": times,
    "paintCpu": worked, "keyCpu": (cpu_keys - before) / max(1, len(times))}))
`;

interface Driven {
  readonly paint: number;
  /** Peak, MiB. */
  readonly memory: number;
  readonly times: readonly number[];
  /** Milliseconds of processor time until the first page, and for each timed key. */
  readonly paintCpu: number;
  readonly keyCpu: number;
}

function drive(
  walk: Walk,
  steps: readonly (readonly [waitFor: string, type: string])[] = [],
  timed: readonly string[] = [],
): Driven {
  const env = { ...walk.sandbox.env, TERM: 'xterm-256color' };
  const job = { argv: [process.execPath, programFile()], env, steps, timed };
  const cwd = walk.sandbox.path('work');
  return JSON.parse(
    execFileSync('python3', ['-c', DRIVER, JSON.stringify(job)], { cwd }).toString(),
  ) as Driven;
}

async function inTerminal(rounds: number): Promise<{ readonly first: Driven[]; readonly list: Driven }> {
  const walk = makeWalk();
  try {
    await walk.init({ keys: 'native' });
    mkdirSync(walk.sandbox.path('work'));
    drive(walk);
    const first = Array.from({ length: rounds }, () => drive(walk));
    // Many names for a few bytes: what costs is the list, not the transfer.
    const layout = walk.sandbox.path('layout');
    makeLayout(layout, [{ name: 'one', root: multiArchImage() }]);
    const names = Array.from(
      { length: IMAGES },
      (_, at) => `registry.example/team-${at % 97}/image-${at}:1.${at % 13}=oci:${layout}:one`,
    );
    const list = walk.sandbox.path('list.txt');
    writeFileSync(list, `${names.join('\n')}\n`);
    const bundle = walk.sandbox.path('work/images.tar');
    await walk.export([], bundle, { args: ['-f', list], timeout: 600_000 });
    await walk.pin(bundle, await walk.rootFingerprint());
    const steps = [
      ['bundle?', '\r'],
      ['on their way in', '\r'],
    ] as const;
    const round = ['j', '\u001b[6~', 'G', 'g', ' ', 'a', 'a'];
    const timed = [...Array.from({ length: 10 }, () => round).flat(), ...'/team-4'];
    return { first, list: drive(walk, steps, timed) };
  } finally {
    walk.sandbox.remove();
  }
}

// ---------------------------------------------------------------- report

function part(name: string): Record<string, number> {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [import.meta.filename, '--part', name, '--seconds', values.seconds],
    { env: { ...process.env, NODE_ENV: 'production', FORCE_COLOR: '1' }, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`${name}: exit ${status}\n${stderr}`);
  return JSON.parse(stdout) as Record<string, number>;
}

async function main(): Promise<void> {
  buildIfStale();
  const { first, list } = await inTerminal(Number(values.rounds));
  const moving = part('transfer');
  const still = part('events');
  const rows: (readonly [what: string, got: number, target: number, unit: string])[] = [
    ['first paint, median', median(first.map(({ paint }) => paint)), TARGETS.paint, 'ms'],
    ['  processor time of it', median(first.map(({ paintCpu }) => paintCpu)), TARGETS.paint, 'ms'],
    [`${BLOBS} blobs under way, of one core`, (moving['share'] ?? 1) * 100, TARGETS.share * 100, '%'],
    ['  of that the events themselves', (still['share'] ?? 1) * 100, TARGETS.share * 100, '%'],
    [`a key in ${IMAGES} images, median`, median(list.times), TARGETS.key, 'ms'],
    [`a key in ${IMAGES} images, worst`, Math.max(...list.times), TARGETS.key, 'ms'],
    ['  processor time of it, mean', list.keyCpu, TARGETS.key, 'ms'],
    ['memory, first page', Math.max(...first.map(({ memory }) => memory)), TARGETS.memory, 'MiB'],
    ['memory, transfer', moving['memory'] ?? 1e9, TARGETS.memory, 'MiB'],
    [`memory, ${IMAGES} images`, list.memory, TARGETS.memory, 'MiB'],
  ];
  for (const [what, got, target, unit] of rows)
    console.log(
      `${got <= target ? 'met   ' : 'MISSED'}  ${what.padEnd(34)} ${got.toFixed(1).padStart(7)} ${unit}, want <= ${target} ${unit}`,
    );
  if (values.json !== undefined)
    writeFileSync(values.json, JSON.stringify({ first, moving, still, list }, undefined, 2));
  if (rows.some(([, got, target]) => !(got <= target))) process.exitCode = 1;
}

const seconds = Number(values.seconds);
if (values.part === 'transfer') console.log(JSON.stringify(await partTransfer(seconds)));
else if (values.part === 'events') console.log(JSON.stringify(await partEvents(seconds)));
else await main();
