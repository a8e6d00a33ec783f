// The choice of a model, with a line about the chosen one.

import { html } from "../html.js";

/**
 * @param {{models: any[], chosen: string, model: any | null, loading: boolean, onChoose: (id: string) => void}} props
 *   The models as the API lists them, the id of the chosen one, and its description once it is there.
 */
export function ModelChooser({ models, chosen, model, loading, onChoose }) {
  const known = models.some((one) => one.id === chosen) ? models : [{ id: chosen, name: chosen }, ...models];
  return html`<div class="chooser">
    <label class="visually-hidden" for="model">Model</label>
    <select id="model" value=${chosen} onChange=${(/** @type {any} */ event) => onChoose(event.target.value)}>
      ${known.map((one) => html`<option key=${one.id} value=${one.id} selected=${one.id === chosen}>${one.name}</option>`)}
    </select>
    <p class="hint">${model ? factsOf(model) : loading ? "Loading…" : ""}</p>
  </div>`;
}

/** @param {any} model */
function factsOf(model) {
  const { image_size: size, num_channels: channels } = model.network;
  const kind = `${size} × ${size} ${channels === 1 ? "grey" : "colour"}`;
  return model.dataset?.name ? html`${model.dataset.name}<br />${kind}` : kind;
}
