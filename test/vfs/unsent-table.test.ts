/**
 * Every operation against every state of a file, in an exclusive session with write=back: what its
 * caller is answered, whether it waits for the server, and that in the end the server has what the
 * caller was told that it did.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HandleId, Ino } from '../../src/base/brand.ts';
import { type Outcome, ROOT_INO } from '../../src/vfs/operations.ts';
import { ManualClock } from '../base/manual-clock.ts';
import { LocalImages } from './local-images.ts';
import { MemoryServer } from './memory-server.ts';
import { alice, by, errno, gate, Mounted, name, O_RDWR, settled, value } from './mounted.ts';

const O_TRUNC = 0o1000;
/** Three pages of the fake's, the last one not whole. */
const old = '01234567abcdefghXYZ';
/** The first page is unsent. */
const dirty = `DIRTY!!!${old.slice(8)}`;

const states = ['clean', 'dirty', 'sending', 'conflict', 'away', 'unmounting'] as const;
type State = (typeof states)[number];

interface Place {
  readonly server: MemoryServer;
  readonly images: LocalImages;
  readonly mounted: Mounted;
  readonly ino: Ino;
  readonly handle: HandleId;
}

interface Operation {
  readonly run: (place: Place) => Outcome<unknown>;
  /** What it makes of the bytes; undefined: the file is gone. */
  readonly makes: (bytes: string) => string | undefined;
  /** Whether it is answered while the server is not. */
  readonly away: 'answers' | 'waits';
  /** What else than 'ok' it is answered in a state. */
  readonly answers?: Partial<Record<State, string>>;
}

const same = (bytes: string) => bytes;
const put = (bytes: string, at: number, more: string) =>
  bytes.padEnd(at, '\0').slice(0, at) + more + bytes.slice(at + more.length);

const operations: Record<string, Operation> = {
  'read of what is unsent': {
    run: async ({ mounted, handle }) => mounted.fs.read(by(alice), handle, 0, 8),
    makes: same,
    away: 'answers',
  },
  'read of what is not here': {
    run: async ({ mounted, handle }) => mounted.fs.read(by(alice), handle, 8, 8),
    makes: same,
    away: 'waits',
  },
  'write of a whole page': {
    run: ({ mounted, handle }) => mounted.write(handle, 8, 'newpage!'),
    makes: (bytes) => put(bytes, 8, 'newpage!'),
    away: 'answers',
  },
  'write of a part of an unsent page': {
    run: ({ mounted, handle }) => mounted.write(handle, 2, '__'),
    makes: (bytes) => put(bytes, 2, '__'),
    away: 'answers',
  },
  'write of a part of an absent page': {
    run: ({ mounted, handle }) => mounted.write(handle, 9, '__'),
    makes: (bytes) => put(bytes, 9, '__'),
    away: 'waits',
  },
  'write behind the end': {
    run: ({ mounted, handle }) => mounted.write(handle, 32, 'far away'),
    makes: (bytes) => put(bytes, 32, 'far away'),
    away: 'answers',
  },
  'truncation into what is unsent': {
    run: ({ mounted, ino, handle }) => mounted.fs.setattr(by(alice), ino, { size: 4 }, handle),
    makes: (bytes) => bytes.slice(0, 4),
    away: 'waits',
  },
  'truncation to nothing': {
    run: ({ mounted, ino, handle }) => mounted.fs.setattr(by(alice), ino, { size: 0 }, handle),
    makes: () => '',
    away: 'waits',
  },
  'truncation that extends': {
    run: ({ mounted, ino, handle }) => mounted.fs.setattr(by(alice), ino, { size: 40 }, handle),
    makes: (bytes) => bytes.padEnd(40, '\0'),
    away: 'waits',
  },
  'open with O_TRUNC': {
    run: ({ mounted, ino }) => mounted.fs.open(by(alice), ino, O_RDWR | O_TRUNC),
    makes: () => '',
    away: 'waits',
    answers: { unmounting: 'EBUSY' },
  },
  open: {
    run: ({ mounted, ino }) => mounted.fs.open(by(alice), ino, O_RDWR),
    makes: same,
    away: 'answers',
    answers: { unmounting: 'EBUSY' },
  },
  getattr: {
    run: ({ mounted, ino }) => mounted.fs.getattr(by(alice), ino),
    makes: same,
    away: 'answers',
  },
  chmod: {
    run: ({ mounted, ino }) => mounted.fs.setattr(by(alice), ino, { mode: 0o400 }),
    makes: same,
    away: 'waits',
  },
  utimens: {
    run: ({ mounted, ino }) => mounted.fs.setattr(by(alice), ino, { mtime: 7n }),
    makes: same,
    away: 'waits',
  },
  fsync: {
    run: ({ mounted, handle }) => mounted.fsync(handle),
    makes: same,
    away: 'answers',
  },
  close: {
    run: ({ mounted, handle }) => mounted.fs.flush(by(alice), handle),
    makes: same,
    away: 'answers',
  },
  link: {
    run: ({ mounted, ino }) => mounted.fs.link(by(alice), ino, ROOT_INO, name('second')),
    makes: same,
    away: 'waits',
  },
  rename: {
    run: ({ mounted }) =>
      mounted.fs.rename(by(alice), ROOT_INO, name('disk'), ROOT_INO, name('moved'), 0),
    makes: same,
    away: 'waits',
  },
  'unlink of an open file': {
    run: ({ mounted }) => mounted.fs.unlink(by(alice), ROOT_INO, name('disk')),
    makes: () => undefined,
    away: 'waits',
  },
  'unlink of a closed file': {
    run: ({ mounted, handle }) => {
      mounted.fs.release(handle);
      return mounted.fs.unlink(by(alice), ROOT_INO, name('disk'));
    },
    makes: () => undefined,
    away: 'waits',
  },
  'rename over a closed file': {
    run: ({ mounted, handle }) => {
      mounted.fs.release(handle);
      return mounted.fs.rename(by(alice), ROOT_INO, name('other'), ROOT_INO, name('disk'), 0);
    },
    makes: () => undefined,
    away: 'waits',
  },
};

/** A file in the state, open; and the way out of it, to where the server has everything. */
async function enter(state: State) {
  const server = new MemoryServer();
  server.putFile('/disk', old, 0o666, alice);
  server.putFile('/other', 'other', 0o666, alice);
  const clock = new ManualClock();
  const images = new LocalImages({ clock });
  const mounted = new Mounted({ session: 'exclusive', write: 'back' }, {}, server, {
    cache: images,
  });
  const { ino } = await mounted.walk('/disk');
  await mounted.walk('/other');
  const handle = await mounted.open('/disk', O_RDWR);
  const place: Place = { server, images, mounted, ino, handle };
  if (state !== 'clean') value(await mounted.write(handle, 0, dirty.slice(0, 8)));
  let leave = async (): Promise<void> => undefined;
  let bytes = state === 'clean' ? old : dirty;
  if (state === 'sending') {
    const held = gate();
    server.after = ({ procedure }) => (procedure === 'write' ? held.opened : undefined);
    const sending = mounted.fs.settleUnsent();
    await settled();
    assert.equal(server.count('write'), 1);
    leave = async () => {
      server.after = () => undefined;
      held.open();
      await sending;
    };
  }
  if (state === 'conflict') {
    const theirs = old.replace('XYZ', 'xyz');
    server.putFile('/disk', theirs, 0o666, alice);
    mounted.fs.doubt(ino);
    value(await mounted.fs.getattr(by(alice), ino));
    await settled();
    assert.equal(mounted.fs.unsent()[0]?.unsent.state, 'conflict');
    bytes = dirty.replace('XYZ', 'xyz');
    leave = async () => value(await mounted.fs.resolve(alice, ino, 'mine'));
  }
  if (state === 'away') {
    const away = gate();
    server.before = () => away.opened;
    mounted.fs.serverState('away');
    leave = async () => {
      server.before = () => undefined;
      mounted.fs.serverState('back');
      away.open();
      await settled();
    };
  }
  if (state === 'unmounting') mounted.fs.setOpens('refused');
  return { place, bytes, leave };
}

/** The outcome, or that it waits. */
async function now(outcome: Outcome<unknown>): Promise<string> {
  let answer = 'waits';
  void outcome.then((result) => {
    answer = errno(result);
  });
  await settled();
  return answer;
}

for (const [what, { run, makes, away, answers }] of Object.entries(operations)) {
  describe(what, () => {
    for (const state of states) {
      it(`of a file that is ${state}`, async () => {
        const { place, bytes, leave } = await enter(state);
        const { server, mounted } = place;
        const outcome = run(place);
        const early = await now(outcome);
        if (state === 'away') assert.equal(early, away === 'waits' ? 'waits' : 'ok');
        else if (state !== 'sending') assert.equal(early, answers?.[state] ?? 'ok');
        // What goes through in a conflict waits for nobody's decision; the rest is sent after it.
        await leave();
        const done = await outcome;
        assert.equal(errno(done), answers?.[state] ?? 'ok');
        const isDone = done.ok;
        const made = isDone ? makes(bytes) : bytes;
        await mounted.fs.close();
        const paths = ['/disk', '/moved'].filter((path) => server.exists(path));
        const [path] = paths.filter((one) => server.nodeAt(one).bytes.toString() !== 'other');
        assert.equal(path !== undefined, made !== undefined);
        if (path !== undefined) assert.equal(server.stableBytesOf(path).toString(), made);
        assert.deepEqual(mounted.fs.unsent(), []);
        assert.equal(mounted.payloads, 0);
        assert.equal(mounted.fs.figures().openImages, 0);
      });
    }
  });
}
