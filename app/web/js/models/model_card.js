// One model: its picture, what it was trained on, its scores, and what can be done with it.

import { address, sendJson } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { linkTo } from "../router.js";
import { CardPicture } from "./card_picture.js";
import { Evaluation } from "./evaluation.js";
import { NameAndLabels } from "./name_and_labels.js";
import { Scores } from "./scores.js";
import { datasetText, dateText, networkText, objectiveText } from "./words.js";

/**
 * @param {{
 *   model: any, datasets: any[], isNew: boolean, onChanged: () => Promise<void>,
 *   onRefused: (problem: import("../api.js").Problem) => void, onDelete: () => void,
 * }} props
 */
export function ModelCard({ model, datasets, isNew, onChanged, onRefused, onDelete }) {
  const [isLively, setLively] = useState(false);
  const [isEditing, setEditing] = useState(false);
  const card = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (isNew) card.current?.querySelector("a")?.focus();
  }, [isNew]);
  const chooseDefault = () => sendJson("PUT", "models/default", { id: model.id }).then(onChanged, onRefused);
  return html`
    <li ref=${card} class="card model-card" data-model=${model.id} data-new=${isNew ? "true" : null}
      onPointerEnter=${() => setLively(true)} onPointerLeave=${() => setLively(false)}
      onFocusIn=${() => setLively(true)} onFocusOut=${() => setLively(false)}>
      <div class="model-head">
        <a class="model-picture" href=${linkTo("explore", { model: model.id })} aria-label=${`Explore ${model.name}`}>
          <${CardPicture} model=${model} isLively=${isLively} />
        </a>
        <div class="model-facts">
          <h3>${model.name}</h3>
          <p class="badges">
            ${model.default && html`<span class="badge accent">default</span>`}
            ${model.shipped && html`<span class="badge">shipped</span>`}
            ${isNew && html`<span class="badge good">new</span>`}
          </p>
          <dl>
            <dt>Trained on</dt><dd>${datasetText(model)}</dd>
            <dt>Objective</dt><dd>${objectiveText(model)}</dd>
            <dt>Network</dt><dd>${networkText(model)}</dd>
            ${dateText(model.created_at) && html`<dt>Made</dt><dd>${dateText(model.created_at)}</dd>`}
          </dl>
        </div>
      </div>
      <${Scores} metrics=${model.metrics} />
      <${Evaluation} model=${model} datasets=${datasets} onDone=${onChanged} onRefused=${onRefused} />
      <div class="model-actions">
        <a class="button primary" href=${linkTo("explore", { model: model.id })}>Explore</a>
        ${!model.default && html`<button type="button" onClick=${chooseDefault}>Make default</button>`}
        ${!model.shipped && html`<button type="button" aria-expanded=${isEditing} onClick=${() => setEditing(!isEditing)}>Rename and label</button>`}
        <${Export} id=${model.id} />
        ${!model.shipped && !model.default && html`<button type="button" class="danger" onClick=${onDelete}>Delete</button>`}
      </div>
      ${isEditing && html`<${NameAndLabels} model=${model} onClose=${() => setEditing(false)} onSaved=${onChanged} />`}
    </li>
  `;
}

/** @param {{id: string}} props */
function Export({ id }) {
  const formats = [
    ["bundle", "Bundle", "safetensors and a description; another service imports it"],
    ["onnx", "ONNX", "encoder and decoder for other runtimes"],
    ["card", "Model card", "Markdown"],
  ];
  return html`
    <details class="export">
      <summary class="button">Export</summary>
      <ul>
        ${formats.map(
          ([format, name, text]) => html`<li>
          <a href=${address(`models/${id}/export?format=${format}`)} download>${name}</a> <span class="hint">${text}</span></li>`,
        )}
        <li><a href=${address(`models/${id}/explorer.html`)} download>Explorer</a> <span class="hint">one HTML file with sliders, works offline</span></li>
      </ul>
    </details>
  `;
}
