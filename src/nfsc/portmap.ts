/**
 * The portmapper, version 2 (RFC 1833, section 3): which port a program listens on.
 */
import type { Procedure } from './rpc/procedure.ts';

export const PORTMAPPER_PORT = 111;

const IPPROTO_TCP = 6;

export interface GetPortArgs {
  readonly program: number;
  readonly version: number;
}

/** PMAPPROC_GETPORT for TCP. Port 0: not registered. */
export const getPort: Procedure<GetPortArgs, { status: 'OK'; port: number }> = {
  program: 100_000,
  version: 2,
  number: 3,
  name: 'GETPORT',
  storage: 'borrowed',
  encode(writer, { program, version }) {
    writer.uint32(program);
    writer.uint32(version);
    writer.uint32(IPPROTO_TCP);
    writer.uint32(0);
  },
  decode(reader) {
    const port = reader.uint32();
    // What is no port number is as good as none.
    return { status: 'OK', port: port > 0xffff ? 0 : port };
  },
  replyMaxBytes: () => 4,
};
