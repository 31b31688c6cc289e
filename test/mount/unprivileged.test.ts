/**
 * What gvfs-mount needs of the machine, in a mount namespace of its own whose /dev and /usr/bin the
 * test makes, and as a user who is not root.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Ganesha, startGanesha } from '../../scripts/peers/ganesha.ts';
import { Children, type Finished } from './children.ts';

const PACKAGE = fileURLToPath(new URL('../..', import.meta.url));
const NOBODY = 65_534;

/**
 * A private /dev with the usual devices, the package and this Node where every user can read them
 * ($1/package, $1/node), and a mountpoint of the user's ($1/mnt).
 */
const PREPARE = `
set -euo pipefail
mount -t tmpfs -o mode=755 none /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/zero c 1 5
mknod -m 666 /dev/random c 1 8
mknod -m 666 /dev/urandom c 1 9
mknod -m 666 /dev/fuse c 10 229
mkdir "$1/package" "$1/mnt"
touch "$1/node" "$1/log"
mount --bind "$2" "$1/package"
mount --bind "$3" "$1/node"
chown ${NOBODY}:${NOBODY} "$1/mnt" "$1/log"
as_user() { setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups "$@"; }
gvfs_mount() { "$1/node" "$1/package/dist/cli/gvfs-mount.js" "\${@:2}"; }
as_user_mount() { as_user "$1/node" "$1/package/dist/cli/gvfs-mount.js" "\${@:2}"; }
`;

/** Everything of /usr/bin but fusermount3. */
const WITHOUT_FUSERMOUNT = `
mkdir "$1/bin" "$1/links"
mount --bind /usr/bin "$1/bin"
for program in "$1"/bin/*; do ln -s "$program" "$1/links/"; done
rm "$1"/links/fusermount3
mount --bind "$1/links" /usr/bin
hash -r
`;

describe('what the machine lacks is said in one sentence', () => {
  let server: Ganesha;
  let state: string;
  let children: Children;

  before(async () => {
    server = await startGanesha();
    writeFileSync(join(server.directory, 'file'), 'content\n');
    chmodSync(join(server.directory, 'file'), 0o644);
  });
  after(() => server.stop());
  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), 'gvfs-namespace-'));
    chmodSync(state, 0o755);
    children = new Children();
  });
  afterEach(() => {
    children.killAll();
    rmSync(state, { recursive: true });
  });

  it('no /dev/fuse', async () => {
    const { code, stderr } = await inNamespace(`rm /dev/fuse; gvfs_mount "$1" ${args()}`);
    assert.match(stderr, /^gvfs-mount: \/dev\/fuse is not there[^\n]*: load it with[^\n]+\n$/);
    assert.equal(code, 2);
  });

  it('no addon', async () => {
    const script = `mkdir "$1/empty"; mount --bind "$1/empty" "$1/package/native-bindings"
      gvfs_mount "$1" ${args()}`;
    const { code, stderr } = await inNamespace(script);
    assert.match(stderr, /^gvfs-mount: [^\n]*addon cannot be loaded[^\n]+=fuse-native\n$/);
    assert.equal(code, 2);
  });

  it('a /dev/fuse that the user may not open', async () => {
    const { code, stderr } = await inNamespace(`chmod 600 /dev/fuse; as_user_mount "$1" ${args()}`);
    assert.match(stderr, /^gvfs-mount: \/dev\/fuse may not be opened by this user: [^\n]+\n$/);
    assert.equal(code, 1);
  });

  it('no fusermount3', async () => {
    const { code, stderr } = await inNamespace(
      `${WITHOUT_FUSERMOUNT} as_user_mount "$1" ${args()}`,
    );
    assert.match(stderr, /^gvfs-mount: fusermount3 is not installed: install [^\n]+\n$/);
    assert.equal(code, 2);
  });

  it('allow_other where /etc/fuse.conf does not let users', async () => {
    const script = `: > "$1/fuse.conf"; mount --bind "$1/fuse.conf" /etc/fuse.conf
      as_user_mount "$1" ${args('allow_other')}`;
    const { code, stderr } = await inNamespace(script);
    assert.match(stderr, /^gvfs-mount: allow_other [^\n]+: write user_allow_other into [^\n]+\n$/);
    assert.equal(code, 1);
  });

  it('a mountpoint that is not theirs', async () => {
    const { code, stderr } = await inNamespace(`chown 0:0 "$1/mnt"; as_user_mount "$1" ${args()}`);
    assert.match(stderr, /^gvfs-mount: mounting on [^\n]+ is not permitted: [^\n]+\n$/);
    assert.equal(code, 1);
  });

  it('and with all of it a user mounts, reads and unmounts', async () => {
    const script = `as_user_mount "$1" ${args()}
      as_user cat "$1/mnt/file"
      as_user sed -n "s|.* $1/mnt\\( fuse.gvfs [^ ]*\\).*|\\1|p" /proc/self/mounts
      as_user fusermount3 -u "$1/mnt"
      until grep -q unmounted "$1/log"; do sleep 0.02; done`;
    const { code, stdout, stderr } = await inNamespace(script);
    assert.equal(stderr, '');
    assert.match(stdout, /^content\n fuse\.gvfs rw,nosuid,nodev,/);
    assert.doesNotMatch(stdout, /allow_other/);
    assert.equal(code, 0);
  });

  /** Mount options, source and mountpoint, for the shell. */
  function args(...options: string[]): string {
    const ports = [`port=${server.port}`, `mountport=${server.mountPort}`, 'nocache', 'log=$1/log'];
    return `-o "${[...ports, ...options].join(',')}" 127.0.0.1:${server.exportPath} "$1/mnt"`;
  }

  function inNamespace(script: string): Promise<Finished> {
    const shell = ['bash', '-c', `${PREPARE}${script}`, 'bash', state, PACKAGE, process.execPath];
    return children.finish('unshare', ['--mount', '--propagation', 'private', '--', ...shell]);
  }
});
