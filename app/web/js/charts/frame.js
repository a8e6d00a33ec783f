// What every chart shares: axes, the cursor of the step, pointer and size.

import { html, useEffect, useRef, useState } from "../html.js";
import { numberText, scale, ticks } from "./scale.js";

const HEIGHT = 230;
const MARGIN = { left: 52, right: 12, top: 10, bottom: 26 };

/** @typedef {{x: (value: number) => number, y: (value: number) => number, left: number, right: number, top: number, bottom: number}} Area */

/**
 * A chart over the steps. Its text alternative is `label`; a table goes beside it.
 * @param {{
 *   label: string, steps: [number, number], values: [number, number], step: number | null,
 *   onStep: (step: number) => void, children: (area: Area) => any,
 * }} props
 */
export function Frame({ label, steps, values, step, onStep, children }) {
  const [holder, width] = useWidth();
  const area = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: HEIGHT - MARGIN.bottom };
  const x = scale(steps, [area.left, area.right]);
  const y = scale(values, [area.bottom, area.top]);
  const pick = (/** @type {PointerEvent} */ event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    const value = scale([area.left, area.right], steps)(event.clientX - box.left);
    onStep(Math.round(Math.min(steps[1], Math.max(steps[0], value))));
  };
  return html`
    <div class="chart" ref=${holder}>
      <svg width=${width} height=${HEIGHT} role="img" aria-label=${label} onPointerDown=${pick} onPointerMove=${pick}>
        ${ticks(values[0], values[1], 4).map(
          (value) => html`
          <line class="grid" x1=${area.left} x2=${area.right} y1=${y(value)} y2=${y(value)} />
          <text class="tick" x=${area.left - 6} y=${y(value) + 4} text-anchor="end">${numberText(value)}</text>`,
        )}
        ${ticks(steps[0], steps[1], Math.max(2, width / 130)).map(
          (value) => html`
          <text class="tick" x=${x(value)} y=${HEIGHT - 8} text-anchor=${x(value) > area.right - 24 ? "end" : "middle"}>${numberText(value)}</text>`,
        )}
        ${children({ ...area, x, y })}
        ${step !== null && html`<line class="cursor" x1=${x(step)} x2=${x(step)} y1=${area.top} y2=${area.bottom} />`}
      </svg>
    </div>
  `;
}

/** @returns {[{current: HTMLElement | null}, number]} A reference to an element, and its width in pixels. */
function useWidth() {
  const holder = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(480);
  useEffect(() => {
    const element = /** @type {HTMLElement} */ (holder.current);
    const observer = new ResizeObserver(() => setWidth(Math.max(200, element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [holder, width];
}

/**
 * Returns the path of a line.
 * @param {[number, number][]} points Pixels.
 * @returns {string}
 */
export function path(points) {
  return points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
