// The decoded picture on a canvas, with a text that describes it.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";

const TEXT_DELAY_MS = 500; // Screen readers would otherwise follow every step of a drag.

/**
 * @param {{
 *   decoder: {network: {image_size: number}, decode: (z: ArrayLike<number>) => ImageData} | null,
 *   z: ArrayLike<number> | null, size?: number, alt: string, id?: string,
 * }} props The decoder and the latent vector (both null while they are loaded), the side in CSS pixels, and the text.
 */
export function Picture({ decoder, z, size = 384, alt, id = "picture" }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const text = useDelayed(alt);
  useLayoutEffect(() => {
    if (!decoder || !z || !canvas.current) return;
    drawPicture(canvas.current, decoder.decode(z));
    document.body.dataset.ready = "true";
  }, [decoder, z]);
  return html`<canvas id=${id} ref=${canvas} class="picture" role="img" aria-label=${text} width="64" height="64"
    style=${{ "--side": `${size}px` }}></canvas>`;
}

/**
 * Draws pixels on a canvas and gives it their size.
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} pixels
 */
export function drawPicture(canvas, pixels) {
  if (canvas.width !== pixels.width || canvas.height !== pixels.height) {
    canvas.width = pixels.width;
    canvas.height = pixels.height;
  }
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
}

/**
 * A small picture that does not describe itself; the text beside it does.
 * @param {{pixels: ImageData | null}} props
 */
export function SmallPicture({ pixels }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useLayoutEffect(() => {
    if (pixels && canvas.current) drawPicture(canvas.current, pixels);
  }, [pixels]);
  return html`<canvas ref=${canvas} class="small-picture" aria-hidden="true" width="1" height="1"></canvas>`;
}

/**
 * Returns a text once it has stayed the same for a while; the first one at once.
 * @param {string} text
 */
function useDelayed(text) {
  const [shown, setShown] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setShown(text), TEXT_DELAY_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return shown;
}
