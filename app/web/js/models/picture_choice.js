// The picture on which models are compared: one of a data set, or the visitor's own.

import { Problem, address, request } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { DropZone } from "./drop_zone.js";

const TILE_PX = 64;
const MOST_PIXELS = 4_000_000; // A larger picture is scaled down while it is read.

/**
 * @param {{
 *   isVisible: boolean, dataset: string | undefined, onPicture: (pixels: ImageData) => void,
 *   onRefused: (problem: import("../api.js").Problem) => void,
 * }} props
 */
export function PictureChoice({ isVisible, dataset, onPicture, onRefused }) {
  const [tiles, setTiles] = useState(/** @type {ImageData[]} */ ([]));
  const [chosen, setChosen] = useState(-1);
  useEffect(() => {
    if (!isVisible || !dataset) return undefined;
    const stop = new AbortController();
    tilesOf(dataset, stop.signal).then(
      (found) => {
        setTiles(found);
        setChosen(0);
        onPicture(found[0]);
      },
      () => stop.signal.aborted || setTiles([]), // The visitor's own picture still works.
    );
    return () => stop.abort();
  }, [isVisible, dataset]);
  /** @param {File | undefined} file */
  const take = async (file) => {
    if (!file) return;
    try {
      onPicture(await pixelsOf(file));
      setChosen(-1);
    } catch {
      onRefused(new Problem({ code: "not_an_image", detail: `${file.name} cannot be decoded by this browser.` }));
    }
  };
  return html`
    <div class="picture-choice">
      <div class="tiles" role="group" aria-label="Pictures of the data set">
        ${tiles.map(
          (
            tile,
            place,
          ) => html`<button type="button" key=${place} class="tile" aria-pressed=${place === chosen} aria-label=${`Picture ${place + 1}`}
          onClick=${() => (setChosen(place), onPicture(tile))}><${Tile} pixels=${tile} /></button>`,
        )}
      </div>
      <${DropZone} id="compare-picture" title="or your own" hint="Drop a picture here." button="Choose a picture" accept="image/*"
        onDrop=${(/** @type {DataTransfer} */ dropped) => take(dropped.files[0])} onPick=${(/** @type {File[]} */ files) => take(files[0])} />
    </div>
  `;
}

/** @param {{pixels: ImageData | null}} props */
export function Tile({ pixels }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => {
    const target = canvas.current;
    if (!target || !pixels) return;
    [target.width, target.height] = [pixels.width, pixels.height];
    target.getContext("2d")?.putImageData(pixels, 0, 0);
  }, [pixels]);
  return html`<canvas ref=${canvas} width="64" height="64" aria-hidden="true"></canvas>`;
}

/**
 * Returns the pictures of a data set's sample.
 * @param {string} dataset
 * @param {AbortSignal} signal
 * @returns {Promise<ImageData[]>}
 */
async function tilesOf(dataset, signal) {
  const response = await request("GET", `datasets/${dataset}/sample.png`, { accept: "image/png", signal });
  const sheet = await createImageBitmap(await response.blob());
  const context = contextOf(sheet.width, sheet.height);
  context.drawImage(sheet, 0, 0);
  const columns = sheet.width / TILE_PX;
  const count = columns * (sheet.height / TILE_PX);
  return Array.from({ length: count }, (_, k) =>
    context.getImageData(TILE_PX * (k % columns), TILE_PX * Math.floor(k / columns), TILE_PX, TILE_PX),
  );
}

/**
 * Decodes a picture file.
 * @param {File} file
 * @returns {Promise<ImageData>}
 */
async function pixelsOf(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const [width, height] = [
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
  ];
  const context = contextOf(width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** @param {number} width @param {number} height */
function contextOf(width, height) {
  return /** @type {OffscreenCanvasRenderingContext2D} */ (
    new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })
  );
}
