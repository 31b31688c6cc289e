/**
 * Changes of a file at the server, one call each, whose answers are taken in as ours.
 */
import type { Credentials } from '../base/credentials.ts';
import { err, ok } from '../base/result.ts';
import type { AttributeCache, ChangeEffect } from './attribute-cache.ts';
import type { Inode } from './inodes.ts';
import type { MountState } from './mount-state.ts';
import type { Outcome } from './operations.ts';
import type { ImageServer, SetAttributes, Stability, WccData, WriteOk } from './ports.ts';

/** What a change is sent to, and what takes its answer in. */
export interface ChangeContext {
  readonly server: ImageServer;
  readonly attributes: AttributeCache;
}

/** One WRITE. The count is checked. */
export async function sendWrite(
  { server, attributes }: ChangeContext,
  inode: Inode,
  as: Credentials,
  offset: number,
  bytes: Buffer,
  stability: Stability,
): Outcome<WriteOk> {
  const change = attributes.beginChange(inode.attributes);
  const result = await server.write(as, inode.file, offset, bytes, stability);
  if (!result.ok) {
    attributes.endChange(inode.attributes, change, result.error.wcc);
    return result;
  }
  const { count } = result.value;
  const wcc = await toldAfter(server, as, inode, result.value.wcc);
  attributes.endChange(inode.attributes, change, wcc, { sizeAtLeast: offset + count });
  if (count < 1 || count > bytes.length) {
    const message = `WRITE: ${count} of ${bytes.length} bytes written, says the server`;
    return err({ errno: 'EIO', code: 'PROTOCOL', operation: 'WRITE', message });
  }
  return result;
}

/** One SETATTR. Answers whether the server told the new attributes. */
export async function sendSetattr(
  state: MountState,
  as: Credentials,
  inode: Inode,
  wanted: SetAttributes,
): Outcome<boolean> {
  if (inode.image !== undefined && (wanted.size !== undefined || wanted.mtime !== undefined)) {
    await lookBefore(state, as, inode, 'set');
  }
  const change = state.beginChange(inode);
  const result = await state.server.setattr(as, inode.file, wanted);
  const told = result.ok ? result.value : result.error.wcc;
  const wcc = result.ok ? await toldAfter(state.server, as, inode, told) : told;
  state.endChange(inode, change, wcc, effectOf(wanted, result.ok));
  return result.ok ? ok(wcc?.after !== undefined) : state.failed(inode, result.error);
}

function effectOf({ size, mtime }: SetAttributes, isDone: boolean): ChangeEffect {
  if (size === undefined) return { keeps: mtime === undefined ? 'size and mtime' : 'size' };
  return isDone ? { size } : {};
}

/**
 * The wcc of a change of ours, its outcome asked for if the server did not tell it: as long as it
 * is unknown, another client's change passes for ours, and what the cache has for true.
 */
export async function toldAfter(
  server: ImageServer,
  as: Credentials,
  inode: Inode,
  wcc: WccData | undefined,
): Promise<WccData | undefined> {
  if (inode.image === undefined || wcc?.after !== undefined) return wcc;
  const asked = await server.getattr(as, inode.file);
  return asked.ok ? { ...wcc, after: asked.value } : wcc;
}

/** Asks for the attributes before a change whose answer will not tell what it found. */
export async function lookBefore(
  { server, attributes }: ChangeContext,
  as: Credentials,
  inode: Inode,
  change: 'write' | 'set',
): Promise<void> {
  if (!attributes.mustLook(inode.attributes, change)) return;
  const stamp = attributes.stamp();
  const asked = await server.getattr(as, inode.file);
  if (!asked.ok || !attributes.observe(inode.attributes, asked.value, stamp)) return;
  attributes.proved(inode.attributes);
}
