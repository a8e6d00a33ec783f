// Zip archives in the browser: pictures are stored as they are, since they do not compress, and an archive is listed.

const MAX_FILES = 65_535; // More files, or 4 GiB, need another form of the format.
const MAX_BYTES = 2 ** 32 - 1;
const UTF8_NAMES = 0x0800;

const CRC = Uint32Array.from({ length: 256 }, (_, k) => {
  let value = k;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** @param {Uint8Array} bytes @returns {number} */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** @param {[number, number][]} fields Values and their sizes in bytes. @returns {Uint8Array} Little-endian. */
function record(fields) {
  const bytes = new Uint8Array(fields.reduce((total, [, size]) => total + size, 0));
  const view = new DataView(bytes.buffer);
  let place = 0;
  for (const [value, size] of fields) {
    if (size === 4) view.setUint32(place, value, true);
    else view.setUint16(place, value, true);
    place += size;
  }
  return bytes;
}

/**
 * Packs files into an archive without compression.
 * @param {{path: string, file: Blob}[]} files
 * @param {(done: number) => void} onProgress Called with the number of files that are packed.
 * @returns {Promise<Blob>} The files themselves stay where they are until the archive is sent.
 * @throws {RangeError} The files are too many or too large for one archive.
 */
export async function zipOf(files, onProgress) {
  const total = files.reduce((sum, { file }) => sum + file.size + 300, 0);
  if (files.length > MAX_FILES || total > MAX_BYTES) throw new RangeError("too many files for one archive");
  /** @type {(Blob | Uint8Array)[]} */
  const parts = [];
  /** @type {Uint8Array[]} */
  const directory = [];
  let offset = 0;
  for (const [k, { path, file }] of files.entries()) {
    const name = new TextEncoder().encode(path);
    const crc = crc32(new Uint8Array(await file.arrayBuffer()));
    /** @type {[number, number][]} */
    const shared = [
      [20, 2],
      [UTF8_NAMES, 2],
      [0, 2],
      [0, 2],
      [0x21, 2],
      [crc, 4],
      [file.size, 4],
      [file.size, 4],
      [name.length, 2],
      [0, 2],
    ];
    const header = record([[0x04034b50, 4], ...shared]);
    directory.push(record([[0x02014b50, 4], [20, 2], ...shared, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), name);
    parts.push(header, name, file);
    offset += header.length + name.length + file.size;
    onProgress(k + 1);
  }
  const size = directory.reduce((sum, bytes) => sum + bytes.length, 0);
  const end = record([
    [0x06054b50, 4],
    [0, 2],
    [0, 2],
    [files.length, 2],
    [files.length, 2],
    [size, 4],
    [offset, 4],
    [0, 2],
  ]);
  return new Blob(/** @type {BlobPart[]} */ ([...parts, ...directory, end]), { type: "application/zip" });
}

/**
 * Lists an archive.
 * @param {Blob} archive
 * @returns {Promise<{path: string, size: number}[] | null>} null where it is not an archive, or a very large one.
 */
export async function listZip(archive) {
  const tail = new DataView(await archive.slice(Math.max(0, archive.size - 65_557)).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) return null;
  const [size, offset] = [tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (offset === MAX_BYTES || offset + size > archive.size) return null;
  const view = new DataView(await archive.slice(offset, offset + size).arrayBuffer());
  const files = [];
  for (let place = 0; place + 46 <= size && view.getUint32(place, true) === 0x02014b50;) {
    const [name, extra, comment] = [28, 30, 32].map((field) => view.getUint16(place + field, true));
    const path = new TextDecoder().decode(new Uint8Array(view.buffer, place + 46, name));
    if (!path.endsWith("/")) files.push({ path, size: view.getUint32(place + 24, true) });
    place += 46 + name + extra + comment;
  }
  return files;
}
