// "Several runs": the seeds, and the values of one setting, that a sweep tries in the place of a single training.

import { Problem } from "../api.js";
import { html } from "../html.js";

/** @typedef {{seeds: string, setting: string, values: string}} Runs What was typed. */

/** @type {Runs} */
export const ONE_RUN = { seeds: "", setting: "", values: "" };
const MOST = 200;

/** @param {string} field @param {string} message */
const wrong = (field, message) =>
  new Problem({ code: "invalid_request", detail: `${field} ${message}`, errors: [{ field, message }] });

/**
 * Returns the grid of a sweep.
 * @param {Runs} runs
 * @param {any} schema Schemas of the service's OpenAPI document.
 * @returns {Record<string, any[]> | null} The values by setting; null for a single training.
 * @throws {Problem} The seeds cannot be read, or a setting has no values.
 */
export function gridOf({ seeds, setting, values }, schema) {
  const texts = values.split(/[\s,;]+/).filter(Boolean);
  if (setting && !texts.length) throw wrong("grid", `has no values of ${setting}: write some, such as 1, 4, 16`);
  const grid = {
    ...(seeds.trim() ? { seed: seedsOf(seeds) } : {}),
    ...(setting ? { [setting]: texts.map((text) => valueOf(text, schema.TrainingConfig.properties[setting])) } : {}),
  };
  return Object.keys(grid).length ? grid : null;
}

/**
 * Reads seeds.
 * @param {string} text Such as "0-2" or "0, 1, 7-9".
 * @returns {number[]}
 * @throws {Problem} The text names no seeds, or too many.
 */
export function seedsOf(text) {
  const found = [];
  for (const part of text.split(",")) {
    const match = part.match(/^\s*(\d{1,9})(?:\s*[-–]\s*(\d{1,9}))?\s*$/);
    if (!match) throw wrong("seeds", "must be whole numbers such as 0-2 or 0, 1, 7");
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (last < first) throw wrong("seeds", `go backwards: ${part.trim()}`);
    if (found.length + last - first >= MOST) throw wrong("seeds", `are more than ${MOST}, the most of a sweep`);
    for (let seed = first; seed <= last; seed += 1) found.push(seed);
  }
  return found;
}

/** @param {string} text @param {any} schema @returns {any} The value in the setting's type; the text where it has none. */
function valueOf(text, schema) {
  const kind = schema?.anyOf?.find((/** @type {any} */ one) => one.type !== "null") ?? schema;
  if (kind?.type === "boolean" && ["true", "false"].includes(text)) return text === "true";
  const isNumber = ["number", "integer"].includes(kind?.type) && Number.isFinite(Number(text));
  return isNumber ? Number(text) : text; // The service says what is wrong with a text.
}

/**
 * Returns how many trainings a grid has.
 * @param {Runs} runs
 * @param {any} schema
 * @returns {number} 1 where there is no grid, or none that can be read.
 */
export function numRuns(runs, schema) {
  try {
    return Object.values(gridOf(runs, schema) ?? {}).reduce((product, values) => product * values.length, 1);
  } catch {
    return 1;
  }
}

/** @param {{schema: any, runs: Runs, onChange: (runs: Runs) => void, errors: Record<string, string>}} props */
export function SweepFields({ schema, runs, onChange, errors }) {
  const properties = schema?.TrainingConfig.properties ?? {};
  const names = Object.keys(properties).filter((name) => name !== "seed");
  const change = (/** @type {string} */ field) => (/** @type {any} */ event) =>
    onChange({ ...runs, [field]: event.target.value });
  const count = numRuns(runs, schema);
  const { enum: choices } = properties[runs.setting] ?? {};
  return html`
    <details class="field sweep-fields">
      <summary>Several runs… ${count > 1 && html`<span class="status">${count} trainings</span>`}</summary>
      <p class="hint">Trainings that differ in a seed or in a setting run under one name. Their models are compared, and one is chosen without labels.</p>
      <div class="sweep-grid">
        <label>Seeds <input name="seeds" value=${runs.seeds} placeholder="such as 0-2" autocomplete="off" aria-invalid=${Boolean(errors.seeds)}
          aria-describedby="runs-hint" onInput=${change("seeds")} /></label>
        <label>Setting <select name="setting" value=${runs.setting} onChange=${change("setting")}><option value="">none</option>
          ${names.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
        <label>Its values <input name="grid" value=${runs.values} placeholder=${choices ? choices.slice(0, 2).join(", ") : "such as 1, 4, 16"}
          autocomplete="off" disabled=${!runs.setting} aria-invalid=${Boolean(errors.grid)} aria-describedby="runs-hint" onInput=${change("values")} /></label>
      </div>
      <p class="hint" id="runs-hint" role="status">${
        count > 1 ? `${count} trainings; the length above is that of each.` : "Every seed is trained with every value."
      }</p>
      ${["seeds", "grid"].map((field) => errors[field] && html`<p class="field-error" key=${field}>${errors[field]}</p>`)}
    </details>
  `;
}
