import assert from 'node:assert/strict';
import { it } from 'node:test';
import { defaultCacheDirectory, defaultLogFile } from '../../src/config/default-paths.ts';

it('the log lies in /var for root, in the state directory for others, or nowhere', () => {
  assert.equal(defaultLogFile({ uid: 0, env: { HOME: '/root' } }), '/var/log/gvfs/gvfs.log');
  const user = (env: Record<string, string>) => defaultLogFile({ uid: 1000, env });
  assert.equal(user({ HOME: '/home/u' }), '/home/u/.local/state/gvfs/gvfs.log');
  assert.equal(user({ HOME: '/home/u', XDG_STATE_HOME: '/s' }), '/s/gvfs/gvfs.log');
  assert.equal(
    user({ HOME: '/home/u', XDG_STATE_HOME: 's' }),
    '/home/u/.local/state/gvfs/gvfs.log',
  );
  assert.equal(user({}), undefined);
});

it('the cache lies in /var for root, in the cache directory for others, or nowhere', () => {
  assert.equal(defaultCacheDirectory({ uid: 0, env: { HOME: '/root' } }), '/var/cache/gvfs');
  const user = (env: Record<string, string>) => defaultCacheDirectory({ uid: 1000, env });
  assert.equal(user({ HOME: '/home/u' }), '/home/u/.cache/gvfs');
  assert.equal(user({ HOME: '/home/u', XDG_CACHE_HOME: '/c' }), '/c/gvfs');
  assert.equal(user({}), undefined);
});
