/** The process around a run: standard streams, signals, the exit code. The only place that ends it. */
import os from 'node:os';
import v8 from 'node:v8';
import { SealiftError } from '../core/errors.ts';
import { COMMANDS } from './commands/index.ts';
import { EXIT_CODES, type StopSignal } from './exit-codes.ts';
import { runSealift } from './run.ts';
import { coreWorkflows, type Workflows } from './workflows.ts';

/** Runs until done, then ends the process. */
export async function runProcess(workflows: Workflows = coreWorkflows): Promise<void> {
  // Transfers are made of short-lived buffers outside the heap. A young generation that grows keeps hold of more of them and
  // has them promoted, which costs full collections: a quarter of the time and 60 MiB. A small one drops them early.
  v8.setFlagsFromString('--semi-space-growth-factor=1');
  const { stdin, stdout, stderr, env } = process;
  const controller = new AbortController();
  let stoppedBy: StopSignal | undefined;
  let abandon = (): void => {};

  const leave = (code: number): never => {
    abandon();
    process.exit(code);
  };
  const stop = (name: StopSignal): void => {
    // The second time nothing is waited for.
    if (stoppedBy !== undefined)
      leave(name === 'SIGTERM' ? EXIT_CODES.terminated[0] : EXIT_CODES.cancelled[0]);
    stoppedBy = name;
    controller.abort(new SealiftError('cancelled', `stopped by ${name}`));
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop(name));
  // Whoever reads may stop reading (`| head`). What is still to be written has no reader then; without one for the
  // messages the work goes on.
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    controller.abort(
      new SealiftError('destination-failed', 'standard output is closed', { subject: '-', cause: error }),
    );
  });
  stderr.on('error', () => {});

  const code = await runSealift(process.argv.slice(2), {
    env,
    platform: process.platform,
    cwd: process.cwd(),
    home: os.homedir(),
    uid: process.getuid?.(),
    pid: process.pid,
    stdin,
    stdout,
    stderr,
    now: new Date(),
    clock: () => performance.now(),
    signal: controller.signal,
    stoppedBy: () => stoppedBy,
    interrupt: () => stop('SIGINT'),
    onAbandon: (tell) => {
      abandon = tell;
    },
    commands: COMMANDS,
    workflows,
  });
  await Promise.all([flushed(stdout), flushed(stderr)]);
  process.exit(code);
}

/** Pipes are written to in the background; what was written must be out before the process ends. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
