// Looks at files before they are sent: can each be used to train on?

import { listZip } from "./zip.js";

const PICTURES = /\.(png|jpe?g|webp|gif|bmp|tiff?|pgm|ppm)$/i;
const ARCHIVES = /\.(zip|npz|npy|h5|hdf5)$/i;
const UNDECODED = /\.(tiff?|pgm|ppm)$/i; // The service reads them, browsers do not.
const MAX_PICTURE_BYTES = 64 * 2 ** 20;
const AT_ONCE = 4;

/** @typedef {{path: string, file: File}} Found */
/** @typedef {{path: string, file: File, good: boolean, text: string}} Verdict */

/**
 * Returns whether a set consists of one archive, which is sent as it is.
 * @param {Found[]} found
 */
export function isArchive(found) {
  return found.length === 1 && ARCHIVES.test(found[0].path);
}

/**
 * Judges pictures one after the other.
 * @param {Found[]} found
 * @param {(verdict: Verdict) => void} onVerdict Called for each as it is known.
 * @param {AbortSignal} signal
 */
export async function judge(found, onVerdict, signal) {
  const waiting = found.values();
  const work = async () => {
    for (const one of waiting) {
      if (signal.aborted) return;
      onVerdict({ ...one, ...(await verdictOf(one)) });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** @param {Found} found @returns {Promise<{good: boolean, text: string}>} */
async function verdictOf({ path, file }) {
  if (ARCHIVES.test(path)) return { good: false, text: "an archive; drop it alone" };
  if (!PICTURES.test(path)) return { good: false, text: "no picture" };
  if (file.size === 0) return { good: false, text: "empty" };
  if (file.size > MAX_PICTURE_BYTES) return { good: false, text: `too large, ${sizeText(file.size)}` };
  if (UNDECODED.test(path)) return { good: true, text: sizeText(file.size) };
  try {
    const bitmap = await createImageBitmap(file);
    const text = `${bitmap.width} × ${bitmap.height}, ${sizeText(file.size)}`;
    bitmap.close();
    return { good: true, text };
  } catch {
    return { good: false, text: "cannot be decoded" };
  }
}

/**
 * Says what is in an archive.
 * @param {File} file
 * @returns {Promise<{good: boolean, text: string}>}
 */
export async function judgeArchive(file) {
  if (!/\.zip$/i.test(file.name)) return { good: file.size > 0, text: `${sizeText(file.size)} of pixels` };
  const files = await listZip(file).catch(() => null);
  if (files === null) return { good: false, text: "no zip archive, or a damaged one" };
  const pictures = files.filter(({ path }) => PICTURES.test(path)).length;
  if (!pictures && !files.some(({ path }) => ARCHIVES.test(path))) return { good: false, text: "has no pictures" };
  return { good: true, text: `${pictures} pictures among ${files.length} files, ${sizeText(file.size)}` };
}

/**
 * Collects dropped files, also those in folders.
 * @param {DataTransfer} dropped
 * @returns {Promise<Found[]>}
 */
export async function filesOf(dropped) {
  const entries = [...dropped.items]
    .map((item) => item.webkitGetAsEntry?.())
    .filter((entry) => entry !== null && entry !== undefined);
  if (!entries.length) return [...dropped.files].map((file) => ({ path: file.name, file }));
  return (await Promise.all(entries.map(walk))).flat();
}

/** @param {any} entry @returns {Promise<Found[]>} */
async function walk(entry) {
  if (entry.name.startsWith(".") || entry.name === "__MACOSX") return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path: entry.fullPath.slice(1), file }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // At most 100 at once.
    if (!batch.length) return found;
    for (const child of batch) found.push(...(await walk(child)));
  }
}

/** @param {number} bytes */
export function sizeText(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
