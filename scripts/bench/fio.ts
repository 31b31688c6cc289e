/** Runs one fio job and gives what it measured. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export type FioDirection = 'read' | 'write';

export interface FioMeasure {
  bytesPerSecond: number;
  operationsPerSecond: number;
  /** Mean time from submission to completion, microseconds. */
  meanLatencyUs: number;
  /** The latency that 99 of 100 operations stay below, microseconds. */
  p99LatencyUs: number;
  /** Bytes moved in all. */
  bytes: number;
}

export interface FioResult extends Record<FioDirection, FioMeasure> {
  /** Of the fsyncs that `fsync=N` asks for; NaN without any. */
  fsyncP99LatencyUs: number;
}

/** fio's job options by name; `true` is an option without a value. */
export type FioJob = Record<string, string | number | true>;

/**
 * Runs `job` (at least `filename` or `directory`, `rw`, `bs`). Rejects when fio fails, does not end
 * within `limitSeconds`, or reports an error in its job.
 */
export async function fio(job: FioJob, limitSeconds = 300): Promise<FioResult> {
  const named: FioJob = { name: 'gvfs', ...job };
  const options = Object.entries(named).map(([key, value]) =>
    value === true ? `--${key}` : `--${key}=${value}`,
  );
  const { stdout } = await promisify(execFile)('fio', ['--output-format=json', ...options], {
    timeout: limitSeconds * 1000,
    maxBuffer: 16 << 20,
  });
  const [result] = parse(stdout).jobs;
  if (result === undefined) throw new Error('fio reported no job');
  if (result.error !== 0) throw new Error(`fio failed with error ${result.error}`);
  return {
    read: measure(result.read),
    write: measure(result.write),
    fsyncP99LatencyUs: p99Us(result.sync?.lat_ns),
  };
}

/** The part that we use of fio's JSON (fio 3.33, HOWTO section "JSON output"). */
interface FioOutput {
  jobs: { error: number; read: FioSide; write: FioSide; sync?: { lat_ns: FioLatency } }[];
}

interface FioLatency {
  mean: number;
  percentile?: Record<string, number>;
}

interface FioSide {
  io_bytes: number;
  bw_bytes: number;
  iops: number;
  clat_ns: FioLatency;
}

/** fio may put warnings before its JSON. */
function parse(output: string): FioOutput {
  return JSON.parse(output.slice(output.indexOf('{'))) as FioOutput;
}

function measure(side: FioSide): FioMeasure {
  return {
    bytesPerSecond: side.bw_bytes,
    operationsPerSecond: side.iops,
    meanLatencyUs: side.clat_ns.mean / 1000,
    p99LatencyUs: p99Us(side.clat_ns),
    bytes: side.io_bytes,
  };
}

function p99Us(latency: FioLatency | undefined): number {
  return (latency?.percentile?.['99.000000'] ?? Number.NaN) / 1000;
}
