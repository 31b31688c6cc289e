import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type Caller,
  type MountRequest,
  parseMountCommand,
  type TextRequest,
} from '../../src/cli/mount-command.ts';
import type { CommandError } from '../../src/cli/mount-errors.ts';

describe('gvfs-mount', () => {
  it('takes options before and after what is mounted and where', () => {
    for (const args of [
      ['images:/vm', '/mnt', '-o', 'ro,timeo=5'],
      ['-o', 'ro,timeo=5', 'images:/vm', '/mnt'],
      ['images:/vm', '-o', 'ro', '/mnt', '-otimeo=5'],
      ['-r', '--options=timeo=5', 'images:/vm', '/mnt'],
    ]) {
      const request = mount(args);
      assert.deepEqual(request.source, { server: 'images', path: '/vm' });
      assert.equal(request.mountpoint, '/mnt');
      assert.equal(request.settings.ro, true);
      assert.equal(request.settings.timeo, 5);
      assert.equal(request.foreground, false);
    }
  });

  it('has long flags for options of its own', () => {
    const { settings, foreground } = mount([
      '-f',
      '--transport=fuse-native',
      '--log=a,b\\c',
      '--log-level',
      'debug',
      '--log-format',
      'json',
      'images:/vm',
      'mnt',
    ]);
    assert.equal(foreground, true);
    assert.equal(settings.transport, 'fuse-native');
    assert.equal(settings.log, 'a,b\\c');
    assert.equal(settings.log_level, 'debug');
    assert.equal(settings.log_format, 'json');
  });

  it('prints help and version', () => {
    assert.match(text(['--help']), /rsize=N/);
    assert.match(text(['--help']), /Exit status/);
    assert.match(text(['-V']), /^\d+\.\d+\.\d+\n$/);
    assert.match(text(['--version', 'images:/vm']), /^\d/);
  });

  const refused: [args: string[], error: Partial<CommandError> & Record<string, unknown>][] = [
    [[], { kind: 'usage' }],
    [['images:/vm'], { what: 'the directory to mount on is missing' }],
    [['images:/vm', '/mnt', '/x'], { kind: 'usage', what: 'too many arguments' }],
    [['--foregroud', 'images:/vm', '/mnt'], { toDo: 'did you mean "--foreground"?' }],
    [['--transprot=native', 'images:/vm', '/mnt'], { toDo: 'did you mean "--transport"?' }],
    [['images:/vm', '/mnt', '-o'], { toDo: 'give it a value' }],
    [['--transport=kernel', 'images:/vm', '/mnt'], { kind: 'bad-value', option: 'transport' }],
    [['images', '/mnt'], { kind: 'bad-source' }],
    [['-o', 'rszie=1', 'images:/vm', '/mnt'], { kind: 'unknown-option', nearest: 'rsize' }],
  ];
  for (const [args, expected] of refused) {
    it(`refuses: ${args.join(' ')}`, () => {
      const parsed = parseMountCommand(args, 'person');
      assert.ok(!parsed.ok);
      for (const [key, value] of Object.entries(expected)) {
        assert.equal({ ...parsed.error }[key as keyof CommandError], value);
      }
    });
  }
});

describe('mount.gvfs, as mount(8) calls it', () => {
  it('takes its flags, of which -f is another one', () => {
    const args = ['images:/vm', '/mnt', '-s', '-f', '-n', '-v', '-o', 'rw,what=ever', '-t', 'gvfs'];
    const request = mount(args, 'mount(8)');
    assert.equal(request.fake, true);
    assert.equal(request.foreground, false);
    assert.equal(request.verbose, true);
    assert.deepEqual(
      request.notes.map(({ option }) => option),
      ['what=ever'],
    );
  });

  it('prints help with the options, as for a person', () => {
    const request = parse(['--help'], 'mount(8)');
    assert.ok(request.kind === 'text');
    for (const part of [/rsize=N/, /fstab/, /Exit status/]) assert.match(request.text, part);
  });

  it('refuses what is unknown without -s', () => {
    const parsed = parseMountCommand(['images:/vm', '/mnt', '-o', 'rw,what=ever'], 'mount(8)');
    assert.ok(!parsed.ok);
    assert.equal(parsed.error.kind, 'unknown-option');
  });
});

function parse(args: string[], caller: Caller): MountRequest | TextRequest {
  const parsed = parseMountCommand(args, caller);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value;
}

function mount(args: string[], caller: Caller = 'person'): MountRequest {
  const request = parse(args, caller);
  assert.ok(request.kind === 'mount');
  return request;
}

function text(args: string[]): string {
  const request = parse(args, 'person');
  assert.ok(request.kind === 'text');
  return request.text;
}
