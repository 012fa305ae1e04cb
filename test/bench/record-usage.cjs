// Loaded into the measured program (NODE_OPTIONS=--require): at its end writes peak memory, bytes written and CPU time.
// VmHWM and not getrusage: ru_maxrss of a child starts with what its parent had.
const { isMainThread } = require('node:worker_threads');
const { readFileSync, writeFileSync } = require('node:fs');

const file = process.env.SEALIFT_BENCH_USAGE;
if (isMainThread && file !== undefined) {
  process.on('exit', () => {
    const status = readFileSync('/proc/self/status', 'utf8');
    const cpu = process.cpuUsage();
    const io = readFileSync('/proc/self/io', 'utf8');
    writeFileSync(
      file,
      JSON.stringify({
        peakBytes: Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024,
        cpuSeconds: (cpu.user + cpu.system) / 1e6,
        writtenBytes: Number(/^wchar: (\d+)/m.exec(io)?.[1]),
      }),
    );
  });
}
