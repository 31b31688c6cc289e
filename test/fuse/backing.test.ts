/** What is made of the kernel's answers to files that it is to read by itself. */
import assert from 'node:assert/strict';
import { beforeEach, it } from 'node:test';
import { KernelBacking } from '../../src/fuse/backing.ts';
import { FakeDevice } from './fake-device.ts';

const EPERM = 1;
const ENOMEM = 12;

let device: FakeDevice;
let asked: number[];
let answers: number[];
let backing: KernelBacking;
beforeEach(() => {
  device = new FakeDevice();
  asked = [];
  answers = [];
  device.backing = (fd) => {
    asked.push(fd);
    return answers.shift() ?? -EPERM;
  };
  backing = new KernelBacking(device);
});

it('an id is handed on and closed', () => {
  answers = [7];
  assert.equal(backing.open(3), 7);
  assert.equal(backing.state, 'yes');
  backing.close(7);
  assert.deepEqual(device.closedBackings, [7]);
});

it('a refusal for good is not asked for again', () => {
  answers = [-EPERM, 7];
  assert.equal(backing.open(3), undefined);
  assert.equal(backing.open(4), undefined);
  assert.deepEqual(asked, [3]);
  assert.match(backing.state, /CAP_SYS_ADMIN/);
});

it('another failure is of that file only', () => {
  answers = [-ENOMEM, 7];
  assert.equal(backing.open(3), undefined);
  assert.match(backing.state, /errno 12/);
  assert.equal(backing.open(4), 7);
  assert.deepEqual(asked, [3, 4]);
  assert.equal(backing.state, 'yes');
});
