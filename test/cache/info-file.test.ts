/** The info file, byte for byte. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import { decodeInfo, encodeInfo, type ImageInfo, sameStamp } from '../../src/cache/info-file.ts';

const info: ImageInfo = {
  handle: '0102ff',
  export: 'server:2049:/export',
  fsid: 0xffff_ffff_ffff_ffffn,
  fileid: 42n,
  path: 'images/"ä".img',
  state: 'sending',
  stamp: { size: 5000, mtimeNs: 1_700_000_000_123_456_789n, ctimeNs: -1n },
  unsent: {
    size: 6000,
    mtimeNs: 1_700_000_001_123_456_789n,
    mtimeIsExact: false,
    sinceMs: 1_700_000_000_500,
    as: { uid: 1000, gid: 100, groups: [4, 24] },
    conflict: true,
  },
  lastUsedMs: 1_700_000_000_000,
  pinned: true,
  allocatedBytes: 20480,
  presentPages: 2,
};
const golden =
  '{"version":2,"handle":"0102ff","export":"server:2049:/export","fsid":"18446744073709551615",' +
  '"fileid":"42","path":"images/\\"ä\\".img","state":"sending","stamp":{"size":5000,' +
  '"mtimeNs":"1700000000123456789","ctimeNs":"-1"},' +
  '"unsent":{"size":6000,"mtimeNs":"1700000001123456789","mtimeIsExact":false,' +
  '"sinceMs":1700000000500,"as":{"uid":1000,"gid":100,"groups":[4,24]},"conflict":true},' +
  '"lastUsedMs":1700000000000,"pinned":true,' +
  '"allocatedBytes":20480,"presentPages":2,"check":"386f9b25"}\n';

/** A text with its right sum, whatever it says. */
function signed(text: string): Buffer {
  const checked = text.slice(0, text.indexOf(',"check"'));
  const sum = crc32(checked).toString(16).padStart(8, '0');
  return Buffer.from(`${checked},"check":"${sum}"}\n`);
}

describe('info file', () => {
  it('is this line', () => {
    assert.equal(encodeInfo(info).toString(), golden);
    assert.deepEqual(decodeInfo(Buffer.from(golden)), { ok: true, value: info });
  });

  it('says nothing of what is unsent where nothing is', () => {
    const { unsent: _, ...settled } = info;
    const bytes = encodeInfo(settled);
    assert.ok(!bytes.toString().includes('unsent'));
    assert.deepEqual(decodeInfo(bytes), { ok: true, value: settled });
  });

  it('is not believed with any byte changed, taken away or added', () => {
    const bytes = encodeInfo(info);
    for (let at = 0; at < bytes.length; at += 1) {
      for (const bit of [1, 0x20]) {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ bit;
        assert.equal(decodeInfo(changed).ok, false, `byte ${at}`);
      }
      assert.equal(decodeInfo(bytes.subarray(0, at)).ok, false, `cut at ${at}`);
    }
    assert.equal(decodeInfo(Buffer.concat([bytes, Buffer.from('\n')])).ok, false);
  });

  it('of another version, or with other fields and a right sum, is not believed either', () => {
    const later = signed(golden.replace('"version":2', '"version":3'));
    assert.deepEqual(decodeInfo(later), { ok: false, error: 'is of version 3' });
    const fewer = signed(golden.replace('"fsid":"18446744073709551615",', ''));
    assert.deepEqual(decodeInfo(fewer), { ok: false, error: 'is damaged' });
  });

  it('compares all of a stamp', () => {
    const { stamp } = info;
    assert.ok(sameStamp(stamp, { ...stamp }));
    assert.ok(!sameStamp(stamp, { ...stamp, size: 1 }));
    assert.ok(!sameStamp(stamp, { ...stamp, mtimeNs: 1n }));
    assert.ok(!sameStamp(stamp, { ...stamp, ctimeNs: 1n }));
  });
});
