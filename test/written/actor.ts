/** A program on the mount that does to one file what it is told, a system call at a time. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type Child, PYTHON } from '../mount/children.ts';
import type { Mount } from '../mount/mount-fixture.ts';

/** Answers a line with a line: `done`, a sum, or the name of the error. */
const ACTOR = `import base64, errno, hashlib, os, sys
path = sys.argv[1]
held = None
print('running', flush=True)
def act(what, words):
    global held
    if what == 'hold': held = os.open(path, os.O_RDWR | os.O_CREAT)
    if what == 'leave':
        fd, held = held, None
        os.close(fd)
        return 'done'
    fd = os.open(path, os.O_RDWR) if held is None else held
    answer = 'done'
    if what == 'write':
        piece = base64.b64decode(words[1])
        assert os.pwrite(fd, piece, int(words[0])) == len(piece)
    if what == 'cut': os.ftruncate(fd, int(words[0]))
    if what == 'sync': os.fsync(fd)
    if what == 'sum':
        digest, at = hashlib.sha256(), 0
        while piece := os.pread(fd, 1 << 20, at):
            digest.update(piece)
            at += len(piece)
        answer = digest.hexdigest()
    if held is None: os.close(fd)
    return answer
for line in sys.stdin:
    what, *words = line.split()
    try: answer = act(what, words)
    except OSError as error: answer = errno.errorcode[error.errno]
    print(answer, flush=True)`;

export class Actor {
  readonly #child: Child;

  static async on(mount: Mount, name: string): Promise<Actor> {
    const args = ['-c', ACTOR, join(mount.mountpoint, name)];
    const child = await mount.children.start(PYTHON, args, { interactive: true });
    await child.says('running\n');
    return new Actor(child);
  }

  private constructor(child: Child) {
    this.#child = child;
  }

  /** Opens it, made where it is missing, for all that follows; else each act opens and closes it. */
  hold(): Promise<string> {
    return this.#child.ask('hold');
  }

  /** Closes it: the answer is close(2)'s. */
  leave(): Promise<string> {
    return this.#child.ask('leave');
  }

  write(offset: number, bytes: Buffer): Promise<string> {
    return this.#child.ask(`write ${offset} ${bytes.toString('base64')}`);
  }

  /** ftruncate(2) */
  cut(size: number): Promise<string> {
    return this.#child.ask(`cut ${size}`);
  }

  /** fsync(2) */
  sync(): Promise<string> {
    return this.#child.ask('sync');
  }

  async sees(bytes: Buffer): Promise<boolean> {
    const sum = createHash('sha256').update(bytes).digest('hex');
    const found = await this.#child.ask('sum');
    assert.equal(found.length, sum.length, `reading failed: ${found}`);
    return found === sum;
  }

  async end(): Promise<void> {
    this.#child.endInput();
    await this.#child.succeed();
  }
}
