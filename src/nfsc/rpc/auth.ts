/**
 * Credentials on the wire: AUTH_NONE and AUTH_SYS (RFC 5531, section 8.1 and appendix A).
 */
import { hostname } from 'node:os';
import type { Credentials } from '../../base/credentials.ts';
import type { XdrWriter } from '../xdr/writer.ts';

/** auth_flavor (RFC 5531, section 8.2). */
export const AuthFlavor = { AUTH_NONE: 0, AUTH_SYS: 1 } as const;

export type AuthFlavorName = keyof typeof AuthFlavor;

/** The length of an opaque_auth body (RFC 5531, section 8.2). */
export const MAX_AUTH_BYTES = 400;
/** Groups that AUTH_SYS has room for (appendix A). */
export const MAX_AUTH_GROUPS = 16;

/** The stamp, uid, gid and the count of groups. */
const FIXED_BYTES = 4 * 4;

/** At most 255 bytes; shorter here so that the whole body stays below MAX_AUTH_BYTES. */
const machineName = Buffer.from(hostname()).subarray(0, 64);
const machineNameBytes = 4 + ((machineName.length + 3) & ~3);

/** cred and verf of a call: who asks, and nothing to prove it. */
export function encodeAuth(writer: XdrWriter, flavor: AuthFlavorName, as: Credentials): void {
  if (flavor === 'AUTH_NONE') {
    encodeAuthNone(writer);
  } else {
    const groupCount = Math.min(as.groups.length, MAX_AUTH_GROUPS);
    writer.uint32(AuthFlavor.AUTH_SYS);
    writer.uint32(FIXED_BYTES + machineNameBytes + 4 * groupCount);
    writer.uint32(0); // stamp: any number, and the same for each time a call is sent
    writer.opaque(machineName, 255);
    writer.uint32(as.uid);
    writer.uint32(as.gid);
    writer.uint32(groupCount);
    for (let index = 0; index < groupCount; index++) writer.uint32(as.groups[index] ?? 0);
  }
  encodeAuthNone(writer);
}

function encodeAuthNone(writer: XdrWriter): void {
  writer.uint32(AuthFlavor.AUTH_NONE);
  writer.uint32(0);
}
