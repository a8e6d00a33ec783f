// The way from one picture to another.

import { html, useEffect, useRef } from "../html.js";
import { drawStrip } from "./latent_sliders.js";
import { between } from "./vector.js";

export const PATHS = {
  slerp: {
    name: "Along the arc (slerp)",
    hint: "The arc keeps the distance to the origin, so that pictures on the way are as pronounced as A and B.",
  },
  linear: {
    name: "Straight line",
    hint: "The straight line passes closer to the origin, where pictures are nearer to the average.",
  },
};
const FRACTIONS = [0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1];

/**
 * @param {{
 *   decoder: {decode: (z: ArrayLike<number>) => ImageData}, ends: {a: Float32Array, b: Float32Array}, t: number,
 *   path: keyof typeof PATHS, onEnd: (end: "a" | "b") => void, onMove: (t: number, path: keyof typeof PATHS) => void,
 *   onRelease: () => void,
 * }} props
 */
export function PathCard({ decoder, ends, t, path, onEnd, onMove, onRelease }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => {
    if (canvas.current)
      drawStrip(
        canvas.current,
        FRACTIONS.map((share) => decoder.decode(between(ends.a, ends.b, share, path))),
      );
  }, [decoder, ends.a, ends.b, path]);
  /** @param {"a" | "b"} end */
  const setEnd = (end) =>
    html`<button type="button" onClick=${() => onEnd(end)}>
      Set ${end.toUpperCase()}<span class="visually-hidden"> to the picture that is shown</span>
    </button>`;
  return html`<section class="card path-card" aria-labelledby="path-title">
    <div class="path-head">
      <div><h2 id="path-title">From A to B</h2><p class="hint">Set keeps the picture that is shown, such as one of your own, as an end.</p></div>
      <div class="path-ends">${setEnd("a")}${setEnd("b")}</div>
    </div>
    <div class="latent-film">
      <div class="strip"><canvas ref=${canvas} aria-hidden="true" width="7" height="1"></canvas>
        <div class="strip-scale"><i class="playhead" style=${{ transform: `translateX(${600 * t - 300}%)` }}></i></div></div>
      <div class="slider">
        <i class="slider-fill whole" style=${{ transform: `scaleX(${t})` }}></i>
        <input type="range" id="path-place" min="0" max="1" step="0.01" value=${t} aria-label="Place between A and B"
          aria-valuetext=${`${Math.round(100 * t)} % of the way from A to B`}
          onInput=${(/** @type {any} */ event) => onMove(Number(event.target.value), path)} onChange=${onRelease} />
      </div>
    </div>
    <fieldset class="path-kind"><legend class="visually-hidden">Path</legend>
      ${Object.entries(PATHS).map(
        ([
          kind,
          { name },
        ]) => html`<label key=${kind}><input type="radio" name="path" value=${kind} checked=${kind === path}
        onChange=${() => onMove(t, /** @type {any} */ (kind))} /> ${name}</label>`,
      )}
    </fieldset>
    <p class="hint">${PATHS[path].hint}</p>
  </section>`;
}
