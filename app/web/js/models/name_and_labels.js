// A form for the name of a model and the labels of its latents.

import { sendJson } from "../api.js";
import { latentsOf } from "../explore/latents.js";
import { html, useState } from "../html.js";
import { ProblemBanner } from "../problems/banner.js";

const LONGEST_LABEL = 60;

/** @param {{model: any, onClose: () => void, onSaved: () => Promise<void>}} props */
export function NameAndLabels({ model, onClose, onSaved }) {
  const [name, setName] = useState(model.name);
  const [labels, setLabels] = useState(
    /** @type {string[]} */ (
      Array.from({ length: model.network.latent_dim }, (_, k) => model.dimension_labels?.[k] ?? "")
    ),
  );
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const [isBusy, setBusy] = useState(false);
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await sendJson("PATCH", `models/${model.id}`, { name, dimension_labels: labels });
      await onSaved();
      onClose();
    } catch (failure) {
      setProblem(/** @type {import("../api.js").Problem} */ (failure));
      setBusy(false);
    }
  };
  /** @param {number} index @param {string} text */
  const onLabel = (index, text) => setLabels(labels.map((label, k) => (k === index ? text : label)));
  return html`
    <form class="name-and-labels" onSubmit=${onSubmit}>
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
      <label>Name <input name="name" required value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
      <fieldset>
        <legend>Labels of the latents, the strongest first</legend>
        ${latentsOf(model).map(
          ({ index, kl, active }) => html`<label key=${index}>
          <span class=${active ? "number" : "number muted"}>${index} <span class="hint">KL ${kl.toFixed(2)}</span></span>
          <input name="dimension_labels.${index}" maxlength=${LONGEST_LABEL} value=${labels[index]} onInput=${(/** @type {any} */ event) => onLabel(index, event.target.value)} />
        </label>`,
        )}
      </fieldset>
      <p class="model-actions">
        <button class="primary" disabled=${isBusy}>Save</button>
        <button type="button" onClick=${onClose}>Cancel</button>
      </p>
    </form>
  `;
}
