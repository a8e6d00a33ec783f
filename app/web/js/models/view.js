// The view "Models": all models, a comparison of two, and the data sets.

import { html, useState } from "../html.js";
import { ProblemBanner } from "../problems/banner.js";
import { UndoNote } from "../undo.js";
import { AddDataset } from "./add_dataset.js";
import { Comparison } from "./comparison.js";
import { DatasetCard } from "./dataset_card.js";
import { ImportCard } from "./import_card.js";
import { useLists } from "./lists.js";
import { ModelCard } from "./model_card.js";

/** @param {{params: URLSearchParams}} props */
export function ModelsView({ params }) {
  const lists = useLists();
  const [added, setAdded] = useState("");
  const { models, datasets, isLoading, reload, refuse, remove } = lists;
  if (models === null && !isLoading) return html`<${Refused} lists=${lists} />`;
  /** @param {string} id */
  const onAdded = async (id) => {
    await reload();
    setAdded(id);
  };
  return html`
    <div class="models-view" aria-busy=${models === null}>
      <h1>Models & data</h1>
      <p class="visually-hidden" role="status">${models === null ? "Loading the models and data sets…" : ""}</p>
      ${lists.problem && html`<${ProblemBanner} problem=${lists.problem} onDismiss=${lists.dismiss} />`}
      <section aria-labelledby="models-title">
        <h2 id="models-title">Models</h2>
        <ul class="model-cards">
          ${models === null && [0, 1].map((place) => html`<li key=${place} class="card model-card skeleton"></li>`)}
          ${models?.map(
            (
              model,
            ) => html`<${ModelCard} key=${model.id} model=${model} datasets=${datasets ?? []} isNew=${model.id === added}
            onChanged=${reload} onRefused=${refuse} onDelete=${() => remove(`models/${model.id}`, `the model ${model.name}`)} />`,
          )}
          ${models && html`<${ImportCard} isAlone=${models.every((model) => model.shipped)} onImported=${onAdded} />`}
        </ul>
      </section>
      ${models && models.length > 1 && html`<${Comparison} models=${models} params=${params} onRefused=${refuse} />`}
      <section aria-labelledby="data-title">
        <h2 id="data-title">Data sets</h2>
        <ul class="dataset-cards">
          ${datasets === null && [0, 1, 2].map((place) => html`<li key=${place} class="card dataset-card skeleton"></li>`)}
          ${datasets?.map(
            (dataset) => html`<${DatasetCard} key=${dataset.id} dataset=${dataset} isNew=${dataset.id === added}
            onRefused=${refuse} onDelete=${() => remove(`datasets/${dataset.id}`, `the data set ${dataset.name}`)} />`,
          )}
          ${datasets && html`<${AddDataset} onAdded=${onAdded} />`}
        </ul>
      </section>
      <${UndoNote} />
    </div>
  `;
}

/**
 * Says that nothing could be loaded.
 * @param {{lists: ReturnType<typeof useLists>}} props
 */
function Refused({ lists: { problem, dismiss, reload } }) {
  const retry = () => {
    dismiss();
    reload();
  };
  return html`
    <div class="models-view">
      <h1>Models & data</h1>
      ${
        problem
          ? html`<${ProblemBanner} problem=${problem} onDismiss=${dismiss} onRetry=${retry} />`
          : html`<p>Nothing has been loaded. <button type="button" onClick=${retry}>Try again</button></p>`
      }
    </div>
  `;
}
