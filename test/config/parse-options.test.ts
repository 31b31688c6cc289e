import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { unreachable } from '../../src/base/assert.ts';
import {
  defaultSettings,
  type OptionName,
  type OptionSpec,
  optionTable,
  type Settings,
} from '../../src/config/options.ts';
import { formatOptions, parseOptions, rootOnlyNotes } from '../../src/config/parse-options.ts';
import type { Value, ValueKind } from '../../src/config/value-kind.ts';

describe('parseOptions', () => {
  it('gives the defaults when there is nothing to read', () => {
    assert.deepEqual(settingsOf(''), defaultSettings());
    assert.deepEqual(settingsOf(',,'), defaultSettings());
  });

  const read: [text: string, expected: Partial<Settings>][] = [
    ['vers=3', { vers: '3' }],
    ['nfsvers=3', { vers: '3' }],
    ['port=2049,mountport=20048', { port: 2049, mountport: 20_048 }],
    ['soft', { hard: false }],
    ['soft,hard', { hard: true }],
    ['softerr', { hard: false }],
    ['hard,soft', { hard: false }],
    ['timeo=7,retrans=0', { timeo: 7, retrans: 0 }],
    ['rsize=32768', { rsize: 32_768 }],
    ['rsize=64K,wsize=64k', { rsize: 65_536, wsize: 65_536 }],
    ['rsize=1M', { rsize: 1 << 20 }],
    ['rsize=2G', { rsize: 1 << 20 }], // as mount.nfs: the nearest that we do
    ['rsize=1', { rsize: 4096 }],
    ['rsize=5000', { rsize: 4096 }],
    ['nconnect=16', { nconnect: 16 }],
    ['actimeo=1', { acregmin: 1, acregmax: 1, acdirmin: 1, acdirmax: 1 }],
    ['actimeo=1,acregmax=9', { acregmin: 1, acregmax: 9, acdirmin: 1, acdirmax: 1 }],
    ['acregmax=9,actimeo=1', { acregmin: 1, acregmax: 1, acdirmin: 1, acdirmax: 1 }],
    ['noac', { ac: false }],
    ['lookupcache=positive', { lookupcache: 'positive' }],
    ['nordirplus,noresvport', { rdirplus: false, resvport: false }],
    ['bg,retry=3', { fg: false, retry: 3 }],
    ['ro', { ro: true }],
    ['ro,rw', { ro: false }],
    ['nosuid,nodev,noexec', { suid: false, dev: false, exec: false }],
    ['allow_other', { allow_other: true }],
    ['transport=fuse-native', { transport: 'fuse-native', cache: false }],
    ['readahead=4096', { readahead: 4096 }],
    ['log=/a\\,b\\\\c', { log: '/a,b\\c' }],
    ['log=/a=b', { log: '/a=b' }],
    ['rsize=1T', { rsize: 1 << 20 }],
    ['nocache,sec=sys,proto=tcp,mountproto=tcp6', { cache: false, mountproto: 'tcp6' }],
    ['nocache,cache', {}],
    [
      'cachedir=/c,cachesize=10G,cachefree=0%',
      { cachedir: '/c', cachesize: 10 * 2 ** 30, cachefree: '0%' },
    ],
    ['cachesize=2T,cachefree=1M', { cachesize: 2 ** 41, cachefree: 2 ** 20 }],
    ['cachesize=100%,cachefree=05%', { cachesize: '100%', cachefree: '5%' }],
    ['session=exclusive,write=through,nopassthrough', { session: 'exclusive', passthrough: false }],
    ['write=back', { write: 'back' }],
    ['write=back,fsync=server', { write: 'back', fsync: 'server' }],
    [
      'session=exclusive,write=deferred,fsync=local',
      { session: 'exclusive', write: 'deferred', fsync: 'local' },
    ],
    [
      'write=back,writeback_age=5,dirtysize=10%',
      { write: 'back', writeback_age: 5, dirtysize: '10%' },
    ],
    ['write=back,dirtysize=2G', { write: 'back', dirtysize: 2 ** 31 }],
    ['nocache,write=through', { cache: false }],
    ['session=readonly', { session: 'readonly', ro: true }],
    ['rw,nofail,session=readonly', { session: 'readonly', ro: true }], // as mount(8) gives it
    ['session=readonly,rw,passthrough', { session: 'readonly', ro: true }],
    ['session=readonly,ro,passthrough', { session: 'readonly', ro: true }],
    ['ro,passthrough', { ro: true }],
    ['nocache,session=exclusive', { cache: false, session: 'exclusive' }],
    ['defaults,_netdev,nofail,x-systemd.automount,comment=any,nolock,local_lock=all,fsc', {}],
  ];
  for (const [text, expected] of read) {
    it(`reads "${text}"`, () => {
      assert.deepEqual(settingsOf(text), { ...defaultSettings(), ...expected });
    });
  }

  const refused: [text: string, error: object][] = [
    ['rszie=1', { kind: 'unknown-option', option: 'rszie', nearest: 'rsize' }],
    ['nconect=2', { kind: 'unknown-option', option: 'nconect', nearest: 'nconnect' }],
    ['read-ahead=2', { kind: 'unknown-option', option: 'read-ahead', nearest: 'readahead' }],
    ['zzzzzzzzzz', { kind: 'unknown-option', option: 'zzzzzzzzzz' }],
    ['toString', { kind: 'unknown-option', option: 'toString' }],
    ['HARD', { kind: 'unknown-option', option: 'HARD', nearest: undefined }],
    ['soft=1', { kind: 'unwanted-value', option: 'soft' }],
    ['timeo', { kind: 'missing-value', option: 'timeo' }],
    ['timeo=', { kind: 'bad-value', option: 'timeo', value: '' }],
    ['timeo=0', { kind: 'bad-value', option: 'timeo', value: '0' }],
    ['timeo=1.5', { kind: 'bad-value', option: 'timeo', value: '1.5' }],
    ['timeo=-1', { kind: 'bad-value', option: 'timeo', value: '-1' }],
    ['timeo=99999999999999999999', { kind: 'bad-value', option: 'timeo' }],
    ['nconnect=17', { kind: 'bad-value', option: 'nconnect', value: '17' }],
    ['port=65536', { kind: 'bad-value', option: 'port', value: '65536' }],
    ['rsize=1P', { kind: 'bad-value', option: 'rsize', value: '1P' }],
    ['vers=4', { kind: 'bad-value', option: 'vers', value: '4' }],
    ['nfsvers=4.2', { kind: 'bad-value', option: 'nfsvers', value: '4.2' }],
    ['proto=udp', { kind: 'bad-value', option: 'proto', value: 'udp' }],
    ['sec=krb5p', { kind: 'bad-value', option: 'sec', value: 'krb5p' }],
    ['lookupcache=some', { kind: 'bad-value', option: 'lookupcache', value: 'some' }],
    ['log=', { kind: 'bad-value', option: 'log', value: '' }],
    ['udp', { kind: 'refused-option', option: 'udp' }],
    ['uid=0', { kind: 'refused-option', option: 'uid' }],
    ['umask=022', { kind: 'refused-option', option: 'umask' }],
    ['cachedir', { kind: 'missing-value', option: 'cachedir', expected: "a directory's name" }],
    ['cachesize=80', { kind: 'bad-value', option: 'cachesize', value: '80' }],
    ['cachesize=0%', { kind: 'bad-value', option: 'cachesize', value: '0%' }],
    ['cachesize=101%', { kind: 'bad-value', option: 'cachesize', value: '101%' }],
    ['cachefree=10', { kind: 'bad-value', option: 'cachefree', value: '10' }],
    ['cachefree=%', { kind: 'bad-value', option: 'cachefree', value: '%' }],
    ['session=private', { kind: 'bad-value', option: 'session', value: 'private' }],
    ['write=around', { kind: 'bad-value', option: 'write', value: 'around' }],
    ['fsync=never', { kind: 'bad-value', option: 'fsync', value: 'never' }],
    ['writeback_age=0', { kind: 'bad-value', option: 'writeback_age', value: '0' }],
    ['writeback-age=5', { kind: 'unknown-option', nearest: 'writeback_age' }],
    ['dirtysize=0%', { kind: 'bad-value', option: 'dirtysize', value: '0%' }],
    ['nocache,write=back', contradiction('write=back', 'nocache')],
    ['write=deferred,session=exclusive,nocache', contradiction('write=deferred', 'nocache')],
    ['transport=fuse-native,write=back', contradiction('write=back', 'transport=fuse-native')],
    ['ro,write=back', contradiction('write=back', 'ro')],
    ['write=back,session=readonly', contradiction('write=back', 'session=readonly')],
    ['write=deferred', contradiction('write=deferred', 'session=shared')],
    ['fsync=local', contradiction('fsync=local', 'write=through')],
    ['write=back,fsync=local', contradiction('fsync=local', 'session=shared')],
    ['ro,session=exclusive,fsync=local', contradiction('fsync=local', 'write=through')],
    ['cache=none', { kind: 'unwanted-value', option: 'cache' }],
    ['cachdir=/c', { kind: 'unknown-option', option: 'cachdir', nearest: 'cachedir' }],
    ['nocache,cachedir=/c', contradiction('nocache', 'cachedir')],
    ['cachesize=1G,nocache', contradiction('nocache', 'cachesize')],
    ['nocache,passthrough,ro', contradiction('nocache', 'passthrough')],
    ['transport=fuse-native,cache', contradiction('transport=fuse-native', 'cache')],
    ['transport=fuse-native,cachefree=1%', contradiction('transport=fuse-native', 'cachefree')],
    ['passthrough', contradiction('passthrough', 'rw')],
    ['session=exclusive,noac', contradiction('session=exclusive', 'noac')],
    ['readonly', { kind: 'unknown-option', option: 'readonly', nearest: 'ro' }],
    ['foo', { kind: 'unknown-option', option: 'foo', nearest: undefined }],
    ['or', { kind: 'unknown-option', option: 'or', nearest: 'ro' }],
    ['remount,ro', { kind: 'refused-option', option: 'remount' }],
  ];
  for (const [text, expected] of refused) {
    it(`refuses "${text}"`, () => {
      const parsed = parseOptions([text]);
      assert.ok(!parsed.ok);
      const error: Record<string, unknown> = { ...parsed.error };
      for (const [key, value] of Object.entries(expected)) assert.equal(error[key], value, key);
    });
  }

  it('takes each -o in turn', () => {
    const parsed = parseOptions(['ro,timeo=5', 'rw']);
    assert.ok(parsed.ok);
    assert.equal(parsed.value.settings.ro, false);
    assert.deepEqual([...parsed.value.given], ['ro', 'timeo']);
  });

  it('names what it ignores, with the reason', () => {
    const parsed = parseOptions(['lock,_netdev,x-gvfs.any=1']);
    assert.ok(parsed.ok);
    assert.deepEqual(
      parsed.value.notes.map(({ option }) => option),
      ['lock'],
    );
    assert.match(parsed.value.notes[0]?.reason ?? '', /this host/);
  });

  it('knows what fstab lines for NFS carry', () => {
    const words = [
      ...['cto', 'nocto', 'sharecache', 'nosharecache', 'softreval', 'nosoftreval', 'namlen=255'],
      ...['mounthost=a', 'mountaddr=10.0.0.1', 'context=a', 'fscontext=a', 'defcontext=a'],
      ...['rootcontext=a', 'proto=tcp6', 'mountproto=tcp6', 'intr', 'nointr'],
    ];
    const parsed = parseOptions([words.join(','), 'silent,loud']);
    assert.ok(parsed.ok, JSON.stringify(parsed));
    assert.deepEqual(
      parsed.value.notes.map(({ message, option }) => [message, option]),
      words.map((word) => ['option without effect', word]),
    );
  });

  it('says which size is taken instead of one that is not possible', () => {
    const parsed = parseOptions(['rsize=1,wsize=2G,rsize=5000,wsize=64K,rsize=8192']);
    assert.ok(parsed.ok);
    const message = 'option taken as the nearest possible';
    assert.deepEqual(parsed.value.notes, [
      { message, option: 'rsize=1', taken: '4K' },
      { message, option: 'wsize=2G', taken: '1M' },
      { message, option: 'rsize=5000', taken: '4K' },
    ]);
  });

  it("says what an ordinary user's mount has not", () => {
    const inVain = (text: string) => rootOnlyNotes(settingsOf(text)).map(({ option }) => option);
    assert.deepEqual(inVain('suid,dev,readahead=4096'), ['readahead', 'suid', 'dev']);
    assert.deepEqual(inVain('nosuid,nodev,ro,exec'), []);
  });

  it('says what has no effect beside another option', () => {
    const idle = (text: string) => {
      const parsed = parseOptions([text]);
      assert.ok(parsed.ok);
      return parsed.value.notes.map(({ option }) => option);
    };
    assert.deepEqual(idle('transport=fuse-native'), ['cache']);
    assert.deepEqual(idle('transport=fuse-native,nocache'), []);
    assert.deepEqual(idle('session=exclusive,acregmin=1,acdirmax=9'), ['acregmin', 'acdirmax']);
    assert.deepEqual(idle('acregmin=1'), []);
    assert.deepEqual(idle('writeback_age=5,dirtysize=1G'), ['writeback_age', 'dirtysize']);
    assert.deepEqual(idle('write=back,writeback_age=5,dirtysize=1G'), []);
    assert.deepEqual(idle('session=exclusive,write=deferred,writeback_age=5'), ['writeback_age']);
  });

  it('reads back what formatOptions wrote', () => {
    fc.assert(
      fc.property(anySettings(), (settings) => {
        const parsed = parseOptions([formatOptions(settings)]);
        fc.pre(parsed.ok || parsed.error.kind !== 'contradiction');
        assert.ok(parsed.ok);
        const agreed = parsed.value.settings;
        // The others are as they were written; these two may be implied.
        assert.deepEqual({ ...agreed, ro: settings.ro, cache: settings.cache }, settings);
        assert.deepEqual(settingsOf(formatOptions(agreed)), agreed);
      }),
    );
  });

  it('answers any text with settings or with an error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const parsed = parseOptions([text]);
        assert.ok(parsed.ok || typeof parsed.error.option === 'string');
      }),
    );
  });
});

function contradiction(option: string, against: string) {
  return { kind: 'contradiction', option, against };
}

function settingsOf(text: string): Settings {
  const parsed = parseOptions([text]);
  assert.ok(parsed.ok, `"${text}" is refused`);
  return parsed.value.settings;
}

/** Settings with any legal value, or the default, in each place. */
function anySettings(): fc.Arbitrary<Settings> {
  const values = Object.entries<OptionSpec>(optionTable).map(([name, spec]) => [
    name,
    fc.option(anyValue(spec.value), { nil: spec.default }),
  ]);
  const record = fc.record(Object.fromEntries(values) as Record<OptionName, fc.Arbitrary<Value>>);
  return record.map((settings) => ({ ...settings }) as Settings);
}

function anyValue(kind: ValueKind): fc.Arbitrary<Value> {
  switch (kind.kind) {
    case 'integer':
      return fc.integer({ min: kind.min, max: kind.max });
    case 'size':
      return fc
        .integer({ min: kind.min / kind.multiple, max: kind.max / kind.multiple })
        .map((count) => count * kind.multiple);
    case 'amount':
      return fc.oneof(
        fc.integer({ min: kind.minPercent, max: 100 }).map((percent) => `${percent}%`),
        fc.maxSafeNat().filter((bytes) => bytes >= kind.minBytes && bytes < 1e15),
      );
    case 'choice':
      return fc.constantFrom(...kind.choices);
    case 'switch':
      return kind.off === undefined ? fc.constant(true) : fc.boolean();
    case 'path':
      return fc.string({ minLength: 1 }).filter((path) => !path.includes('\0'));
    default:
      return unreachable(kind);
  }
}
