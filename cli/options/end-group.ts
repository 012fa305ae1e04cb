/** Ends a group of processes, if there is one of that number. */
export function endGroup(group: number, signal: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(-group, signal);
  } catch {
    // It has ended.
  }
}
