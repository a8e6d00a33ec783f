// Originals and reconstructions at a step, cut out of the run's previews; the whole preview has every latent.

import { address } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { numberText } from "../charts/scale.js";

// Where training/pictures.py draws the pictures of a preview, in pixels.
const LEFT = 84;
const TOP = 26;
const COLUMNS = 8;
const GAP = 2;

/** @type {Map<string, Promise<HTMLImageElement>>} */
const loaded = new Map();

/** @param {string} url */
function load(url) {
  if (!loaded.has(url)) {
    const image = new Image();
    image.src = url;
    loaded.set(
      url,
      image.decode().then(() => image),
    );
    loaded.get(url)?.catch(() => loaded.delete(url));
    if (loaded.size > 300) loaded.delete(/** @type {string} */ (loaded.keys().next().value));
  }
  return /** @type {Promise<HTMLImageElement>} */ (loaded.get(url));
}

/** @param {{feed: import("../jobs/feed.js").Feed, step: number}} props */
export function PreviewPane({ feed, step }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [open, setOpen] = useState(false);
  const shown = feed.previews.findLast((preview) => preview <= step) ?? feed.previews[0];
  const url = shown === undefined ? null : address(`${feed.path}/previews/${String(shown).padStart(8, "0")}.png`);
  useEffect(() => {
    let outdated = false;
    if (url)
      load(url).then(
        (image) => !outdated && canvas.current && draw(canvas.current, image),
        () => undefined,
      );
    return () => {
      outdated = true;
    };
  }, [url]);
  return html`
    <section class="card pane" aria-labelledby="preview-title">
      <h2 id="preview-title">Reconstructions</h2>
      <p class="reading">${shown === undefined ? "There is no preview yet." : html`At the top pictures of the set, below what the network makes of them after step ${numberText(shown)}.`}</p>
      <canvas ref=${canvas} class="reconstructions" width=${COLUMNS * 66} height="132" role="img"
        aria-label=${`Pictures and their reconstructions after step ${shown ?? 0}.`}></canvas>
      ${
        url &&
        html`
        <details onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
          <summary>Every latent from end to end</summary>
          ${open && html`<img class="sheet" src=${url} alt=${`Traversals of every latent after step ${shown}.`} />`}
        </details>`
      }
    </section>
  `;
}

/**
 * Draws the first two rows of a preview, without the white columns of a set that has fewer than eight pictures to show.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLImageElement} image
 */
function draw(canvas, image) {
  const pitch = (image.naturalWidth - LEFT) / COLUMNS;
  const side = pitch - GAP;
  const columns = numPictures(image, pitch);
  canvas.width = columns * pitch - GAP;
  canvas.height = 2 * pitch - GAP;
  canvas.style.width = `${(100 * columns) / COLUMNS}%`;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  for (let row = 0; row < 2; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const [x, y] = [column * pitch, row * pitch];
      context.drawImage(image, LEFT + x, TOP + y + GAP / 2, side, side, x, y, side, side);
    }
  }
}

/** @param {HTMLImageElement} image @param {number} pitch @returns {number} */
function numPictures(image, pitch) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = TOP + 2 * pitch;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(image, 0, 0);
  const side = pitch - GAP;
  const isWhite = (/** @type {number} */ column) =>
    [0, 1].every((row) => {
      const tile = context.getImageData(LEFT + column * pitch, TOP + GAP / 2 + row * pitch, side, side);
      return tile.data.every((level) => level === 255);
    });
  let columns = COLUMNS;
  while (columns > 1 && isWhite(columns - 1)) columns -= 1;
  return columns;
}
