import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MountSource } from '../../src/config/mount-source.ts';
import type { Settings } from '../../src/config/options.ts';
import { parseOptions } from '../../src/config/parse-options.ts';
import { readAheadKib } from '../../src/daemon/read-ahead.ts';
import {
  amountOf,
  assumedServer,
  mountOptionsOf,
  retryLimitMs,
  vfsOptionsOf,
} from '../../src/daemon/translate.ts';

const source: MountSource = { server: 'images', path: '/vm' };

describe('options in the words of the layers', () => {
  it("the client's", () => {
    const defaults = mountOptionsOf(source, settingsOf(''));
    assert.deepEqual(defaults, {
      server: 'images',
      exportPath: '/vm',
      port: undefined,
      mountPort: undefined,
      resvport: undefined,
      rsize: 1 << 20,
      wsize: 1 << 20,
      timeoDeciseconds: 600,
      retrans: 2,
      hard: true,
      nconnect: 1,
    });
    const given = mountOptionsOf(
      source,
      settingsOf(
        'port=1,mountport=2,noresvport,rsize=8K,wsize=16K,timeo=5,retrans=7,soft,nconnect=4',
      ),
    );
    assert.deepEqual(given, {
      server: 'images',
      exportPath: '/vm',
      port: 1,
      mountPort: 2,
      resvport: false,
      rsize: 8192,
      wsize: 16_384,
      timeoDeciseconds: 5,
      retrans: 7,
      hard: false,
      nconnect: 4,
    });
  });

  it("a URL's port counts where no option names one", () => {
    const url = { ...source, port: 9 };
    assert.equal(mountOptionsOf(url, settingsOf('')).port, 9);
    assert.equal(mountOptionsOf(url, settingsOf('port=1')).port, 1);
  });

  it("the file system's", () => {
    assert.deepEqual(vfsOptionsOf(settingsOf(''), true), {
      acregminMs: 3_000,
      acregmaxMs: 60_000,
      acdirminMs: 30_000,
      acdirmaxMs: 60_000,
      attributeCaching: true,
      lookupcache: 'all',
      readdirplus: true,
      readOnly: false,
      session: 'shared',
      write: 'through',
      fsync: 'server',
      allowOther: true,
    });
    assert.deepEqual(
      vfsOptionsOf(settingsOf('acregmin=90,acdirmax=5,noac,lookupcache=pos,nordirplus,ro'), false),
      {
        acregminMs: 90_000,
        acregmaxMs: 90_000,
        acdirminMs: 30_000,
        acdirmaxMs: 30_000,
        attributeCaching: false,
        lookupcache: 'positive',
        readdirplus: false,
        readOnly: true,
        session: 'shared',
        write: 'through',
        fsync: 'server',
        allowOther: false,
      },
    );
  });

  it("the cache's", () => {
    assert.deepEqual(amountOf(settingsOf('').cachesize), { percent: 80 });
    assert.deepEqual(amountOf(settingsOf('cachesize=10G').cachesize), { bytes: 10 * 2 ** 30 });
    assert.deepEqual(amountOf(settingsOf('cachefree=0%').cachefree), { percent: 0 });
    assert.equal(vfsOptionsOf(settingsOf('session=readonly'), true).session, 'readonly');
    assert.equal(vfsOptionsOf(settingsOf('session=readonly'), true).readOnly, true);
    const exclusive = vfsOptionsOf(settingsOf('session=exclusive'), true);
    assert.deepEqual([exclusive.write, exclusive.fsync], ['through', 'server']);
  });

  it('the server that is meant while nobody can ask for its port', () => {
    assert.equal(assumedServer(source, settingsOf('')), 'images:2049');
    assert.equal(assumedServer({ ...source, port: 9 }, settingsOf('')), 'images:9');
    assert.equal(assumedServer({ ...source, server: '::1' }, settingsOf('port=1')), '[::1]:1');
  });

  it('the time to try again', () => {
    assert.equal(retryLimitMs(settingsOf('')), 0);
    assert.equal(retryLimitMs(settingsOf('retry=2')), 120_000);
    assert.equal(retryLimitMs(settingsOf('bg')), 600_000_000);
    assert.equal(retryLimitMs(settingsOf('bg,retry=1')), 60_000);
  });

  it('more read-ahead the longer the round trip', () => {
    const sizes = [0.1, 1, 35].map(readAheadKib);
    assert.deepEqual(sizes, [2048, 4096, 8192]);
  });
});

function settingsOf(text: string): Settings {
  const parsed = parseOptions([text]);
  assert.ok(parsed.ok);
  return parsed.value.settings;
}
