/**
 * What options mean together: some imply others, some have no effect beside others, and some
 * cannot both be meant. A person who asks for both is told, instead of being given one of them.
 */
import { err, ok, type Result } from '../base/result.ts';
import type { OptionName, Settings } from './options.ts';

/** Two options that cannot both be had, as they would be written. */
export interface Contradiction {
  readonly kind: 'contradiction';
  readonly option: string;
  readonly against: string;
  readonly toDo: string;
}

/** Options that change nothing beside another one. */
export interface Idle {
  readonly option: string;
  readonly reason: string;
}

export interface Agreed {
  readonly settings: Settings;
  readonly idle: readonly Idle[];
}

const ofCache = ['cachedir', 'cachesize', 'cachefree'] as const satisfies readonly OptionName[];
const ofTimes = ['acregmin', 'acregmax', 'acdirmin', 'acdirmax'] as const;
const ofSending = ['writeback_age', 'dirtysize'] as const;

/** `given`: the options that were written, by whatever name. */
export function agree(
  settings: Settings,
  given: ReadonlySet<OptionName>,
): Result<Agreed, Contradiction> {
  const { session, transport, cache, passthrough } = settings;
  const oneOf = 'leave out one of them';
  const against = (option: string, against: string, toDo = oneOf) =>
    err({ kind: 'contradiction' as const, option, against, toDo });

  const asked = ofCache.find((name) => given.has(name));
  if (!cache && asked !== undefined) return against('nocache', asked);
  if (!cache && passthrough && given.has('passthrough')) return against('nocache', 'passthrough');
  if (transport === 'fuse-native') {
    const wish = asked ?? (cache && given.has('cache') ? 'cache' : undefined);
    if (wish !== undefined) {
      return against('transport=fuse-native', wish, `${oneOf}: the cache needs our own addon`);
    }
  }
  // A plain rw is nobody's wish: mount(8) gives it to its helper wherever fstab does not say ro.
  const ro = settings.ro || session === 'readonly';
  if (passthrough && given.has('passthrough') && !ro) {
    const toDo = 'mount with ro or session=readonly, or leave passthrough out';
    return against('passthrough', 'rw', toDo);
  }
  if (session !== 'shared' && !settings.ac) return against(`session=${session}`, 'noac');

  const hasCache = cache && transport !== 'fuse-native';
  const wished = agreeOnWrites(settings, given, { ro, hasCache });
  if (!wished.ok) return wished;
  const write = wished.value;

  const idle: Idle[] = [];
  if (transport === 'fuse-native' && cache) {
    idle.push({
      option: 'cache',
      reason: 'transport=fuse-native has none: it needs our own addon',
    });
  }
  for (const name of session === 'shared' ? [] : ofTimes) {
    const reason = `session=${session} believes what it knows without a limit`;
    if (given.has(name)) idle.push({ option: name, reason });
  }
  for (const name of write === 'back' ? [] : ofSending) {
    const reason = `it is for write=back, and this is ${ro ? 'read-only' : `write=${write}`}`;
    if (given.has(name)) idle.push({ option: name, reason });
  }
  return ok({ settings: { ...settings, ro, cache: hasCache, write }, idle });
}

/**
 * Writes can wait on the local disk only where there is one and something is written. What nobody
 * asked for is no contradiction: then they go through.
 */
function agreeOnWrites(
  { session, transport, write, fsync }: Settings,
  given: ReadonlySet<OptionName>,
  { ro, hasCache }: { readonly ro: boolean; readonly hasCache: boolean },
): Result<Settings['write'], Contradiction> {
  const against = (option: string, against: string, toDo: string) =>
    err({ kind: 'contradiction' as const, option, against, toDo });
  const waits = write !== 'through';
  const onDisk = `write=${write}`;

  if (waits && given.has('write')) {
    if (!hasCache) {
      const without = transport === 'fuse-native' ? 'transport=fuse-native' : 'nocache';
      return against(onDisk, without, 'unsent writes are kept in the cache: leave out one of them');
    }
    if (ro) {
      const readOnly = session === 'readonly' ? 'session=readonly' : 'ro';
      return against(onDisk, readOnly, 'nothing is written there: leave out one of them');
    }
    if (write === 'deferred' && session === 'shared') {
      const toDo = 'others are to see what was closed: say write=back, or session=exclusive';
      return against(onDisk, 'session=shared', toDo);
    }
  }
  const agreed = waits && hasCache && !ro ? write : 'through';
  if (fsync === 'local' && whereDurable({ session, write: agreed, fsync: undefined }) !== 'local') {
    return agreed === 'through'
      ? against('fsync=local', 'write=through', 'say write=back as well, or leave fsync out')
      : against('fsync=local', 'session=shared', 'say session=exclusive, or leave fsync out');
  }
  return ok(agreed);
}

/** Where a write is durable when fsync returns. */
export function whereDurable({
  session,
  write,
  fsync,
}: Pick<Settings, 'session' | 'write' | 'fsync'>): 'local' | 'server' {
  return fsync ?? (write !== 'through' && session === 'exclusive' ? 'local' : 'server');
}
