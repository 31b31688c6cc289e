/**
 * The one table of the control socket's methods: from it come the types of server and client, the
 * check of what clients send, and docs/CONTROL.md.
 *
 * Paths are relative to the mountpoint, without a slash at their start, '' being its root. Names
 * are bytes: a path is written as in the log, UTF-8 as it is but for `%` and control characters,
 * which stand as %XX, as does every byte beyond ASCII of a path that is not UTF-8.
 * Sizes are bytes, times milliseconds. In results every field is always there; `null` is "not
 * known" or "there is none". Later versions may add fields to results and methods to the table.
 */
import {
  choice,
  type Fields,
  flag,
  integer,
  list,
  nullable,
  number,
  optional,
  type RecordShape,
  record,
  type Shape,
  type TypeOf,
  text,
} from './shape.ts';

/** Raised when an old client would misunderstand a new daemon. */
export const PROTOCOL_VERSION = 1;

/** Error codes of answers: JSON-RPC 2.0's, and ours from 1 on. */
export const ErrorCode = {
  parse: -32_700,
  invalidRequest: -32_600,
  unknownMethod: -32_601,
  badParams: -32_602,
  internal: -32_603,
  /** The client asked for it, or went away. */
  cancelled: -32_800,
  /** Too many calls at once, or too many clients. */
  busy: 1,
  /** A path that leads nowhere, or may not be gone. `data.errno` says why. */
  path: 2,
  /** What is there is no regular file. */
  notAnImage: 3,
  /** The mount has no cache. */
  noCache: 4,
  /** The server or the cache's disk failed. `data.errno` says how. */
  io: 5,
  /** The mount is ending. */
  ending: 6,
  /** It is in use, or pinned, so that this cannot be done now. */
  held: 7,
  /** Nothing of it is unsent, or in conflict. */
  nothingUnsent: 8,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** What each code means, for the documentation. */
export const errorDocs: Record<keyof typeof ErrorCode, string> = {
  parse: 'the line is no JSON, or longer than 64 KiB; after a line that is too long it hangs up',
  invalidRequest: 'it is JSON, but no JSON-RPC 2.0 request; batches are not served',
  unknownMethod: 'there is no such method',
  badParams: 'the message says which parameter is wrong, and what is wanted',
  internal: 'a fault of ours; the log has it',
  cancelled: 'the call was cancelled',
  busy: 'more than 32 calls of one client, or more than 64 clients, at once',
  path: 'the path leads nowhere, or may not be gone: `data.errno` says why',
  notAnImage: 'what is there is no regular file',
  noCache: 'the mount has no cache',
  io: 'the server or the disk of the cache failed: `data.errno` says how',
  ending: 'the mount is ending',
  held: 'it is in use or pinned, so that this cannot be done now',
  nothingUnsent: 'there is no conflict to resolve',
};

/** One method: what it wants, what it answers, and whether it tells how far it is. */
export interface MethodSpec {
  readonly doc: string;
  readonly params: RecordShape;
  readonly result: RecordShape;
  /** A long call: it may be cancelled, and sends `progress` notifications. */
  readonly long?: true;
  /** It sends `event` notifications until it is cancelled. */
  readonly tells?: true;
}

const none = record('', {});
const path = text('the path of a file in the mount', 8192);
const image = text('the path of a file in the mount, or the id of an image', 8192);
const pathOrAll = optional(text('a file of the mount; left out, or `""`: all', 8192));
const imageOrAll = optional(
  text('a file of the mount, or the id of an image; left out, or `""`: all images', 8192),
);

const rangeFields = {
  start: optional(integer('the first byte; 0 when left out')),
  end: optional(integer("one beyond the last byte; the file's size when left out")),
};

const durations = {
  calls: integer('how often'),
  medianMs: nullable(number('the median time')),
  p99Ms: nullable(number('the time that 99 of 100 stayed below')),
};

const imageLine = record('one image of the cache', {
  path: text('where it was last seen, from the root of the export: a hint'),
  id: text('its directory in the cache'),
  sizeBytes: integer("the file's size"),
  presentBytes: integer('of it in the cache, zeros included'),
  allocatedBytes: integer('what it takes of the disk'),
  open: flag('whether a program has it open now'),
  unsent: flag('whether something of it is only here'),
  pinned: flag('whether it is kept from eviction'),
  gone: nullable(
    flag(
      'whether the server has no such file any more, or another one of that name; asked for pinned ' +
        'images that are not open',
    ),
  ),
  lastUsedMs: integer('when it was last used, in ms since 1970; 0 when not known'),
  state: choice(
    '`settled`: kept across mounts; `writing`: written to, kept once the server has it all; ' +
      '`sending`: what was written is on its way; `damaged`: not to be believed',
    ['settled', 'writing', 'sending', 'damaged'],
  ),
  why: nullable(text('of a damaged one: why, in one clause')),
});

const task = record('a long call', {
  id: integer('its number'),
  kind: choice('what it does', ['warm', 'verify', 'writeBack', 'flush', 'umount']),
  path: text('of which file'),
  doneBytes: integer('how far it is'),
  totalBytes: integer('of how much'),
  state: choice('how it is', ['running', 'done', 'failed']),
  message: nullable(text('why it failed')),
});

const unsentFile = record('', {
  path: text('which'),
  id: text('its directory in the cache'),
  bytes: integer('how much; 0 where only the size or the times are unsent'),
  state: choice(
    '`conflict`: another has changed it at the server, and it is for `resolve` to say what counts',
    ['dirty', 'sending', 'conflict'],
  ),
  ageMs: integer('for how long the oldest of it has been written, in ms'),
  recovered: flag('whether an earlier daemon had left it behind'),
  failure: nullable(text('why it could not be sent the last time')),
});

const sent = {
  files: integer('files of which something was unsent'),
  sentFiles: integer('of these, files of which something was sent by now'),
  sentBytes: integer('sent by now'),
  unsentBytes: integer('of what was to be sent, still only here'),
  timedOut: flag('whether the time was up; what is being sent goes on'),
  failed: list(
    'what could not be sent: it stays here',
    record('', {
      path: text('which file; `""`: of the mount as a whole'),
      unsentBytes: integer('how much of it is only here'),
      state: choice(
        '`conflict`: another has changed it, and it is for `resolve` to say what counts; `lost`: ' +
          'the server has it no more; `failing`: the server does not take it, or does not answer',
        ['conflict', 'lost', 'failing'],
      ),
      errno: text("the error's name"),
      why: text('why'),
    }),
  ),
};

const timeoutMs = optional(integer('how long to wait at most; without a limit when left out'));

const status = record('', {
  protocol: integer('the version of this schema'),
  version: text('the version of gvfs'),
  pid: integer("the daemon's process"),
  startedAtMs: integer('when it started, in ms since 1970'),
  source: text('what is mounted, as server:/export'),
  mountpoint: text('where'),
  session: choice('who else writes', ['shared', 'exclusive', 'readonly']),
  write: choice('where writes go', ['through', 'back', 'deferred']),
  fsync: choice('where a write is durable when fsync returns', ['local', 'server']),
  readOnly: flag('whether the mount is read-only'),
  state: choice('whether it is still in the tree', ['serving', 'leaving', 'draining']),
  server: record('the server and the way to it', {
    state: choice('whether it answers', ['up', 'notResponding']),
    forMs: nullable(number('for how long it has not been answering')),
    roundTripMs: nullable(number('the round trip, as last measured')),
    connections: integer('connections that are up'),
    readBytes: integer('bytes that READ brought'),
    writtenBytes: integer('bytes that WRITE took'),
    retransmissions: integer('calls sent again'),
  }),
  cache: nullable(
    record('the cache on the local disk; null without one', {
      directory: text('where it is'),
      state: text('`good`, or what is wrong with its disk, in one clause'),
      allocatedBytes: integer('what it takes of the disk, for this export'),
      limitBytes: integer('what it may take'),
      freeBytes: nullable(integer('free on that disk')),
      freeFloorBytes: integer('what it leaves free'),
      images: integer('how many images are kept'),
      evictedBytes: integer('evicted since the start'),
      damagedBytes: integer('found damaged and fetched again since the start'),
    }),
  ),
  bytes: record('bytes that programs have read, by where they came from', {
    server: integer('fetched for them'),
    cache: integer('from the disk'),
    zero: integer('known zeros, from nowhere'),
    passthrough: nullable(integer('read by the kernel from the cache itself, where it tells')),
  }),
  hitRatio: nullable(number('of those bytes, the share that the server was not asked for, 0 to 1')),
  open: list(
    'files that are open',
    record('', {
      path: text('which'),
      sizeBytes: integer('its size'),
      presentBytes: nullable(integer('of it in the cache')),
      readers: integer('open files that only read'),
      writers: integer('open files that may write'),
      servedBy: choice('who answers reads', ['passthrough', 'daemon', 'server']),
      why: nullable(text('why not passthrough')),
    }),
  ),
  unsent: record('what only this host has', {
    bytes: integer('of all files'),
    files: integer('how many files'),
    ageMs: nullable(integer('for how long the oldest of it has been written, in ms')),
    recoveredBytes: integer('of these, left behind by an earlier daemon'),
    foundBytes: integer('what an earlier daemon had left behind, when this one started'),
    list: list('the files, the oldest first, at most 100', unsentFile),
  }),
  waiting: list(
    'requests of programs that wait, the oldest first, at most 100',
    record('', {
      operation: text('which'),
      path: nullable(
        text('of which file, where that is known; of LOOKUP and the like, in which directory'),
      ),
      ageMs: integer('for how long, in ms'),
    }),
  ),
  waitingCount: integer('how many wait'),
  tasks: list('long calls that run, and the last ones that ended in the background', task),
  rpcs: list(
    'calls to the server since the start',
    record('', {
      procedure: text("NFS's name"),
      ...durations,
      failures: integer('answered with an error, or not at all'),
    }),
  ),
  operations: list(
    "the kernel's requests since the start",
    record('', { operation: text("FUSE's name"), ...durations }),
  ),
  eventLoop: record("delay of the daemon's event loop, since the start", {
    medianMs: number('the median'),
    p99Ms: number('99 of 100 stayed below'),
    maxMs: number('the worst'),
  }),
});

const cacheUse = record('the cache of the export as a whole', {
  directory: text('where it is'),
  allocatedBytes: integer('what it takes of the disk'),
  limitBytes: nullable(integer('what it may take; null where no daemon runs')),
});

export const methods = {
  status: {
    doc: 'How the mount is.',
    params: none,
    result: status,
  },
  images: {
    doc: 'The images in the cache, those that are not open included.',
    params: record('', { path: imageOrAll }),
    result: record('', { cache: cacheUse, images: list('the images, by path', imageLine) }),
  },
  warm: {
    doc:
      'Fetches what is absent of a file. What is present is not fetched again, so that a call ' +
      'that was cancelled goes on where it was. Programs come first.',
    params: record('', {
      path,
      ...rangeFields,
      check: optional(flag('fetch nothing: check what is present, and say what is absent')),
      background: optional(flag('answer at once; `status` shows how far it is')),
    }),
    result: record('', {
      path: text('which file'),
      totalBytes: integer('the length of the range'),
      presentBytes: integer('present in it now'),
      fetchedBytes: integer('fetched by this call'),
      damagedBytes: integer('found damaged by this call'),
      task: nullable(integer('with `background`: its number in `status`')),
    }),
    long: true,
  },
  verify: {
    doc:
      'Compares what is present with its checksums. What is damaged is dropped, and fetched ' +
      'again when it is needed.',
    params: record('', { path: imageOrAll }),
    result: record('', {
      images: integer('images looked at'),
      checkedBytes: integer('compared'),
      damagedBytes: integer('of these damaged'),
      damaged: list(
        'images with damage: what was damaged is absent now',
        record('', { path: text('which'), damagedBytes: integer('how much') }),
      ),
      setAside: list(
        'images of which nothing can be believed: all of them is absent now',
        record('', { path: text('which'), why: text('why, in one clause') }),
      ),
    }),
    long: true,
  },
  evict: {
    doc: 'Drops what is cached of a file, or of all. Pinned images and those in use are left.',
    params: record('', {
      path: imageOrAll,
      force: optional(flag('pinned images, too: they are unpinned')),
    }),
    result: record('', {
      images: integer('images of which something was dropped'),
      freedBytes: integer('given back to the disk'),
      kept: list(
        'images that were left',
        record('', { path: text('which'), why: text('why, in one clause') }),
      ),
    }),
  },
  pin: {
    doc: 'Keeps a file from eviction, across mounts.',
    params: record('', { path: image }),
    result: record('', { path: text('which file'), pinned: flag('true') }),
  },
  unpin: {
    doc:
      'Allows its eviction again; of a path, also that of images which had the name before: the ' +
      'file was replaced at the server.',
    params: record('', { path: image }),
    result: record('', { path: text('which file'), pinned: flag('false') }),
  },
  failWaiting: {
    doc:
      'Fails with EIO every request that has waited for the server for over a second: of a file or ' +
      'directory (looking up a name is a request of its directory), or of the whole mount. ' +
      'For programs that cannot be killed because the kernel waits for them.',
    params: record('', { path: pathOrAll }),
    result: record('', {
      failed: integer('how many requests'),
      waitElsewhere: integer('how many wait still: of other files, or came meanwhile'),
    }),
  },
  writeBack: {
    doc:
      'Sends what is unsent of a file, or of all, and makes it durable at the server; what programs ' +
      'have changed in mapped memory until now, too. Its answer comes when that is done.',
    params: record('', { path: imageOrAll, timeoutMs }),
    result: record('', sent),
    long: true,
  },
  flush: {
    doc:
      'Writes back, and then believes nothing of a file, or of all, that the server was not asked ' +
      'for again, in any session; the kernel forgets its pages. For what is changed elsewhere next.',
    params: record('', { path: imageOrAll, timeoutMs }),
    result: record('', sent),
    long: true,
  },
  resolve: {
    doc: 'Ends a conflict: what is here is sent, or is dropped for what the server has.',
    params: record('', {
      path: image,
      keep: choice('whose bytes count from now on', ['mine', 'theirs']),
      timeoutMs,
    }),
    result: record('', { ...sent, droppedBytes: integer('dropped, of ours') }),
    long: true,
  },
  umount: {
    doc:
      'Refuses new opens, writes back, and ends the mount. Its answer comes when all is written ' +
      'down, or when it cannot be done: then the mount goes on as before.',
    params: record('', {
      unsent: optional(
        choice('what becomes of what is unsent: it is sent (when left out), kept, or dropped', [
          'send',
          'keep',
          'discard',
        ]),
      ),
      force: optional(
        flag('end it whoever uses it; what is not sent in time (10 s when not given) is kept'),
      ),
      timeoutMs,
    }),
    result: record('', {
      ...sent,
      unmounted: flag('whether the mount has ended'),
      inUse: list('files that are open and keep it from ending', text('their paths')),
      why: nullable(text('why it has not, in one clause')),
      droppedBytes: integer('unsent bytes that were dropped, as asked'),
      keptBytes: integer('unsent bytes that stay in the cache for the next mount'),
    }),
    long: true,
  },
  events: {
    doc:
      'Tells what happens on the mount, as notifications `event`, until it is cancelled: at once ' +
      'the events that are kept of those asked for, then each as it comes. A gap in the numbers ' +
      'is what is not kept any more.',
    params: record('', {
      since: optional(integer('the events with greater numbers; when left out, those from now on')),
      follow: optional(flag('false: only those that are kept')),
    }),
    result: record('', { last: integer('the number of the last event') }),
    long: true,
    tells: true,
  },
  map: {
    doc: "A picture of a file's pages, in equal parts.",
    params: record('', {
      path,
      parts: integer('into how many parts; fewer where the file has fewer pages', {
        min: 1,
        max: 65_536,
      }),
    }),
    result: record('', {
      path: text('which file'),
      sizeBytes: integer('its size'),
      pageBytes: integer('the size of a page'),
      pages: integer('how many there are'),
      parts: list(
        'pages of each part, in the order of the file: their sum is the part',
        record('', {
          absent: integer('only the server has them'),
          present: integer('in the cache, with bytes'),
          zero: integer('in the cache as a hole: known zeros'),
          dirty: integer('in the cache, not yet at the server'),
        }),
      ),
    }),
  },
} as const satisfies Readonly<Record<string, MethodSpec>>;

export type MethodName = keyof typeof methods;
export type ParamsOf<M extends MethodName> = TypeOf<(typeof methods)[M]['params']>;
export type ResultOf<M extends MethodName> = TypeOf<(typeof methods)[M]['result']>;

export type Status = ResultOf<'status'>;
export type ImageLine = ResultOf<'images'>['images'][number];
export type TaskLine = Status['tasks'][number];

/** The fields of `progress`, which a long call sends meanwhile. */
export const progressFields = {
  id: integer('the id of the request'),
  path: text('the file that it is at'),
  doneBytes: integer('how far it is'),
  totalBytes: integer('of how much'),
} as const satisfies Fields;

export interface Progress {
  readonly path: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** The fields of `event`, which `events` sends. */
export const eventFields = {
  id: integer('the id of the request'),
  number: integer('one more each time, from 1, as long as the daemon lives'),
  atMs: integer('when, in ms since 1970'),
  event: choice(
    '`opened`, `closed`: by the first and the last program; `dirty`: something of it is unsent; ' +
      '`clean`: nothing is any more; `writtenBack`: so much is durable at the server; `notSent`: ' +
      'it could not be sent, and is tried again; `conflict`: another has changed it, nothing is ' +
      'sent; `changedUnderDirty`: the same where that is no conflict (`session=shared`); ' +
      '`serverDown`, `serverUp`: it stopped, or started answering; `completed`: what a signal asked',
    [
      'opened',
      'closed',
      'dirty',
      'clean',
      'writtenBack',
      'notSent',
      'conflict',
      'changedUnderDirty',
      'serverDown',
      'serverUp',
      'completed',
    ],
  ),
  path: nullable(text('of which file')),
  bytes: nullable(integer('how much')),
  message: nullable(text('what more there is to say')),
} as const satisfies Fields;

export type EventLine = Omit<TypeOf<RecordShape<typeof eventFields>>, 'id'>;

export function isMethod(name: string): name is MethodName {
  return Object.hasOwn(methods, name);
}

/** For the documentation: every field of a record with its dotted name. */
export function fieldsOf(shape: Shape, prefix = ''): { name: string; shape: Shape }[] {
  switch (shape.kind) {
    case 'record':
      return Object.entries(shape.fields).flatMap(([key, field]) => {
        const name = prefix === '' ? key : `${prefix}.${key}`;
        return [{ name, shape: field }, ...fieldsOf(field, name)];
      });
    case 'list':
      return fieldsOf(shape.of, `${prefix}[]`);
    case 'nullable':
    case 'optional':
      return fieldsOf(shape.of, prefix);
    case 'text':
    case 'integer':
    case 'number':
    case 'flag':
    case 'choice':
      return [];
  }
}
