// The KL of each latent, stacked, against the target C: the figure of Burgess et al. 2018, over the steps.

import { html } from "../html.js";
import { Frame, path } from "./frame.js";
import { latentColour, thinned } from "./scale.js";

/**
 * @param {{
 *   label: string, traces: {step: number, parts: number[], target: number | null}[][], steps: [number, number],
 *   step: number | null, onStep: (step: number) => void,
 * }} props Each trace is an attempt's; `parts` has one number for each latent, `target` is C in the same unit.
 */
export function StackedChart({ label, traces, steps, step, onStep }) {
  const shown = traces.map((points) => thinned(points)).filter((points) => points.length > 1);
  const all = shown.flat();
  const highest = Math.max(1e-3, ...all.map((point) => Math.max(sum(point.parts), point.target ?? 0)));
  const order = stackingOrder(all.at(-1)?.parts ?? []);
  return html`
    <${Frame} label=${label} steps=${steps} values=${[0, highest * 1.08]} step=${step} onStep=${onStep}>
      ${(/** @type {import("./frame.js").Area} */ area) =>
        shown.map(
          (points) => html`
        ${layers(points, order).map(
          ({ index, low, high }) => html`
          <path class="layer" fill=${latentColour(index)} d=${`${path(edge(points, high, area))}L${path(edge(points, low, area).reverse()).slice(1)}Z`} />`,
        )}
        <path class="line target" d=${path(
          edge(
            points.filter((point) => point.target !== null),
            points.filter((point) => point.target !== null).map((point) => Number(point.target)),
            area,
          ),
        )} />
      `,
        )}
    <//>
  `;
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * Returns the latents from the one with the highest KL, which lies at the bottom.
 * @param {number[]} parts
 * @returns {number[]}
 */
export function stackingOrder(parts) {
  return parts.map((_, index) => index).sort((a, b) => parts[b] - parts[a]);
}

/** @param {{parts: number[]}[]} points @param {number[]} order */
function layers(points, order) {
  let low = points.map(() => 0);
  return order.map((index) => {
    const high = points.map((point, k) => low[k] + Math.max(0, point.parts[index]));
    const layer = { index, low, high };
    low = high;
    return layer;
  });
}

/**
 * @param {{step: number}[]} points
 * @param {number[]} values
 * @param {import("./frame.js").Area} area
 * @returns {[number, number][]}
 */
function edge(points, values, area) {
  return points.map((point, k) => [area.x(point.step), area.y(values[k])]);
}
