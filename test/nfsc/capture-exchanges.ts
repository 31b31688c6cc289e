/**
 * Records one visit to a real nfs-ganesha, call by call, as the golden bytes of golden.test.ts:
 *
 *   node --import tsx test/nfsc/capture-exchanges.ts      (as root)
 *
 * Calls are kept without xid and credentials, which differ from run to run and machine to machine.
 */
import { writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { startGanesha } from '../../scripts/peers/ganesha.ts';
import { Nfs3Client } from '../../src/nfsc/index.ts';
import { plain, visitEveryProcedure } from './every-procedure.ts';
import { forEachRecord } from './fake-server.ts';
import { must } from './support.ts';

interface Exchange {
  /** Program, version and procedure, then the arguments. */
  call: string;
  /** The reply without its xid. */
  reply: string;
}

const ganesha = await startGanesha();
const exchanges: Exchange[] = [];
const calls = new Map<number, string>();

/** A relay that writes down what passes. */
async function tap(port: number): Promise<number> {
  const listener = createServer((client: Socket) => {
    const server = connect(port, '127.0.0.1');
    client.pipe(server).pipe(client);
    forEachRecord(client, (record) =>
      calls.set(record.readUInt32BE(0), withoutCredentials(record)),
    );
    forEachRecord(server, (record) => {
      const call = calls.get(record.readUInt32BE(0)) ?? '';
      exchanges.push({ call, reply: record.subarray(4).toString('hex') });
    });
    client.on('error', () => server.destroy());
    client.on('close', () => server.destroy());
  });
  listener.unref();
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  return (listener.address() as AddressInfo).port;
}

function withoutCredentials(record: Buffer): string {
  const credentialsEnd = 32 + record.readUInt32BE(28);
  return Buffer.concat([record.subarray(12, 24), record.subarray(credentialsEnd + 8)]).toString(
    'hex',
  );
}

try {
  const [port, mountPort] = [await tap(ganesha.port), await tap(ganesha.mountPort)];
  const options = { server: '127.0.0.1', exportPath: '/export', port, mountPort };
  const client = must(await Nfs3Client.mount(options));
  const steps = await visitEveryProcedure(client);
  const exports = must(await client.getExports());
  must(await client.unmount());
  const fixture = {
    captured: 'nfs-ganesha 4.3, FSAL_VFS on ext4, by test/nfsc/capture-exchanges.ts',
    steps: plain(steps),
    exports: plain(exports),
    exchanges,
  };
  const path = new URL('fixtures/ganesha-exchanges.json', import.meta.url);
  writeFileSync(path, `${JSON.stringify(fixture, null, 1)}\n`);
  process.stdout.write(`${exchanges.length} exchanges in ${path.pathname}\n`);
} finally {
  await ganesha.stop();
}
