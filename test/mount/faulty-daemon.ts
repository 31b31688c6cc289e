/**
 * A daemon in the foreground that breaks once its mount answers: argv is a plan in JSON, then how
 * it breaks, `throw` or `reject`.
 */
import type { MountPlan } from '../../src/daemon/mount-plan.ts';
import { serve } from '../../src/daemon/serve.ts';

const [, , planText = '', how] = process.argv;
const plan = JSON.parse(planText) as MountPlan;

const served = await serve(plan, {
  ready() {
    process.stdout.write('ready\n');
    process.once('SIGWINCH', () => {
      if (how === 'reject') void Promise.reject(new Error('a broken promise'));
      else throw new Error('a broken invariant');
    });
  },
});
process.stdout.write(`${JSON.stringify(served)}\n`);
process.exit(served.kind === 'ended' && served.end === 'unmounted' ? 0 : 4);
