// How long a training takes: a budget of minutes, or the settings of a paper or of a shipped model.

import { html } from "../html.js";

/** @typedef {{kind: "minutes", minutes: number} | {kind: "preset", preset: string}} Length */

const BUDGETS = [
  [5, "First look", "Shapes and positions appear. Enough to see whether the pictures can be learned."],
  [20, "Good model", "Most latents have found their meaning, and the pictures are sharper."],
  [60, "Thorough", "Details, and latents that are cleaner apart."],
];
const STEPS_PER_MINUTE = 400; // For services that know no `minutes`: batches of 64 on one or two cores.

/**
 * Returns the fields of a request that say how long and with which settings to train.
 * @param {Length} length
 * @param {Record<string, any>} settings Settings that the visitor changed.
 * @param {any} schema Schemas of the service's OpenAPI document.
 */
export function requestOf(length, settings, schema) {
  const { evaluate, from, ...own } = settings;
  const rest = { ...(evaluate ? { evaluate: true } : {}), ...(from ? { from } : {}) };
  const hasOwnLength = own.num_steps != null || own.num_epochs != null;
  if (length.kind === "preset") return { preset: length.preset, config: own, ...rest };
  if (hasOwnLength) return { config: own, ...rest };
  if (!schema.TrainJobRequest.properties.minutes) {
    return { config: { num_steps: Math.max(1, Math.round(length.minutes * STEPS_PER_MINUTE)), ...own }, ...rest };
  }
  return { minutes: length.minutes, config: own, ...rest };
}

/** @param {{schema: any, dataset: string | null, ownSteps: number | undefined, length: Length, onChange: (length: Length) => void, error?: string}} props */
export function LengthField({ schema, dataset, ownSteps, length, onChange, error }) {
  const presets = presetsOf(schema).filter((preset) => !preset.dataset || !dataset || preset.dataset === dataset);
  const isOwn = length.kind === "minutes" && !BUDGETS.some(([minutes]) => minutes === length.minutes);
  const chosen = length.kind === "preset" ? presets.find((preset) => preset.name === length.preset) : null;
  return html`
    <fieldset class="field lengths" aria-describedby=${error ? "length-error" : null}>
      <legend>How long</legend>
      ${BUDGETS.map(
        ([minutes, title, text]) => html`
        <label class="option" key=${minutes}>
          <input type="radio" name="length" checked=${length.kind === "minutes" && length.minutes === minutes}
            onChange=${() => onChange({ kind: "minutes", minutes: Number(minutes) })} />
          <span><strong>${title}</strong> <span class="time">${minutes} min</span><span class="hint">${text}</span></span>
        </label>`,
      )}
      <label class="option">
        <input type="radio" name="length" checked=${isOwn} onChange=${() => onChange({ kind: "minutes", minutes: 10 })} />
        <span><strong>Own time</strong><span class="hint">The schedules are laid out to fit it.</span>
          ${
            isOwn &&
            html`<span><input type="number" name="minutes" min="0.5" max="100000" step="any" aria-label="Minutes" aria-invalid=${Boolean(error)}
            value=${length.minutes} onInput=${(/** @type {any} */ event) => onChange({ kind: "minutes", minutes: Number(event.target.value) })} /> min</span>`
          }</span>
      </label>
      ${
        presets.length > 0 &&
        html`
        <label class="option">
          <input type="radio" name="length" checked=${length.kind === "preset"} onChange=${() => onChange({ kind: "preset", preset: presets[0].name })} />
          <span><strong>Published settings</strong><span class="hint">Of a paper or of a model that is shipped; some take hours.</span>
            ${
              length.kind === "preset" &&
              html`
              <select name="preset" aria-label="Preset" value=${length.preset} onChange=${(/** @type {any} */ event) => onChange({ kind: "preset", preset: event.target.value })}>
                ${presets.map((preset) => html`<option value=${preset.name}>${preset.name}</option>`)}
              </select>`
            }</span>
        </label>`
      }
      ${chosen?.text && html`<p class="hint preset-text">${withCode(chosen.text)}</p>`}
      ${ownSteps !== undefined && length.kind === "minutes" && html`<p class="hint preset-text">The length in the settings below counts, not the time.</p>`}
      ${error && html`<p class="field-error" id="length-error">${error}</p>`}
    </fieldset>
  `;
}

/** @param {string} text @returns {any[]} The text, in which commands between backticks are shown as code. */
function withCode(text) {
  return text.split("`").map((part, k) => (k % 2 ? html`<code>${part}</code>` : part));
}

/** @param {any} schema @returns {{name: string, dataset: string | null, text: string}[]} */
function presetsOf(schema) {
  const kinds = schema?.TrainJobRequest.properties.preset.anyOf ?? [];
  const { enum: names = [], "x-presets": texts = {} } = kinds.find((/** @type {any} */ kind) => kind.enum) ?? {};
  return names.map((/** @type {string} */ name) => ({
    name,
    dataset: texts[name]?.dataset ?? null,
    text: texts[name]?.text ?? "",
  }));
}
