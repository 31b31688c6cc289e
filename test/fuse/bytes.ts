/** Bytes as rows of hexadecimal text, each with a word on what it is. */

/** `bytes('01000000  flags', ...)`: of each row the hexadecimal words up to two blanks. */
export function bytes(...rows: readonly string[]): Buffer {
  return Buffer.concat(rows.map((row) => Buffer.from(hexOf(row), 'hex')));
}

/** A request: the header for `opcode`, then its arguments. */
export function request(
  opcode: number,
  args: Buffer = Buffer.alloc(0),
  { unique = 8, node = 1, uid = 1000, gid = 100, pid = 0 } = {},
): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt32LE(40 + args.length, 0);
  header.writeUInt32LE(opcode, 4);
  header.writeBigUInt64LE(BigInt(unique), 8);
  header.writeBigUInt64LE(BigInt(node), 16);
  header.writeUInt32LE(uid, 24);
  header.writeUInt32LE(gid, 28);
  header.writeUInt32LE(pid, 32);
  return Buffer.concat([header, args]);
}

/** Numbers of 8 bytes. */
export function u64(...numbers: readonly (number | bigint)[]): Buffer {
  const buffer = Buffer.alloc(numbers.length * 8);
  numbers.forEach((number, i) => {
    buffer.writeBigUInt64LE(BigInt(number), i * 8);
  });
  return buffer;
}

/** Numbers of 4 bytes. */
export function u32(...numbers: readonly number[]): Buffer {
  const buffer = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, i) => {
    buffer.writeUInt32LE(number, i * 4);
  });
  return buffer;
}

function hexOf(row: string): string {
  return (row.split('  ')[0] ?? '').replaceAll(' ', '');
}
