/**
 * Names are bytes; logs are text. A name that is UTF-8 stays as it is, but for the percent sign and
 * what cannot be printed; in any other name every byte beyond printable ASCII becomes %XX. The
 * bytes can be had back from the text.
 */

/** The text of a name or path, for a log or for JSON. */
export function printable(bytes: Uint8Array): string {
  const name = Buffer.from(bytes);
  const text = name.toString('utf8');
  return Buffer.from(text, 'utf8').equals(name)
    ? text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}%]/gu, percentEncoded)
    : name.toString('latin1').replace(/[^ -$&-~]/g, (byte) => percent(byte.charCodeAt(0)));
}

/**
 * Text from elsewhere (what was typed, what a file says) with %XX for what cannot be printed: it
 * moves no cursor and ends no line. A percent sign stays, so that what `printable` made stays, too.
 */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, percentEncoded);
}

/** The bytes that `printable` was given. */
export function bytesOf(text: string): Buffer {
  const parts = text.split(/%([\dA-F]{2})/);
  return Buffer.concat(
    parts.map((part, index) => Buffer.from(part, index % 2 === 0 ? 'utf8' : 'hex')),
  );
}

function percentEncoded(character: string): string {
  return [...Buffer.from(character, 'utf8')].map(percent).join('');
}

function percent(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}
