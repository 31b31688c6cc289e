/**
 * What is mounted: a server and the path of its export.
 *
 *   server:/export        as mount.nfs has it; an IPv6 address stands in brackets
 *   nfs://server[:port]/export    a URL (RFC 2224), its path percent-encoded
 */
import { err, ok, type Result } from '../base/result.ts';

export interface MountSource {
  /** A host's name or address, without brackets. */
  readonly server: string;
  /** The export's path, absolute, without a slash at its end unless it is the root. */
  readonly path: string;
  /** The NFS port, where a URL names one. */
  readonly port?: number;
}

/** A source that cannot be understood: `hint` says how it should look. */
export interface SourceError {
  readonly kind: 'bad-source';
  readonly source: string;
  readonly hint: string;
}

/** The source is shown in /proc/mounts and in logs, a line each. */
const CONTROL = /\p{Cc}/u;
const withoutControl = 'leave out control characters';

/** Reads what the user wrote. */
export function parseSource(source: string): Result<MountSource, SourceError> {
  const bad = (hint: string) => err({ kind: 'bad-source' as const, source, hint });
  if (CONTROL.test(source)) return bad(withoutControl);
  if (/^nfs:\/\//i.test(source)) return parseUrl(source, bad);

  if (/^[\da-f]*:[\da-f:]*:\//i.test(source)) {
    return bad('put an IPv6 address in brackets, as in [2001:db8::1]:/export');
  }
  const parts = /^(?:\[([^\]]*)\]|([^:/]*)):(.*)$/s.exec(source);
  if (parts === null) return bad('say which server and which export, as in server:/export');
  const [, address, name, path = ''] = parts;
  const server = address ?? name ?? '';
  if (server === '') return bad('name the server before the colon, as in server:/export');
  if (!validServer(server, address !== undefined)) return bad("that is no server's name");
  if (!path.startsWith('/')) {
    return bad("give the export's whole path, from its first slash, as in server:/export");
  }
  return ok({ server, path: withoutEndSlash(path) });
}

/** The source as mount.nfs writes it: it is shown in /proc/mounts. */
export function formatSource(source: MountSource): string {
  const server = source.server.includes(':') ? `[${source.server}]` : source.server;
  return `${server}:${source.path}`;
}

function parseUrl(
  source: string,
  bad: (hint: string) => Result<never, SourceError>,
): Result<MountSource, SourceError> {
  const parts = /^nfs:\/\/(?:\[([^\]]*)\]|([^:/?#[\]]*))(?::(\d*))?(\/[^?#]*)?$/is.exec(source);
  if (parts === null) return bad('a URL looks like nfs://server[:port]/export');
  const [, address, name, portText, path = '/'] = parts;
  const server = address ?? name ?? '';
  if (!validServer(server, address !== undefined)) return bad("that is no server's name");
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65_535)) {
    return bad('a port is a number from 1 to 65535');
  }
  const decoded = percentDecoded(path);
  if (decoded === undefined) return bad('its path is not percent-encoded UTF-8');
  if (CONTROL.test(decoded)) return bad(withoutControl);
  return ok({ server, path: withoutEndSlash(decoded), ...(port === undefined ? {} : { port }) });
}

function validServer(server: string, inBrackets: boolean): boolean {
  return inBrackets
    ? server.includes(':') && /^[\da-f:.]+(%[\w.-]+)?$/i.test(server)
    : /^[\p{L}\p{N}]([\p{L}\p{N}._-]*)$/u.test(server) && server.length <= 253;
}

function percentDecoded(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

function withoutEndSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') || '/' : path;
}
