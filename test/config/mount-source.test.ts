import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatSource, type MountSource, parseSource } from '../../src/config/mount-source.ts';

describe('parseSource', () => {
  const read: [text: string, source: MountSource][] = [
    ['images.example.org:/vm', { server: 'images.example.org', path: '/vm' }],
    ['images:/', { server: 'images', path: '/' }],
    ['10.0.0.1:/a b:c/d', { server: '10.0.0.1', path: '/a b:c/d' }],
    ['images:/vm///', { server: 'images', path: '/vm' }],
    ['[2001:db8::1]:/vm', { server: '2001:db8::1', path: '/vm' }],
    ['[fe80::1%eth0]:/vm', { server: 'fe80::1%eth0', path: '/vm' }],
    ['nfs://images/vm', { server: 'images', path: '/vm' }],
    ['NFS://images:2050/a%20b', { server: 'images', path: '/a b', port: 2050 }],
    ['nfs://[::1]:2050/vm/', { server: '::1', path: '/vm', port: 2050 }],
    ['nfs://images', { server: 'images', path: '/' }],
    ['übung:/vm', { server: 'übung', path: '/vm' }],
  ];
  for (const [text, source] of read) {
    it(`reads ${text}`, () => assert.deepEqual(parseSource(text), { ok: true, value: source }));
  }

  const refused: [text: string, hint: RegExp][] = [
    ['', /server:\/export/],
    ['/dev/sda1', /server:\/export/],
    ['images', /server:\/export/],
    ['images/vm', /server:\/export/],
    [':/vm', /name the server/],
    ['images:', /first slash/],
    ['images:vm', /first slash/],
    ['2001:db8::1:/vm', /brackets/],
    ['::1:/vm', /brackets/],
    ['[images]:/vm', /no server's name/],
    ['[]:/vm', /name the server/],
    ['-images:/vm', /no server's name/],
    ['a b:/vm', /no server's name/],
    ['images:/a\nb', /control characters/],
    ['nfs://', /no server's name/],
    ['nfs://images:0/vm', /port/],
    ['nfs://images:99999/vm', /port/],
    ['nfs://user@images/vm', /no server's name/],
    ['nfs://images/vm?x=1', /URL/],
    ['nfs://images/%ff', /percent/],
    ['nfs://images/a%0Ab', /control characters/],
    ['nfs://images/%00', /control characters/],
    ['nfs://images/%C2%85', /control characters/],
  ];
  for (const [text, hint] of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      const parsed = parseSource(text);
      assert.ok(!parsed.ok);
      assert.match(parsed.error.hint, hint);
    });
  }

  it('reads back what formatSource wrote, and any text without throwing', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom('a:/', '[::1]:/', 'nfs://a/', ''), (text, start) => {
        const parsed = parseSource(start + text);
        if (!parsed.ok) return;
        const { port: _, ...source } = parsed.value;
        assert.deepEqual(parseSource(formatSource(source)), { ok: true, value: source });
      }),
    );
  });
});
