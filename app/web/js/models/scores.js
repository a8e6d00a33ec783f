// Scores with their 95 % intervals, as bars.

import { html } from "../html.js";
import { scoreName } from "./words.js";

const SHOWN = ["mig", "dci_disentanglement", "factor_vae"];
/** Scores that do not end at 1, so that a bar would say nothing. */
const UNBOUNDED = ["tad", "tad_captured", "psnr", "dci_es_size"];

/** @typedef {{value: number | null, interval?: [number, number] | null, note?: string, dataset?: string}} Score */

/** @param {{metrics: Record<string, Score>}} props */
export function Scores({ metrics }) {
  const names = Object.keys(metrics ?? {}).filter((name) => typeof metrics[name] === "object");
  if (names.length === 0)
    return html`<p class="hint scores-none">No scores yet. Evaluate it on a data set with known factors.</p>`;
  const first = SHOWN.filter((name) => names.includes(name));
  const rest = names.filter((name) => !first.includes(name));
  const dataset = metrics[names[0]].dataset;
  return html`
    <div class="scores">
      <${ScoreTable} names=${first.length ? first : rest} metrics=${metrics} />
      ${
        first.length > 0 &&
        rest.length > 0 &&
        html`<details>
        <summary>${rest.length} more ${rest.length === 1 ? "score" : "scores"}</summary>
        <${ScoreTable} names=${rest} metrics=${metrics} />
      </details>`
      }
      <p class="hint">${dataset ? `On ${dataset}. ` : ""}The thin line is the 95 % interval.</p>
    </div>
  `;
}

/** @param {{names: string[], metrics: Record<string, Score>}} props */
function ScoreTable({ names, metrics }) {
  return html`<table class="score-table"><tbody>
    ${names.map(
      (name) => html`<tr key=${name}>
      <th scope="row">${scoreName(name)}</th>
      <td class="bar">${!UNBOUNDED.includes(name) && html`<${ScoreBar} score=${metrics[name]} />`}</td>
      <td class="number">${scoreText(metrics[name])}</td>
    </tr>`,
    )}
  </tbody></table>`;
}

/** @param {{score: Score}} props */
function ScoreBar({ score: { value, interval } }) {
  if (value === null) return null;
  const percent = (/** @type {number} */ share) => `${100 * Math.max(0, Math.min(1, share))}%`;
  return html`<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="10" rx="2" /><rect class="value" width=${percent(value)} height="10" rx="2" />
    ${interval && html`<line x1=${percent(interval[0])} x2=${percent(interval[1])} y1="5" y2="5" />`}
  </svg>`;
}

/**
 * Writes a score with its interval.
 * @param {Score} score
 * @returns {string} Such as "0.19 (0.188 to 0.198)".
 */
export function scoreText({ value, interval, note }) {
  if (value === null || value === undefined) return note || "undefined";
  if (!interval) return value.toFixed(3);
  return `${value.toFixed(3)} (${interval[0].toFixed(3)} to ${interval[1].toFixed(3)})`;
}
