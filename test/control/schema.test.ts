import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { controlPage } from '../../src/daemon/control/control-docs.ts';
import { type Call, Failure } from '../../src/daemon/control/protocol.ts';
import { ErrorCode, fieldsOf, methods } from '../../src/daemon/control/schema.ts';
import { Service } from '../../src/daemon/control/service.ts';
import { check, checkAny } from '../../src/daemon/control/shape.ts';
import { FakeMount } from './fake.ts';

describe('the schema', () => {
  it('docs/CONTROL.md is what the table says', () => {
    const page = readFileSync(new URL('../../docs/CONTROL.md', import.meta.url), 'utf8');
    const command = 'node --import tsx src/daemon/control/control-docs.ts > docs/CONTROL.md';
    assert.equal(page, controlPage(), `run ${command} again`);
  });

  it('says something of every field', () => {
    for (const [name, { params, result }] of Object.entries(methods)) {
      for (const field of [...fieldsOf(params), ...fieldsOf(result)]) {
        assert.notEqual(field.shape.doc, '', `${name}: ${field.name}`);
      }
    }
  });

  it('is kept by every answer', async () => {
    const mount = new FakeMount();
    const { handlers } = new Service(mount, systemClock);
    mount.waitingRequests = [{ operation: 'READ', ino: 3 as never, ageMs: 12.5 }];
    const path = 'vm/disk.img';
    const answers = {
      status: await handlers.status({}, call),
      images: await handlers.images({}, call),
      warm: await handlers.warm({ path, background: true }, call),
      verify: await handlers.verify({ path }, call),
      evict: await handlers.evict({}, call),
      pin: await handlers.pin({ path }, call),
      unpin: await handlers.unpin({ path }, call),
      failWaiting: await handlers.failWaiting({ path }, call),
      map: await handlers.map({ path, parts: 4 }, call),
      writeBack: await handlers.writeBack({}, call),
      flush: await handlers.flush({ path }, call),
      resolve: await resolved(mount, handlers),
      umount: await handlers.umount({ unsent: 'keep' }, call),
      events: await handlers.events({ since: 0, follow: false }, call),
    };
    for (const [name, { result }] of Object.entries(methods)) {
      const answer = answers[name as keyof typeof answers];
      assert.ok(!(answer instanceof Failure), name);
      assert.deepEqual(checkAny(result, answer, 'refuse'), { ok: true, value: answer }, name);
    }
  });

  it('has one code for each kind of error', () => {
    const codes = Object.values(ErrorCode);
    assert.equal(new Set(codes).size, codes.length);
  });

  it('takes the parameters that people give', () => {
    const { params } = methods.warm;
    assert.ok(check(params, { path: 'a', start: 0, end: 1, check: true }, 'refuse').ok);
    assert.ok(!check(params, { path: 'a', start: -1 }, 'refuse').ok);
  });
});

async function resolved(mount: FakeMount, { resolve }: Service['handlers']) {
  mount.sending.inConflict('vm/disk.img', 8192);
  return resolve({ path: 'vm/disk.img', keep: 'theirs' }, call);
}

const call: Call = {
  signal: new AbortController().signal,
  progress: () => undefined,
  event: () => undefined,
};
