// The visitor's own picture: dropped, pasted or chosen, and what the model makes of it.

import { request } from "../api.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { compare, toPixels } from "./difference.js";
import { Icon } from "./icons.js";
import { SmallPicture } from "./picture.js";

/**
 * @typedef {{
 *   url: string, crop: ImageData, reconstruction: ImageData, error: ImageData, meanError: number, mean: number[], sigma: number[],
 *   loss: number, notice: string,
 * }} OwnPicture
 */

/**
 * Sends a picture to a model.
 * @param {string} model Id of the model.
 * @param {Blob} file The picture.
 * @param {AbortSignal} [signal]
 * @returns {Promise<OwnPicture>}
 */
export async function encodePicture(model, file, signal) {
  const form = new FormData();
  form.append("image", file, /** @type {File} */ (file).name || "picture");
  const answer = await request("POST", `models/${model}/reconstruct`, { form, signal });
  const body = await answer.json();
  const crop = pixelsOf(body.input);
  const reconstruction = pixelsOf(body.image);
  const { error, mean } = compare(crop, reconstruction);
  return {
    url: URL.createObjectURL(file),
    crop,
    reconstruction,
    error,
    meanError: mean,
    mean: body.mean,
    sigma: body.log_variance.map((/** @type {number} */ value) => Math.exp(value / 2)),
    loss: body.reconstruction_loss,
    notice: body.unfamiliar ? body.unfamiliar_reason || "The model does not know pictures of this kind." : "",
  };
}

/** @param {number[][][]} rows (H, W, C) in [0, 1], H = W */
function pixelsOf(rows) {
  return toPixels(Float32Array.from(rows.flat(2)), rows.length, rows[0][0].length);
}

/**
 * Calls a function with each picture that is dropped on the page or pasted.
 * @param {(file: Blob) => void} onFile
 * @returns {boolean} Whether a file is being dragged over the page.
 */
export function useDroppedPictures(onFile) {
  const [over, setOver] = useState(false);
  const call = useRef(onFile);
  useLayoutEffect(() => void (call.current = onFile));
  useEffect(() => {
    const stop = new AbortController();
    /** @param {DataTransfer | null} data */
    const fileOf = (data) => Array.from(data?.files ?? [])[0];
    /** @param {DragEvent} event */
    const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
    const listen = (/** @type {string} */ name, /** @type {(event: any) => void} */ handle) =>
      document.addEventListener(name, handle, { signal: stop.signal });
    listen("dragover", (event) => {
      if (!holdsFile(event)) return;
      event.preventDefault();
      setOver(true);
    });
    listen("dragleave", (event) => event.relatedTarget === null && setOver(false));
    listen("drop", (event) => {
      setOver(false);
      if (!holdsFile(event)) return;
      event.preventDefault();
      const file = fileOf(event.dataTransfer);
      if (file) call.current(file);
    });
    listen("paste", (event) => {
      const file = fileOf(event.clipboardData);
      if (file) call.current(file);
    });
    return () => stop.abort();
  }, []);
  return over;
}

/**
 * @param {{own: OwnPicture | null, busy: boolean, over: boolean, onFile: (file: Blob) => void, onShow: () => void, onForget: () => void}} props
 */
export function OwnPictureCard({ own, busy, over, onFile, onShow, onForget }) {
  /** @param {Event & {target: HTMLInputElement}} event */
  const onChange = (event) => {
    const file = event.target.files?.[0];
    event.target.value = ""; // The same file can be chosen again.
    if (file) onFile(file);
  };
  return html`<section class="own" data-over=${over ? "true" : null} aria-busy=${busy} aria-label="Your picture">
    <div class="own-head">
      <label class="button" for="own-picture"><${Icon} name="upload" /> Your picture</label>
      <input type="file" id="own-picture" class="visually-hidden" accept="image/*" onChange=${onChange} />
      <span class="hint">${busy ? "Looking at it…" : own ? "" : "Choose one, drop it anywhere, or paste it."}</span>
      ${
        own &&
        html`<button type="button" class="quiet" onClick=${onShow}>Back to it</button>
        <button type="button" class="quiet" onClick=${onForget}>Remove</button>`
      }
    </div>
    ${own && html`<${Comparison} own=${own} />`}
  </section>`;
}

/** @param {{own: OwnPicture}} props */
function Comparison({ own }) {
  const tiles = [
    ["original", html`<img src=${own.url} alt="" />`],
    ["crop", html`<${SmallPicture} pixels=${own.crop} />`],
    ["reconstruction", html`<${SmallPicture} pixels=${own.reconstruction} />`],
    ["error", html`<${SmallPicture} pixels=${own.error} />`],
  ];
  return html`
    <div class="comparison">${tiles.map(([name, picture]) => html`<figure key=${name}>${picture}<figcaption>${name}</figcaption></figure>`)}</div>
    ${own.notice && html`<p class="banner warn" role="status">${own.notice}</p>`}
    <p class="hint">
      Reconstruction loss ${own.loss.toFixed(0).replace(/\B(?=(\d{3})+$)/g, "\u202f")} nats; pixels are ${(100 * own.meanError).toFixed(1)} % off on average.
      The sliders stand at your picture; their blue bands are its posterior, mean ± σ.
    </p>`;
}
