// Lines over the steps.

import { html } from "../html.js";
import { Frame, path } from "./frame.js";
import { numberText, thinned } from "./scale.js";

/**
 * @typedef {{name: string, kind: string, points: [number, number][], faint?: boolean}} Line
 *   `kind` is a class of css/train.css that gives the colour.
 */

/**
 * @param {{
 *   label: string, lines: Line[], level: {name: string, value: number} | null, steps: [number, number],
 *   step: number | null, onStep: (step: number) => void,
 * }} props `level` is a value that is drawn as a horizontal line.
 */
export function LineChart({ label, lines, level, steps, step, onStep }) {
  const shown = lines.map((line) => ({ ...line, points: thinned(line.points) }));
  const values = range(
    shown.flatMap((line) => line.points.map((point) => point[1])),
    level?.value,
  );
  return html`
    <${Frame} label=${label} steps=${steps} values=${values} step=${step} onStep=${onStep}>
      ${(/** @type {import("./frame.js").Area} */ area) => html`
        ${
          level &&
          html`
          <line class="level" x1=${area.left} x2=${area.right} y1=${area.y(level.value)} y2=${area.y(level.value)} />
          <text class="level-name" x=${area.right - 4} y=${area.y(level.value) - 6} text-anchor="end">${level.name} ${numberText(level.value)}</text>`
        }
        ${shown.map((line) =>
          line.points.length < 2
            ? line.points.map(
                ([x, y]) => html`
          <circle class="dot ${line.kind}" cx=${area.x(x)} cy=${area.y(y)} r="4" />`,
              )
            : html`
          <path class="line ${line.kind} ${line.faint ? "faint" : ""}"
            d=${path(line.points.map(([x, y]) => [area.x(x), Math.max(area.top, area.y(y))]))} />`,
        )}
      `}
    <//>
  `;
}

/**
 * Returns the range of values to show; the highest few, which a run begins with, are cut off.
 * @param {number[]} values
 * @param {number | undefined} level
 * @returns {[number, number]}
 */
function range(values, level) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (!sorted.length) return [0, 1];
  const low = Math.min(sorted[0], level ?? Infinity);
  const high = Math.max(sorted[Math.floor((sorted.length - 1) * 0.97)], level ?? -Infinity);
  const room = (high - low || 1) * 0.06;
  return [low - room, high + room];
}
