// Two latents at once, on a map of what they make together.

import { html, useEffect, useRef } from "../html.js";
import { nameOf, valueText, within } from "./latents.js";

const COLUMNS = 7;
/** Where the pictures of the map stand, as shares of the range. */
const GRID = Array.from({ length: COLUMNS }, (_, place) => ((place + 0.5) / COLUMNS - 0.5) * 2);
const KEY_STEPS = 30; // From the middle to an end.

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @param {{
 *   latents: import("./latents.js").Latent[], z: Float32Array, pair: [number, number], onPair: (pair: [number, number]) => void,
 *   onMove: (x: number, y: number) => void, onStep: (x: number, y: number) => void, onRelease: () => void,
 *   strips: {render: (z: Float32Array, latents: number[], values: number[]) => Promise<ImageData[][] | null>} | null,
 * }} props `pair` holds the latents across and down. `onStep` moves by a difference.
 */
export function Pad({ latents, z, pair, onPair, onMove, onStep, onRelease, strips }) {
  const [across, down] = pair;
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const held = useRef(false);
  const rest = Array.from(z, (value, index) => (index === across || index === down ? 0 : value)).join();
  const { range } = latents[0];
  useEffect(() => drawMap(canvas, strips, rest, across, down, range), [strips, rest, across, down, range]);

  /** @param {PointerEvent} event */
  const follow = (event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const value = (/** @type {number} */ at) => within(latents[0], (at - 0.5) * 2 * range);
    onMove(value((event.clientX - box.left) / box.width), value((event.clientY - box.top) / box.height));
  };
  /** @param {PointerEvent} event */
  const onPointerDown = (event) => {
    held.current = true;
    /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    follow(event);
  };
  const onPointerUp = () => {
    held.current = false;
    onRelease();
  };
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const step = ((event.shiftKey ? 10 : 1) * range) / KEY_STEPS;
    onStep(step * arrow[0], step * arrow[1]);
    onRelease();
  };
  const named = (/** @type {number} */ index) =>
    latents.find((latent) => latent.index === index) ?? { ...latents[0], index, label: "" };
  const place = (/** @type {number} */ value) => `${((within(latents[0], value) + range) / (2 * range)) * 100}%`;
  const text = pair.map((index) => `${nameOf(named(index))} ${valueText(named(index), z[index])}`).join(", ");
  return html`<section class="card pad-card" aria-labelledby="pad-title">
    <h2 id="pad-title">Two latents at once</h2>
    <div class="pad-axes">
      <${AxisChoice} text="Across" latents=${latents} value=${across}
        onChoose=${(/** @type {number} */ index) => onPair([index, index === down ? across : down])} />
      <${AxisChoice} text="Down" latents=${latents} value=${down}
        onChoose=${(/** @type {number} */ index) => onPair([index === across ? down : across, index])} />
    </div>
    <div class="pad" tabindex="0" role="application" aria-roledescription="two-dimension pad" aria-label=${`Pad: ${text}. The arrow keys move.`}
      onPointerDown=${onPointerDown} onPointerMove=${(/** @type {any} */ event) => held.current && follow(event)} onPointerUp=${onPointerUp}
      onPointerCancel=${onPointerUp} onKeyDown=${onKeyDown}>
      <canvas ref=${canvas} aria-hidden="true" width="1" height="1"></canvas>
      <i class="pad-dot" style=${{ left: place(z[across]), top: place(z[down]) }}></i>
    </div>
    <p class="hint">Drag the ring, or move it with the arrow keys. The map shows the other latents as they stand.</p>
  </section>`;
}

/** @param {{text: string, latents: import("./latents.js").Latent[], value: number, onChoose: (index: number) => void}} props */
function AxisChoice({ text, latents, value, onChoose }) {
  const id = `pad-${text.toLowerCase()}`;
  return html`<div>
    <label for=${id}>${text}</label>
    <select id=${id} value=${value} onChange=${(/** @type {any} */ event) => onChoose(Number(event.target.value))}>
      ${latents.map(
        (latent) => html`<option value=${latent.index} selected=${latent.index === value}>${nameOf(latent)}</option>`,
      )}
    </select>
  </div>`;
}

/**
 * Draws the map row by row, and starts again when the other latents have moved.
 * @param {{current: HTMLCanvasElement | null}} canvas
 * @param {{render: (z: Float32Array, latents: number[], values: number[]) => Promise<ImageData[][] | null>} | null} strips
 * @param {string} rest The values of all latents as text.
 * @param {number} across Latent of the columns.
 * @param {number} down Latent of the rows.
 * @param {number} range Value at the right end of both.
 * @returns {() => void} Ends the drawing.
 */
function drawMap(canvas, strips, rest, across, down, range) {
  if (!strips) return () => {};
  let gone = false;
  const draw = async () => {
    const z = Float32Array.from(rest.split(",").map(Number));
    /** @type {ImageData[][]} */
    const rows = [];
    const values = GRID.map((share) => share * range);
    for (const value of values) {
      z[down] = value;
      const [frames] = (await strips.render(Float32Array.from(z), [across], values)) ?? [];
      if (gone || !frames || !canvas.current) return;
      rows.push(frames);
    }
    const size = rows[0][0].width;
    const target = /** @type {HTMLCanvasElement} */ (canvas.current);
    target.width = target.height = size * COLUMNS;
    const context = /** @type {CanvasRenderingContext2D} */ (target.getContext("2d"));
    rows.forEach((frames, row) =>
      frames.forEach((frame, column) => context.putImageData(frame, column * size, row * size)),
    );
  };
  const timer = setTimeout(draw, 120);
  return () => {
    gone = true;
    clearTimeout(timer);
  };
}
