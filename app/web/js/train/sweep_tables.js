// The numbers of a sweep: those of each training, and their means over the seeds of a cell.

import { numberText } from "../charts/scale.js";
import { html } from "../html.js";
import { scoreName } from "../models/words.js";
import { linkTo } from "../router.js";
import { sentenceOfError } from "./failures.js";

/** @typedef {import("../jobs/sweeps.js").Sweep} Sweep */

/** @type {Record<string, string>} */
const LOSSES = { reconstruction_loss: "Reconstruction, nats", kl: "KL, nats", active_dimensions: "Active latents" };
/** Scores that are shown first; a sweep's table on the page has MOST_SCORES, its CSV file has all. */
const FIRST = ["udr", "model_centrality", "mig", "dci_disentanglement", "factor_vae"];
const MOST_SCORES = 5;
const HAVE_JOBS = ["running", "pausing", "cancelling", "succeeded", "failed"];
/** @type {Record<string, string>} */
const OWN_SCORES = { udr: "UDR", model_centrality: "Centrality" };

/**
 * Returns the scores that the tables show.
 * @param {Sweep} sweep
 * @returns {{shown: string[], rest: number}}
 */
function scoresOf({ cells }) {
  const names = [...new Set(cells.flatMap((/** @type {any} */ cell) => Object.keys(cell.scores)))];
  const place = (/** @type {string} */ name) => (FIRST.indexOf(name) + 1 || FIRST.length + 1) - 1;
  const sorted = names.sort((a, b) => place(a) - place(b));
  return { shown: sorted.slice(0, MOST_SCORES), rest: Math.max(0, sorted.length - MOST_SCORES) };
}

/** @param {Record<string, any>} settings @returns {string} Such as "beta 4, seed 1". */
function settingsText(settings) {
  const parts = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return parts.join(", ") || "these settings";
}

/** @param {number | null | undefined} value */
const scoreText = (value) => (typeof value === "number" ? value.toFixed(3) : "–");

/** @param {{head: string, names: [string, string][], caption: string, children: any}} props A table that stacks on a phone. */
function Table({ head, names, caption, children }) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${caption}>
      <table class="sweep-table">
        <caption class="visually-hidden">${caption}</caption>
        <thead><tr><th scope="col">${head}</th>${names.map(([name, text]) => html`<th scope="col" key=${name} data-name=${name}>${text}</th>`)}</tr></thead>
        <tbody>${children}</tbody>
      </table>
    </div>`;
}

/** @param {string} label @param {any} content */
const cell = (label, content) => html`<td class="number" data-label=${label}>${content}</td>`;

/** @param {{sweep: Sweep}} props */
export function MemberTable({ sweep }) {
  const { shown, rest } = scoresOf(sweep);
  const losses = Object.entries(LOSSES);
  const scores = shown.map((name) => /** @type {[string, string]} */ ([name, OWN_SCORES[name] ?? scoreName(name)]));
  return html`
    <${Table} head="Settings" names=${[["status", "Status"], ...losses, ...scores]} caption=${`Trainings of ${sweep.name}`}>
      ${sweep.members.map((/** @type {any} */ member) => {
        const { settings, status, metrics, error } = member;
        const isChosen = member.model && member.model === sweep.winner?.model;
        // A member that waits for its turn has no job yet.
        const hasJob = Object.keys(metrics).length > 0 || HAVE_JOBS.includes(status);
        return html`
          <tr key=${member.index} class=${isChosen ? "chosen" : ""}>
            <th scope="row">${hasJob ? html`<a href=${linkTo("train", { job: member.job })}>${settingsText(settings)}</a>` : settingsText(settings)}
              ${isChosen && html` <span class="status succeeded">chosen</span>`}</th>
            <td data-label="Status" data-name="status"><span class="status ${status}">${status}</span>${error && html`<span class="field-error">${sentenceOfError(error)}</span>`}</td>
            ${losses.map(([name, label]) => cell(label, numberText(name === "active_dimensions" ? metrics[name]?.length : metrics[name])))}
            ${scores.map(([name, label]) => cell(label, scoreText(member.scores[name]?.value)))}
          </tr>`;
      })}
    <//>
    ${rest > 0 && html`<p class="hint">${rest} more ${rest === 1 ? "score is" : "scores are"} in the CSV file.</p>`}
  `;
}

/** @param {{sweep: Sweep}} props */
export function CellTable({ sweep }) {
  const cells = sweep.cells.filter((/** @type {any} */ one) => one.num_models > 0);
  if (!cells.length) return html`<p class="muted">There is no model yet. The means appear with the first one.</p>`;
  const losses = Object.entries(LOSSES);
  const scores = scoresOf(sweep).shown.map(
    (name) => /** @type {[string, string]} */ ([name, OWN_SCORES[name] ?? scoreName(name)]),
  );
  return html`
    <${Table} head="Settings" names=${[["models", "Models"], ...losses, ...scores]} caption=${`Means of ${sweep.name}`}>
      ${cells.map(
        (/** @type {any} */ one) => html`
        <tr key=${settingsText(one.settings)}>
          <th scope="row">${settingsText(one.settings)}</th>
          ${cell("Models", one.num_models === one.num_members ? one.num_models : `${one.num_models} of ${one.num_members}`)}
          ${losses.map(([name, label]) => cell(label, spread(one.metrics[name], numberText)))}
          ${scores.map(([name, label]) => cell(label, spread(one.scores[name], scoreText)))}
        </tr>`,
      )}
    <//>
  `;
}

/** @param {{mean: number, std: number | null} | undefined} statistic @param {(value: number) => string} text */
function spread(statistic, text) {
  if (!statistic) return "–";
  return statistic.std === null ? text(statistic.mean) : `${text(statistic.mean)} ± ${text(statistic.std)}`;
}
