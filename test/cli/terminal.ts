/** Runs a program in a terminal of its own (python's pty), types when it asks, and tells what was on the screen. */
import { spawn, spawnSync } from 'node:child_process';

export const HAS_TERMINAL = spawnSync('python3', ['-c', 'import pty'], { stdio: 'ignore' }).status === 0;

// Each step waits for a text behind what was seen before, then types; `^SIG` sends a signal instead, `^SIZE` resizes.
const DRIVER = `
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
job = json.load(sys.stdin)
pid, fd = pty.fork()
if pid == 0:
    os.execvpe(job["argv"][0], job["argv"], job["env"])
def resize(columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
resize(80, 24)
before = termios.tcgetattr(fd)
seen, mark, steps, end, echo = b"", 0, list(job["steps"]), time.time() + 30, None
status = None
while time.time() < end:
    while steps and steps[0][0].encode() in seen[mark:]:
        text, typed = steps.pop(0)
        mark = seen.index(text.encode(), mark) + len(text.encode())
        time.sleep(0.1)
        if typed.startswith("^SIZE"):
            resize(*map(int, typed.split()[1:]))
        elif typed.startswith("^SIG"):
            os.kill(pid, getattr(signal, typed[1:]))
        else:
            os.write(fd, typed.encode())
    ready, _, _ = select.select([fd], [], [], 0.1)
    if ready:
        try:
            part = os.read(fd, 65536)
        except OSError:
            part = b""
        if part == b"":
            break
        seen += part
else:
    os.kill(pid, signal.SIGKILL)
_, status = os.waitpid(pid, 0)
after = termios.tcgetattr(fd)
flags = after[3]
cooked = bool(flags & termios.ICANON) and bool(flags & termios.ECHO)
json.dump({"screen": seen.decode("utf8", "replace"), "code": os.waitstatus_to_exitcode(status), "left": len(steps), "cooked": cooked, "same": before == after}, sys.stdout)
`;

export interface TerminalRun {
  /** Everything that was written, escape sequences included. */
  readonly screen: string;
  /** Negative for a signal. */
  readonly code: number;
  /** Steps whose text never came. */
  readonly left: number;
  /** The terminal takes lines and shows what is typed, as before. */
  readonly cooked: boolean;
  /** Every setting of the terminal is what it was (termios). */
  readonly same: boolean;
}

export function runInTerminal(
  argv: readonly string[],
  env: Record<string, string>,
  steps: readonly (readonly [waitFor: string, type: string])[],
  cwd?: string,
): Promise<TerminalRun> {
  return new Promise((resolve, reject) => {
    const child = spawn('python3', ['-c', DRIVER], { stdio: ['pipe', 'pipe', 'inherit'], cwd });
    let out = '';
    child.stdout.on('data', (part: Buffer) => {
      out += part.toString();
    });
    child.once('error', reject);
    child.once('close', () => {
      try {
        resolve(JSON.parse(out) as TerminalRun);
      } catch (error) {
        reject(error as Error);
      }
    });
    child.stdin.end(JSON.stringify({ argv, env, steps }));
  });
}
