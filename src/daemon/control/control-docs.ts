/**
 * The schema as people read it: docs/CONTROL.md.
 * `node --import tsx src/daemon/control/control-docs.ts > docs/CONTROL.md` writes it.
 */
import { fileURLToPath } from 'node:url';
import {
  ErrorCode,
  errorDocs,
  eventFields,
  fieldsOf,
  type MethodSpec,
  methods,
  PROTOCOL_VERSION,
  progressFields,
} from './schema.ts';
import { describeShape, type RecordShape, record } from './shape.ts';

/** The text of docs/CONTROL.md. */
export function controlPage(): string {
  return [
    '# The control socket',
    '',
    'Each mount answers on a UNIX socket, which the command `gvfs` uses, and any other program may:',
    'JSON-RPC 2.0, one JSON object a line, in UTF-8.',
    '',
    'This page is generated from `src/daemon/control/schema.ts`: change it there, then run',
    '`node --import tsx src/daemon/control/control-docs.ts > docs/CONTROL.md`.',
    '',
    `Version of the schema: ${PROTOCOL_VERSION}. Later versions of the same number may add methods,`,
    'optional parameters, and fields to results: leave alone what you do not know.',
    '',
    '## Where',
    '',
    '| mounted by | socket |',
    '|---|---|',
    '| root | `/run/gvfs/NAME.sock` |',
    '| others | `$XDG_RUNTIME_DIR/gvfs/NAME.sock`, else `/tmp/gvfs-UID/NAME.sock` |',
    '',
    'NAME is the first 16 hex digits of the SHA-256 of the mountpoint, a real and absolute path:',
    "`printf %s /mnt/vm | sha256sum | cut -c1-16`. The socket's mode is 0600, its directory's 0700:",
    'it is for root and for the user whose daemon it is. Never use a path in the mount to find it.',
    '',
    '```',
    `$ echo '{"jsonrpc":"2.0","id":1,"method":"images"}' | nc -N -U /run/gvfs/NAME.sock`,
    '{"jsonrpc":"2.0","id":1,"result":{"cache":{...},"images":[...]}}',
    '```',
    '',
    '## Rules',
    '',
    '- A request has `jsonrpc`, `id` (a number or text, of no other call under way), `method` and,',
    '  where there are any, `params`, an object. Batches are not served. Answers come in any order.',
    '- A long call sends notifications `progress` meanwhile, at most ten a second, and fewer to a',
    '  client that is slow to read them.',
    '- The notification `cancel` with `params` `{"id": N}` ends a call; so does hanging up, or ending',
    '  the sending half of the connection. A cancelled call is answered with an error, and what it',
    '  has done stays done.',
    '- A line of a request has at most 64 KiB. There are at most 64 clients, and 32 calls of each at',
    '  once. A client without a call is hung up after five minutes.',
    '- Paths are relative to the mountpoint and have no slash at their start; `""` is the mountpoint.',
    '  Names are bytes: a path that is UTF-8 stands as it is, but for `%` and what cannot be printed,',
    '  which are `%XX`; in any other path every byte beyond printable ASCII is.',
    '- Sizes are bytes, times milliseconds. Every field of a result is always there; `null` is "not',
    '  known", or "there is none".',
    '',
    '## Errors',
    '',
    '| code | when |',
    '|---|---|',
    ...Object.entries(errorDocs).map(
      ([name, doc]) => `| ${ErrorCode[name as keyof typeof ErrorCode]} | ${cell(doc)} |`,
    ),
    '',
    '## Methods',
    '',
    ...Object.entries<MethodSpec>(methods).flatMap(([name, spec]) => method(name, spec)),
    '## Notification `progress`',
    '',
    ...table(record('', progressFields)),
    '## Notification `event`',
    '',
    ...table(record('', eventFields)),
  ].join('\n');
}

function method(name: string, { doc, params, result, long }: MethodSpec): string[] {
  return [
    `### \`${name}\``,
    '',
    long === true ? `${doc} A long call.` : doc,
    '',
    ...(fieldsOf(params).length === 0
      ? ['No parameters.', '']
      : ['Parameters:', '', ...table(params)]),
    'Result:',
    '',
    ...table(result),
  ];
}

function table(shape: RecordShape): string[] {
  return [
    '| field | value | meaning |',
    '|---|---|---|',
    ...fieldsOf(shape).map(
      ({ name, shape: field }) =>
        `| \`${name}\` | ${cell(describeShape(field))} | ${cell(field.doc)} |`,
    ),
    '',
  ];
}

/** A table's cell cannot hold a bar. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(controlPage());
