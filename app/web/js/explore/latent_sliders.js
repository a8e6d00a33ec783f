// The sliders of a model's latents with their filmstrips; used by every view in which a decoder is played with.

import { html, useCallback, useEffect, useRef, useState } from "../html.js";
import { LatentRow } from "./latent_row.js";
import { FRAMES } from "./latents.js";

/**
 * @param {{
 *   latents: import("./latents.js").Latent[], z: Float32Array, onInput: (index: number, value: number) => void,
 *   onRelease?: (index: number) => void, onRename?: (index: number, label: string) => void,
 *   strips: {render: (z: Float32Array, latents: number[], values: number[]) => Promise<ImageData[][] | null>} | null,
 *   posterior?: {mean: number[], sigma: number[]} | null, playing?: number | null,
 * }} props The latents, the strongest first; what is shown; who renders the filmstrips (null: none); the posterior of
 *   the visitor's own picture; the latent that moves by itself.
 */
export function LatentSliders({ latents, z, onInput, onRelease, onRename, strips, posterior = null, playing = null }) {
  const canvases = useRef(/** @type {Map<number, HTMLCanvasElement>} */ (new Map()));
  const [unfolded, setUnfolded] = useState(false);
  const marks = useRef(new Map());
  const calls = useRef({ onInput, onRelease });
  calls.current = { onInput, onRelease };
  const input = useCallback(
    (/** @type {number} */ index, /** @type {number} */ value) => calls.current.onInput(index, value),
    [],
  );
  const release = useCallback((/** @type {number} */ index) => calls.current.onRelease?.(index), []);
  const onCanvas = useCallback((/** @type {number} */ index, /** @type {HTMLCanvasElement | null} */ canvas) => {
    if (canvas) canvases.current.set(index, canvas);
    else canvases.current.delete(index);
  }, []);

  const active = latents.filter((latent) => latent.active);
  const unused = latents.filter((latent) => !latent.active);
  const drawn = unfolded ? latents : active;
  const indices = drawn.map((latent) => latent.index).join();
  useEffect(() => {
    if (!strips) return;
    let gone = false;
    const asked = indices.split(",").map(Number);
    const values = FRAMES.map((share) => share * latents[0].range);
    strips.render(z, asked, values).then((rows) => {
      if (rows && !gone) rows.forEach((frames, row) => drawStrip(canvases.current.get(asked[row]), frames));
    });
    // A vector that has moved on still shows how its neighbourhood looked; another decoder's frames would mislead.
    return () => void (gone = stripsOf.current !== strips);
  }, [strips, z, indices]);
  const stripsOf = useRef(strips);
  stripsOf.current = strips;

  useEffect(() => marks.current.clear(), [posterior]);
  /** @param {number} index */
  const markOf = (index) => {
    if (!posterior) return null;
    if (marks.current.get(index)?.of !== posterior) {
      marks.current.set(index, { of: posterior, mean: posterior.mean[index], sigma: posterior.sigma[index] });
    }
    return marks.current.get(index);
  };
  const largestKl = Math.max(0, ...latents.map((latent) => latent.kl));
  /** @param {import("./latents.js").Latent} latent */
  const row = (latent) => html`<${LatentRow} key=${latent.index} latent=${latent} value=${valueOf(z, latent.index)}
    largestKl=${largestKl} playing=${playing === latent.index} strip=${strips !== null} mark=${markOf(latent.index)}
    onInput=${input} onRelease=${release} onRename=${onRename} onCanvas=${onCanvas} />`;
  return html`<div class="latents">
    <ul class="latent-list">${active.map(row)}</ul>
    ${
      unused.length > 0 &&
      html`<details class="unused" onToggle=${(/** @type {any} */ event) => setUnfolded(event.target.open)}>
      <summary>${unused.length} unused</summary>
      <p class="hint">The model does not use what is listed here: moving it changes next to nothing.</p>
      ${unfolded && html`<ul class="latent-list">${unused.map(row)}</ul>`}
    </details>`
    }
  </div>`;
}

/**
 * Returns a value of a vector without the digits that float32 adds.
 * @param {ArrayLike<number>} z
 * @param {number} index
 */
function valueOf(z, index) {
  return Number(z[index].toFixed(3));
}

/**
 * Draws the frames of a filmstrip side by side.
 * @param {HTMLCanvasElement | undefined} canvas
 * @param {ImageData[]} frames
 */
export function drawStrip(canvas, frames) {
  if (!canvas || frames.length === 0) return;
  const size = frames[0].width;
  if (canvas.width !== size * frames.length || canvas.height !== size) {
    canvas.width = size * frames.length;
    canvas.height = size;
  }
  const context = canvas.getContext("2d");
  frames.forEach((frame, place) => context?.putImageData(frame, place * size, 0));
}
