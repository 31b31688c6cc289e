import assert from 'node:assert/strict';
import { it } from 'node:test';
import { defaultLogFile } from '../../src/config/default-paths.ts';

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
