/** One line that says what a result was measured on. */
import { availableParallelism, cpus, release, totalmem } from 'node:os';

export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU';
  const memoryGib = Math.round(totalmem() / 2 ** 30);
  const parts = [
    `${model}, ${availableParallelism()} cores`,
    `${memoryGib} GiB`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
  ];
  return parts.join(', ');
}
