/** A writer of tar archives ("ustar", POSIX.1-1988): the same files, the same bytes. */

export interface TarFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly executable?: boolean;
}

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
const TIME_SECONDS = 1_700_000_000;

/** Where a path is cut into prefix and name; -1 when it is name alone. */
function cutOf(path: string): number {
  if (Buffer.byteLength(path) <= NAME_BYTES) return -1;
  for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1)) {
    const rest = Buffer.byteLength(path.slice(at + 1));
    if (rest <= NAME_BYTES && Buffer.byteLength(path.slice(0, at)) <= PREFIX_BYTES) return at;
  }
  throw new RangeError(`a path that is too long for an archive: '${path}'`);
}

function header({ path, bytes, executable = false }: TarFile): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, width: number): void => {
    block.write(value.toString(8).padStart(width - 1, '0'), at);
  };
  const cut = cutOf(path);
  block.write(path.slice(cut + 1), 0);
  octal(executable ? 0o755 : 0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(bytes.length, 124, 12);
  octal(TIME_SECONDS, 136, 12);
  block.fill(' ', 148, 156);
  block.write('0', 156);
  block.write('ustar\x0000', 257);
  if (cut > 0) block.write(path.slice(0, cut), 345);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  block[154] = 0;
  return block;
}

/** An archive; folders are made by whoever unpacks it. */
export function tarOf(files: readonly TarFile[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const file of files) {
    parts.push(header(file), file.bytes, new Uint8Array(-file.bytes.length & (BLOCK_BYTES - 1)));
  }
  return Buffer.concat([...parts, new Uint8Array(2 * BLOCK_BYTES)]);
}
