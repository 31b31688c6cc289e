/**
 * The wire, operation by operation: a request's bytes become one call, the call's result becomes
 * the reply's bytes. Layouts are those of linux/fuse.h, written out by hand.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { err, ok } from '../../src/base/result.ts';
import { localError } from '../../src/errors/fs-error.ts';
import { Opcode, type OpcodeName } from '../../src/fuse/abi.ts';
import { Callers } from '../../src/fuse/caller.ts';
import { operations } from '../../src/fuse/operations.ts';
import { Session } from '../../src/fuse/session.ts';
import type { Caller, Dirent, Payload } from '../../src/vfs/operations.ts';
import type { Attributes } from '../../src/vfs/ports.ts';
import { bytes, request, u32, u64 } from './bytes.ts';
import { FakeDevice, type Reply } from './fake-device.ts';
import { type Call, type Script, scriptedFs } from './scripted-fs.ts';

const attributes: Attributes = {
  type: 'regular',
  mode: 0o640,
  nlink: 2,
  uid: 1000,
  gid: 100,
  size: 0x1234,
  used: 8192,
  rdev: { major: 0, minor: 0 },
  fsid: 1n,
  fileid: 0x1122334455n,
  atimeNs: 1_000_000_002n,
  mtimeNs: 3_000_000_004n,
  ctimeNs: -1n,
};
const attr = { ino: 42, attributes, attributesValidMs: 2500 };
const entry = { ...attr, generation: 7, entryValidMs: 1000 };

const FUSE_ATTR = [
  '55443322 11000000  ino',
  '34120000 00000000  size',
  '10000000 00000000  blocks',
  '01000000 00000000  atime',
  '03000000 00000000  mtime',
  'ffffffff ffffffff  ctime: a second before 1970',
  '02000000  atimensec',
  '04000000  mtimensec',
  'ffc99a3b  ctimensec',
  'a0810000  mode',
  '02000000  nlink',
  'e8030000  uid',
  '64000000  gid',
  '00000000  rdev',
  '00001000  blksize',
  '00000000  flags',
];
const FUSE_ATTR_OUT = [
  '02000000 00000000  attr_valid',
  '0065cd1d  attr_valid_nsec',
  '00000000  dummy',
  ...FUSE_ATTR,
];
const FUSE_ENTRY_OUT = [
  '2a000000 00000000  nodeid',
  '07000000 00000000  generation',
  '01000000 00000000  entry_valid',
  '02000000 00000000  attr_valid',
  '00000000  entry_valid_nsec',
  '0065cd1d  attr_valid_nsec',
  ...FUSE_ATTR,
];
const FUSE_OPEN_OUT = [
  '09000000 00000000  fh',
  '02000000  FOPEN_KEEP_CACHE',
  '00000000  backing_id',
];

const A = Buffer.from('a');
const B = Buffer.from('b');
const NUL_A = '6100  a';
const NUL_B = '6200  b';
const opened = { handle: 9, keepCache: true };

interface Case {
  readonly op: OpcodeName;
  readonly what?: string;
  readonly node?: number;
  readonly args?: readonly string[];
  readonly script: Script;
  /** The call without its caller; `bytes` of a payload stand for the payload. */
  readonly call: Call;
  readonly reply?: readonly string[];
}

const cases: readonly Case[] = [
  {
    op: 'LOOKUP',
    args: [NUL_A],
    script: { lookup: ok(entry) },
    call: ['lookup', 1, A],
    reply: FUSE_ENTRY_OUT,
  },
  {
    op: 'LOOKUP',
    what: 'of what does not exist',
    args: [NUL_A],
    script: { lookup: ok({ ino: 0, entryValidMs: 1500 }) },
    call: ['lookup', 1, A],
    reply: [
      '00000000 00000000  nodeid: no such name',
      '00000000 00000000  generation',
      '01000000 00000000  entry_valid',
      '00000000 00000000  attr_valid',
      '0065cd1d  entry_valid_nsec',
      '00000000  attr_valid_nsec',
      `${'00'.repeat(88)}  attr`,
    ],
  },
  {
    op: 'GETATTR',
    args: ['00000000  flags', '00000000  dummy', '09000000 00000000  fh, not to be believed'],
    script: { getattr: ok(attr) },
    call: ['getattr', 1],
    reply: FUSE_ATTR_OUT,
  },
  {
    op: 'GETATTR',
    what: 'of an open file',
    args: ['01000000  FUSE_GETATTR_FH', '00000000  dummy', '09000000 00000000  fh'],
    script: { getattr: ok(attr) },
    call: ['getattr', 1, 9],
    reply: FUSE_ATTR_OUT,
  },
  {
    op: 'SETATTR',
    what: 'with all that can be set',
    args: [
      '7f000000  MODE UID GID SIZE ATIME MTIME FH',
      '00000000  padding',
      '09000000 00000000  fh',
      '00100000 00000000  size',
      'ffffffff ffffffff  lock_owner',
      '05000000 00000000  atime',
      'ffffffff ffffffff  mtime: before 1970',
      'ffffffff ffffffff  ctime',
      '06000000  atimensec',
      '07000000  mtimensec',
      'ffffffff  ctimensec',
      'ff8f0000  mode: type bits are not permissions',
      '00000000  unused4',
      'e8030000  uid',
      '64000000  gid',
      '00000000  unused5',
    ],
    script: { setattr: ok(attr) },
    call: [
      'setattr',
      1,
      {
        mode: 0o7777,
        uid: 1000,
        gid: 100,
        size: 4096,
        atime: 5_000_000_006n,
        mtime: -999_999_993n,
      },
      9,
    ],
    reply: FUSE_ATTR_OUT,
  },
  {
    op: 'SETATTR',
    what: 'of the times, to now',
    args: [
      'b0010000  ATIME MTIME ATIME_NOW MTIME_NOW',
      '00000000  padding',
      `${'ff'.repeat(48)}  fh size lock_owner atime mtime ctime`,
      `${'ff'.repeat(32)}  the rest`,
    ],
    script: { setattr: ok(attr) },
    call: [
      'setattr',
      1,
      {
        mode: undefined,
        uid: undefined,
        gid: undefined,
        size: undefined,
        atime: 'now',
        mtime: 'now',
      },
    ],
    reply: FUSE_ATTR_OUT,
  },
  {
    op: 'READLINK',
    script: { readlink: ok(Buffer.from('to/b')) },
    call: ['readlink', 1],
    reply: ['746f2f62  not NUL-terminated'],
  },
  {
    op: 'SYMLINK',
    args: [NUL_A, '2f2e2e00  /..'],
    script: { symlink: ok(entry) },
    call: ['symlink', 1, A, Buffer.from('/..')],
    reply: FUSE_ENTRY_OUT,
  },
  {
    op: 'MKNOD',
    args: [
      'b6610000  S_IFBLK | 0666',
      '12003400  rdev',
      '12000000  umask',
      '00000000  padding',
      NUL_A,
    ],
    script: { mknod: ok(entry) },
    call: ['mknod', 1, A, 0o060666, 0x340012],
    reply: FUSE_ENTRY_OUT,
  },
  {
    op: 'MKDIR',
    args: ['ed410000  S_IFDIR | 0755', '12000000  umask', NUL_A],
    script: { mkdir: ok(entry) },
    call: ['mkdir', 1, A, 0o755],
    reply: FUSE_ENTRY_OUT,
  },
  { op: 'UNLINK', args: [NUL_A], script: { unlink: ok(undefined) }, call: ['unlink', 1, A] },
  { op: 'RMDIR', args: [NUL_A], script: { rmdir: ok(undefined) }, call: ['rmdir', 1, A] },
  {
    op: 'RENAME',
    args: ['05000000 00000000  newdir', NUL_A, NUL_B],
    script: { rename: ok(undefined) },
    call: ['rename', 1, A, 5, B, 0],
  },
  {
    op: 'RENAME2',
    args: ['05000000 00000000  newdir', '01000000  NOREPLACE', '00000000  padding', NUL_A, NUL_B],
    script: { rename: ok(undefined) },
    call: ['rename', 1, A, 5, B, 1],
  },
  {
    op: 'LINK',
    args: ['2a000000 00000000  oldnodeid', NUL_B],
    script: { link: ok(entry) },
    call: ['link', 42, 1, B],
    reply: FUSE_ENTRY_OUT,
  },
  {
    op: 'OPEN',
    args: ['02800000  O_RDWR | O_LARGEFILE', '00000000  open_flags'],
    script: { open: ok(opened) },
    call: ['open', 1, 0x8002],
    reply: FUSE_OPEN_OUT,
  },
  {
    op: 'CREATE',
    args: [
      'c1800000  O_WRONLY | O_CREAT | O_EXCL | O_LARGEFILE',
      'a4810000  S_IFREG | 0644',
      '12000000  umask',
      '00000000  open_flags',
      NUL_A,
    ],
    script: { create: ok({ entry, opened }) },
    call: ['create', 1, A, 0o644, 0x80c1],
    reply: [...FUSE_ENTRY_OUT, ...FUSE_OPEN_OUT],
  },
  {
    op: 'READ',
    args: [
      '09000000 00000000  fh',
      '00000000 01000000  offset: 4 GiB',
      '04000000  size',
      '00000000  read_flags',
      'ffffffff ffffffff  lock_owner',
      '00800000  flags',
      '00000000  padding',
    ],
    script: { read: ok({ kind: 'bytes', bytes: [A, B], release() {} }) },
    call: ['read', 9, 2 ** 32, 4],
    reply: ['6162  fewer than asked: the end of the file'],
  },
  {
    op: 'WRITE',
    args: [
      '09000000 00000000  fh',
      'ffffffff ffff0f00  offset: 2^52-1',
      '02000000  size',
      '00000000  write_flags',
      'ffffffff ffffffff  lock_owner',
      '01800000  flags',
      '00000000  padding',
      '6162  ab',
    ],
    script: { write: ok(2) },
    call: ['write', 9, 2 ** 52 - 1, Buffer.from('ab')],
    reply: ['02000000  size', '00000000  padding'],
  },
  {
    op: 'STATFS',
    script: {
      statfs: ok({
        totalBytes: 2 ** 44,
        freeBytes: 8191,
        availableBytes: 4096,
        totalFiles: 3,
        freeFiles: 2,
        availableFiles: 1,
      }),
    },
    call: ['statfs', 1],
    reply: [
      '00000000 01000000  blocks',
      '01000000 00000000  bfree',
      '01000000 00000000  bavail',
      '03000000 00000000  files',
      '02000000 00000000  ffree',
      '00100000  bsize',
      'ff000000  namelen',
      '00100000  frsize',
      '00000000  padding',
      `${'00'.repeat(24)}  spare`,
    ],
  },
  {
    op: 'RELEASE',
    args: ['09000000 00000000  fh', `${'00'.repeat(16)}  flags, release_flags, lock_owner`],
    script: {},
    call: ['release', 9],
  },
  {
    op: 'FSYNC',
    args: ['09000000 00000000  fh', '01000000  FDATASYNC', '00000000  padding'],
    script: { fsync: ok(undefined) },
    call: ['fsync', 9, true],
  },
  {
    op: 'FLUSH',
    args: ['09000000 00000000  fh', `${'ff'.repeat(16)}  unused, padding, lock_owner`],
    script: { flush: ok(undefined) },
    call: ['flush', 9],
  },
  {
    op: 'OPENDIR',
    args: ['00000100  flags', '00000000  open_flags'],
    script: { opendir: ok(9) },
    call: ['opendir', 1],
    reply: ['09000000 00000000  fh', '00000000  open_flags', '00000000  backing_id'],
  },
  {
    op: 'RELEASEDIR',
    args: ['09000000 00000000  fh', `${'00'.repeat(16)}  flags, release_flags, lock_owner`],
    script: {},
    call: ['releasedir', 9],
  },
  {
    op: 'FSYNCDIR',
    args: ['09000000 00000000  fh', '00000000  fsync_flags', '00000000  padding'],
    script: { fsyncdir: ok(undefined) },
    call: ['fsyncdir', 9],
  },
  {
    op: 'ACCESS',
    args: ['06000000  R_OK | W_OK', '00000000  padding'],
    script: { access: ok(undefined) },
    call: ['access', 1, 6],
  },
  {
    op: 'LSEEK',
    args: ['09000000 00000000  fh', '00100000 00000000  offset', '04000000  SEEK_HOLE', '00000000'],
    script: { lseek: ok(2 ** 40) },
    call: ['lseek', 9, 4096, 4],
    reply: ['00000000 00010000  offset'],
  },
];

describe('each operation of the table', () => {
  for (const test of cases) {
    it(`${test.op} ${test.what ?? ''}`, async () => {
      const { calls, replies } = await ask(
        test.script,
        Opcode[test.op],
        bytes(...(test.args ?? [])),
      );
      assert.deepEqual(calls, [test.call]);
      assert.deepEqual(replies, [{ unique: 8, errno: 0, body: bytes(...(test.reply ?? [])) }]);
    });
  }

  it('is covered by a case here', () => {
    const covered = new Set([...cases.map(({ op }) => op), 'READDIR', 'READDIRPLUS']);
    const served = operations.flatMap((operation) => operation?.name ?? []);
    assert.deepEqual([...covered].sort(), [...served].sort());
  });
});

describe('a listing', () => {
  const args = bytes(
    '09000000 00000000  fh',
    '02000000 00000000  offset',
    '40000000  size',
    '00000000  read_flags',
    '00000000 00000000  lock_owner',
    '00000000  flags',
    '00000000  padding',
  );
  const dirents: Dirent[] = [
    { name: Buffer.from('.'), ino: 1, type: 'directory', nextOffset: 3n },
    { name: Buffer.from('12345678'), ino: 42, type: undefined, nextOffset: 2n ** 63n - 1n },
  ];

  it('READDIR: names, padded to 8, as many as fit', async () => {
    const accepted: boolean[] = [];
    const { calls, replies } = await ask(
      {
        readdir: async (...[, , , , take]: [unknown, unknown, unknown, unknown, Take]) => {
          for (const dirent of [...dirents, ...dirents]) accepted.push(take(dirent));
          return ok(undefined);
        },
      },
      Opcode.READDIR,
      args,
    );
    assert.deepEqual(calls[0]?.slice(0, 4), ['readdir', 9, 2n, false]);
    assert.deepEqual(accepted, [true, true, false, false]);
    const body = bytes(
      '01000000 00000000  ino',
      '03000000 00000000  off',
      '01000000  namelen',
      '04000000  DT_DIR',
      '2e000000 00000000  name',
      '2a000000 00000000  ino',
      'ffffffff ffffff7f  off',
      '08000000  namelen',
      '00000000  DT_UNKNOWN',
      '31323334 35363738  name',
    );
    assert.deepEqual(replies, [{ unique: 8, errno: 0, body }]);
  });

  it('READDIRPLUS: each name after its entry, none for dots', async () => {
    const { calls, replies } = await ask(
      {
        readdir: async (...[, , , , take]: [unknown, unknown, unknown, unknown, Take]) => {
          take(dirents[0] as Dirent);
          take({ ...(dirents[1] as Dirent), entry: entry as never });
          return ok(undefined);
        },
      },
      Opcode.READDIRPLUS,
      Buffer.concat([args.subarray(0, 16), u32(4096), args.subarray(20)]),
    );
    assert.deepEqual(calls.length, 1);
    const body = bytes(
      `${'00'.repeat(128)}  no entry`,
      '01000000 00000000 03000000 00000000 01000000 04000000 2e000000 00000000  .',
      ...FUSE_ENTRY_OUT,
      '2a000000 00000000 ffffffff ffffff7f 08000000 00000000 31323334 35363738  name',
    );
    assert.deepEqual(replies, [{ unique: 8, errno: 0, body }]);
  });

  it('gives back the entries of a listing that fails half-way', async () => {
    const { calls, replies } = await ask(
      {
        readdir: async (...[, , , , take]: [unknown, unknown, unknown, unknown, Take]) => {
          take({ ...(dirents[1] as Dirent), entry: entry as never });
          return err(localError('EIO', 'readdir'));
        },
      },
      Opcode.READDIRPLUS,
      Buffer.concat([args.subarray(0, 16), u32(4096), args.subarray(20)]),
    );
    assert.deepEqual(calls.slice(1), [['forget', 42, 1]]);
    assert.deepEqual(replies, [{ unique: 8, errno: 5, body: Buffer.alloc(0) }]);
  });
});

describe('what is refused', () => {
  const refused = async (opcode: number, args: Buffer, errno: number) => {
    const { calls, replies } = await ask({}, opcode, args);
    assert.deepEqual(calls, []);
    assert.deepEqual(replies, [{ unique: 8, errno, body: Buffer.alloc(0) }]);
  };

  it('an opcode that is not served: ENOSYS', async () => {
    for (const opcode of [
      21, 22, 23, 24, 31, 32, 33, 37, 39, 40, 43, 47, 50, 51, 52, 0, 7, 19, 4096,
    ]) {
      await refused(opcode, u64(0, 0, 0, 0), 38);
    }
  });

  it('a message that is too short: EIO', async () => {
    for (const operation of operations) {
      if (operation === undefined || ['READLINK', 'STATFS', 'OPENDIR'].includes(operation.name)) {
        continue;
      }
      await refused(Opcode[operation.name], Buffer.alloc(0), 5);
    }
  });

  it('a name that is none, or is not ended', async () => {
    await refused(Opcode.LOOKUP, Buffer.from('a'), 5);
    await refused(Opcode.LOOKUP, Buffer.from('\0'), 22);
    await refused(Opcode.LOOKUP, Buffer.from('.\0'), 22);
    await refused(Opcode.LOOKUP, Buffer.from('..\0'), 22);
    await refused(Opcode.LOOKUP, Buffer.from('a/b\0'), 22);
    await refused(Opcode.LOOKUP, Buffer.from(`${'n'.repeat(256)}\0`), 36);
  });

  it('offsets above 2^53-1', async () => {
    const beyond = 2n ** 53n;
    await refused(Opcode.READ, Buffer.concat([u64(9, beyond), u32(1, 0), u64(0), u32(0, 0)]), 75);
    const write = Buffer.concat([u64(9, beyond), u32(1, 0), u64(0), u32(0, 0), A]);
    await refused(Opcode.WRITE, write, 27);
    const end = Buffer.concat([u64(9, beyond - 1n), u32(1, 0), u64(0), u32(0, 0), A]);
    await refused(Opcode.WRITE, end, 27);
    await refused(Opcode.LSEEK, Buffer.concat([u64(9, beyond), u32(3, 0)]), 75);
    const size = Buffer.concat([u32(8, 0), u64(0, beyond, 0, 0, 0, 0), Buffer.alloc(32)]);
    await refused(Opcode.SETATTR, size, 27);
  });

  it('a WRITE whose payload is not as long as it says', async () => {
    const head = [u64(9, 0), u32(2, 0), u64(0), u32(0, 0)];
    await refused(Opcode.WRITE, Buffer.concat([...head, A]), 5);
    await refused(Opcode.WRITE, Buffer.concat([...head, Buffer.alloc(3)]), 5);
  });

  it('a READ above 1 MiB', async () => {
    await refused(
      Opcode.READ,
      Buffer.concat([u64(9, 0), u32(2 ** 20 + 1, 0), u64(0), u32(0, 0)]),
      5,
    );
  });
});

it('a file with bytes never shows 0 blocks, an empty one does', async () => {
  for (const [size, used, blocks] of [
    [1, 0, 1n],
    [0, 0, 0n],
    [4096, 513, 2n],
  ] as const) {
    const script = { getattr: ok({ ...attr, attributes: { ...attributes, size, used } }) };
    const { replies } = await ask(script, Opcode.GETATTR, u64(0, 0));
    assert.equal(replies[0]?.body.readBigUInt64LE(16 + 16), blocks);
  }
});

it('device numbers are packed as the kernel packs them', async () => {
  const rdev = { major: 0xabc, minor: 0xdef12 };
  const script = { getattr: ok({ ...attr, attributes: { ...attributes, rdev } }) };
  const { replies } = await ask(script, Opcode.GETATTR, u64(0, 0));
  assert.equal(replies[0]?.body.readUInt32LE(16 + 76), 0xdefabc12);
});

type Take = (dirent: Dirent) => boolean;

/** One request on a fresh session; of calls, the caller is checked and left out. */
async function ask(
  script: Script,
  opcode: number,
  args: Buffer,
): Promise<{ calls: Call[]; replies: Reply[] }> {
  const device = new FakeDevice();
  const calls: Call[] = [];
  const fs = scriptedFs(settled(script), calls);
  const callers = new Callers(systemClock, () => 'Groups:\t100 7 8 \n');
  device.start(
    new Session({
      device,
      fs,
      callers,
      clock: systemClock,
      wishes: { autoInvalidate: true, passthrough: false },
    }),
  );
  await device.init();
  await device.feed(request(opcode, args, { pid: 77 }));
  return { calls: calls.map(withoutCaller), replies: device.replies };
}

/** Plain results as promises. */
function settled(script: Script): Script {
  return Object.fromEntries(
    Object.entries(script).map(([method, answer]) => [
      method,
      typeof answer === 'function' ? answer : () => Promise.resolve(answer),
    ]),
  );
}

function withoutCaller([method, ...args]: Call): Call {
  if (['release', 'releasedir', 'forget'].includes(method)) return [method, ...args];
  const [caller, ...rest] = args;
  assert.deepEqual((caller as Caller).credentials, { uid: 1000, gid: 100, groups: [7, 8] });
  assert.equal((caller as Caller).pid, 77);
  return [method, ...rest.map((arg) => (isPayload(arg) ? arg.bytes : arg))];
}

function isPayload(arg: unknown): arg is Payload {
  return typeof arg === 'object' && arg !== null && 'bytes' in arg;
}
