import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type CommandError, report, sentence } from '../../src/cli/mount-errors.ts';
import type { MountFailure, ServerRefusal } from '../../src/daemon/mount-failure.ts';

const nothing = { message: 'as the layer below has it' };

function server(detail: ServerRefusal, exports?: string[]): MountFailure {
  const known = exports === undefined ? {} : { exports };
  return { kind: 'server', server: 'images', exportPath: '/vm', detail, ...nothing, ...known };
}

const nfs = { service: 'nfs', host: 'images', port: 2049 } as const;

const sentences: [error: CommandError, status: number, sentence: string][] = [
  [
    { kind: 'unknown-option', option: 'rszie', nearest: 'rsize' },
    1,
    'unknown option "rszie": did you mean "rsize"?',
  ],
  [
    { kind: 'unknown-option', option: 'zzz' },
    1,
    'unknown option "zzz": gvfs-mount --help lists them all',
  ],
  [
    { kind: 'bad-value', option: 'vers', value: '4', expected: '3' },
    1,
    'option "vers=4" is not possible: use 3',
  ],
  [
    { kind: 'bad-source', source: 'a\nb', hint: 'say which' },
    1,
    '"a b" cannot be mounted: say which',
  ],
  [
    { kind: 'mountpoint', fault: 'missing', mountpoint: '/m' },
    32,
    '/m does not exist: make it first, with mkdir',
  ],
  [
    { kind: 'mountpoint', fault: 'notDirectory', mountpoint: '/m' },
    32,
    '/m is not a directory: mount on a directory',
  ],
  [
    { kind: 'mountpoint', fault: 'inUse', mountpoint: '/m', occupant: 'images:/vm' },
    32,
    '/m is in use, images:/vm is mounted there: unmount it first, with fusermount3 -u /m',
  ],
  [
    { kind: 'mountpoint', fault: 'stale', mountpoint: '/m' },
    32,
    '/m is left over from a daemon that is gone (Transport endpoint is not connected): ' +
      'free it with fusermount3 -u /m',
  ],
  [
    server({ kind: 'unreachable', ...nfs, reason: 'refused' }),
    32,
    'images accepts no connection on port 2049 (nfs): start the service there, ' +
      'or name its port with -o port=N',
  ],
  [
    server({ kind: 'unreachable', ...nfs, reason: 'unknownHost' }),
    32,
    'there is no server called images: check its name',
  ],
  [
    server({ kind: 'unreachable', ...nfs, reason: 'localPort' }),
    1,
    'no source port below 1024 is to be had: run gvfs-mount as root, or try -o noresvport',
  ],
  [
    server({ kind: 'timeout', service: 'mountd', port: 20048 }),
    32,
    'images is connected on port 20048 (mountd) but does not answer: ' +
      'see whether the server hangs, or whether that port is its',
  ],
  [
    server({ kind: 'notRegistered', service: 'nfs' }),
    32,
    'images has no NFS version 3 service over TCP: enable it there, ' +
      'or name its port with -o port=N',
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_ACCES', fromPrivilegedPort: true }, ['/a', '/b']),
    32,
    'images has no export /vm: it exports /a, /b',
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_NOENT', fromPrivilegedPort: true }, []),
    32,
    'images has no export /vm: have the directory exported there',
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_NOENT', fromPrivilegedPort: true }, ['/']),
    32,
    'images has no directory /vm: it exports /',
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_ACCES', fromPrivilegedPort: true }, ['/vm']),
    32,
    "images denies this host access to /vm: add the host to the export's clients there",
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_ACCES', fromPrivilegedPort: true }, ['/', '/v']),
    32,
    'images does not give /vm, which lies in its export /: ' +
      "check that it is a directory there, and the export's clients",
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_ACCES', fromPrivilegedPort: false }, ['/']),
    32,
    'images does not give /vm, which lies in its export /: ' +
      "check that it is a directory there, and the export's clients, " +
      'and whether it is exported with "insecure"',
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_ACCES', fromPrivilegedPort: true }, ['/', '/vm']),
    32,
    "images denies this host access to /vm: add the host to the export's clients there",
  ],
  [
    server({ kind: 'refused', status: 'MNT3ERR_ACCES', fromPrivilegedPort: false }, ['/vm']),
    32,
    'images refuses access to /vm from an unprivileged port: ' +
      'run gvfs-mount as root without noresvport, or have it exported with "insecure"',
  ],
  [
    server({
      kind: 'denied',
      service: 'nfs',
      stat: 'AUTH_TOOWEAK',
      fromPrivilegedPort: false,
    }),
    32,
    'images refuses access to /vm from an unprivileged port: ' +
      'run gvfs-mount as root without noresvport, or have it exported with "insecure"',
  ],
  [
    server({ kind: 'noFlavor', offered: [390003] }),
    32,
    'images wants an authentication that gvfs does not have: have it export /vm with sec=sys',
  ],
  [
    server({ kind: 'protocol', service: 'mountd', port: 80 }),
    32,
    'what answers on port 80 of images is no mountd: check the port',
  ],
  [
    {
      kind: 'kernel',
      code: 'NO_FUSERMOUNT',
      mountpoint: '/m',
      message: 'no fusermount3: install it',
    },
    2,
    'no fusermount3: install it',
  ],
  [
    { kind: 'died', how: 'by SIGKILL' },
    4,
    'the daemon ended by SIGKILL before the mount answered: run it with -f to see why',
  ],
  [{ kind: 'interrupted' }, 8, 'interrupted: nothing is mounted'],
];

describe('one sentence and a status for', () => {
  for (const [error, status, text] of sentences) {
    it(text, () => {
      const reported = report(error);
      assert.equal(reported.status, status);
      assert.equal(sentence('gvfs-mount', reported), `gvfs-mount: ${text}`);
    });
  }
});
