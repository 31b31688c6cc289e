/**
 * Control sockets that killed daemons have left behind: nobody answers at them, and they are taken
 * away. Only sockets go, only those that refuse a connection, and none that may be just being made:
 * between its birth and its first `listen` a socket refuses, too.
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';

/** One after the other; a directory with more has its others looked at by the next mount. */
const LOOKED_AT_MAX = 256;
const YOUNG_MS = 10_000;
const ANSWER_LIMIT_MS = 1_000;
/** `abc.sock`, or `abc.sock.PID` while it is made. */
const ours = /\.sock(\.\d+)?$/;

/** Looks at what lies beside `socket`, which stays; how many were removed. Never rejects. */
export async function removeStaleSockets(socket: string, youngMs = YOUNG_MS): Promise<number> {
  const directory = dirname(socket);
  const names = await readdir(directory).catch(() => []);
  let removed = 0;
  for (const name of names.filter((name) => ours.test(name)).slice(0, LOOKED_AT_MAX)) {
    const path = join(directory, name);
    if (path === socket) continue;
    const inode = oldSocket(path, youngMs);
    if (inode === undefined || !(await refuses(path))) continue;
    if (removeIfStill(path, inode, youngMs)) removed += 1;
  }
  return removed;
}

/** Its inode number; undefined when it is no socket, is young, or is gone. */
function oldSocket(path: string, youngMs: number): number | undefined {
  const status = lstatSync(path, { throwIfNoEntry: false });
  const isOld = status?.isSocket() === true && Date.now() - status.mtimeMs >= youngMs;
  return isOld ? status.ino : undefined;
}

/** A new daemon of the same mountpoint may have put its own there meanwhile. */
function removeIfStill(path: string, inode: number, youngMs: number): boolean {
  try {
    if (oldSocket(path, youngMs) !== inode) return false;
    unlinkSync(path);
    return true;
  } catch {
    return false; // it is another user's, or another daemon was faster
  }
}

function refuses(path: string): Promise<boolean> {
  return new Promise((done) => {
    const connection = connect(path);
    const end = (answer: boolean) => {
      clearTimeout(limit);
      connection.destroy();
      done(answer);
    };
    const limit = setTimeout(end, ANSWER_LIMIT_MS, false);
    connection.once('connect', () => end(false));
    connection.once('error', (error: NodeJS.ErrnoException) => end(error.code === 'ECONNREFUSED'));
  });
}
