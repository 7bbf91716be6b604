import { gunzipSync, zstdDecompressSync } from 'node:zlib';

/*
 * A distribution's kernel is a small program that unpacks the real one. Emulated, that takes a second of each boot;
 * QEMU also starts the unpacked ELF image, by its PVH entry note, so it is unpacked once on the host.
 * Layout: Documentation/arch/x86/boot.rst.
 */

const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const ELF_MAGIC = 0x7f454c46;
const GZIP_MAGIC = 0x1f8b;
const ZSTD_MAGIC = 0x28b52ffd;
/** Name and type of the note that holds the PVH entry: XEN_ELFNOTE_PHYS32_ENTRY. */
const PVH_NOTE = Buffer.from('\u0012\0\0\0Xen\0', 'latin1');

/**
 * The ELF image in a bzImage.
 *
 * @returns undefined when the file is no bzImage, is packed in a way that Node cannot unpack, or has no PVH entry.
 */
export function unpackedKernel(image: Buffer): Buffer | undefined {
  if (image.length < 0x260 || image.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) !== 'HdrS') return undefined;
  // 0 means 4, for kernels that predate the field.
  const setupBytes = ((image[SETUP_SECTS] || 4) + 1) * 512;
  const from = setupBytes + image.readUInt32LE(PAYLOAD_OFFSET);
  // The build appends the unpacked size, four bytes, which zstd takes for the start of another frame.
  const payload = image.subarray(from, from + image.readUInt32LE(PAYLOAD_LENGTH) - 4);
  const kernel = unpack(payload);
  if (kernel === undefined || kernel.length < 64 || kernel.readUInt32BE(0) !== ELF_MAGIC) return undefined;
  return kernel.includes(PVH_NOTE) ? kernel : undefined;
}

function unpack(payload: Buffer): Buffer | undefined {
  if (payload.length < 4) return undefined;
  try {
    if (payload.readUInt32BE(0) === ZSTD_MAGIC) return zstdDecompressSync(payload);
    if (payload.readUInt16BE(0) === GZIP_MAGIC) return gunzipSync(payload);
  } catch {
    // A damaged or odd image: QEMU may still boot it as it is.
  }
  return undefined;
}
