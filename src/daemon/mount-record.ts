/**
 * What the daemon itself wants to know of an export at the next mount: how its server was reached,
 * so that a mount is possible while the server is away. It lies in front of what the file system
 * keeps in the same store: both come and go together.
 *
 *   0  8  magic "GVFSMNT1"
 *   8  4  length of the record, little endian
 *  12     the record, JSON; behind it the file system's bytes
 *
 * That the bytes are whole is the store's promise. A record that cannot be read is none.
 */
import type { FileHandle } from '../base/brand.ts';
import type { KnownExport } from '../nfsc/index.ts';
import type { KnowledgeStore } from '../vfs/ports.ts';

export interface MountRecord {
  readonly known: KnownExport;
  /** As it was when it was last measured. */
  readonly roundTripMs: number | undefined;
}

const MAGIC = Buffer.from('GVFSMNT1');
const HEADER_BYTES = 12;
/** RFC 1813, section 2.4: NFS3_FHSIZE. */
const HANDLE_MAX_BYTES = 64;

/** The record of the last mount; undefined where nothing is known, or nothing that can be read. */
export async function loadRecord(store: KnowledgeStore): Promise<MountRecord | undefined> {
  const blob = await store.load();
  return blob === undefined ? undefined : split(blob)?.record;
}

/** The store as the file system sees it: the record goes in front of whatever it saves. */
export function behindRecord(store: KnowledgeStore, record: () => MountRecord): KnowledgeStore {
  return {
    async load() {
      const blob = await store.load();
      return blob === undefined ? undefined : split(blob)?.rest;
    },
    save: (bytes) => store.save(Buffer.concat([encode(record()), bytes])),
    forget: () => store.forget(),
  };
}

function encode({ known, roundTripMs }: MountRecord): Buffer {
  const { root, timeDeltaNs, ...numbers } = known;
  const json = {
    ...numbers,
    root: root.toString('base64'),
    timeDeltaNs: String(timeDeltaNs),
    roundTripMs: roundTripMs ?? null,
  };
  const text = Buffer.from(JSON.stringify(json));
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(text.length, MAGIC.length);
  return Buffer.concat([header, text]);
}

function split(blob: Buffer): { record: MountRecord; rest: Buffer } | undefined {
  if (blob.length < HEADER_BYTES || !blob.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const end = HEADER_BYTES + blob.readUInt32LE(MAGIC.length);
  if (end > blob.length) return undefined;
  const record = decode(blob.subarray(HEADER_BYTES, end).toString());
  return record === undefined ? undefined : { record, rest: blob.subarray(end) };
}

function decode(text: string): MountRecord | undefined {
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof read !== 'object' || read === null) return undefined;
  const fields = read as Record<string, unknown>;
  const { port, mountPort, rtmax, wtmax, maxFileSize, flavor, timeDeltaNs, roundTripMs } = fields;
  const root = Buffer.from(typeof fields.root === 'string' ? fields.root : '', 'base64');
  if (root.length === 0 || root.length > HANDLE_MAX_BYTES) return undefined;
  if (!isPort(port) || !isPort(mountPort)) return undefined;
  if (!isCount(rtmax) || !isCount(wtmax) || !isCount(maxFileSize)) return undefined;
  if (flavor !== 'AUTH_SYS' && flavor !== 'AUTH_NONE') return undefined;
  if (typeof timeDeltaNs !== 'string' || !/^\d{1,19}$/.test(timeDeltaNs)) return undefined;
  return {
    known: {
      root: root as FileHandle,
      ...{ port, mountPort, rtmax, wtmax, maxFileSize, flavor },
      timeDeltaNs: BigInt(timeDeltaNs),
    },
    roundTripMs: typeof roundTripMs === 'number' ? roundTripMs : undefined,
  };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isPort(value: unknown): value is number {
  return isCount(value) && value >= 1 && value <= 65_535;
}
