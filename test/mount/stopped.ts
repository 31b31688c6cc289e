/** A process that is to do nothing more, without being told to end. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** SIGSTOP; resolves when all threads have stopped: one in a system call comes to its end first. */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  while (!isStopped(pid)) await sleep(1);
}

function isStopped(pid: number): boolean {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).every((task) => {
    const stat = readFileSync(join(tasks, task, 'stat'), 'utf8');
    return /^[TZ]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  });
}
