// One data set: thumbnails, counts, and what was left out.

import { address, getJson } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { percentText } from "../jobs/amounts.js";
import { whileVisible } from "../jobs/polling.js";
import { linkTo } from "../router.js";
import { useVisible } from "../visible.js";
import { Rejected } from "./rejected.js";
import { countText, dateText } from "./words.js";

const POLL_SECONDS = 1;
/** @type {Record<string, string>} */
const KINDS = {
  builtin: "drawn by the service",
  folder: "a folder of the operator",
  file: "a file of the operator",
  upload: "uploaded",
};
const ENDED = ["succeeded", "failed", "cancelled"];

/**
 * @param {{dataset: any, isNew: boolean, onRefused: (problem: import("../api.js").Problem) => void, onDelete: () => void}} props
 */
export function DatasetCard({ dataset: listed, isNew, onDelete }) {
  const card = useRef(/** @type {HTMLElement | null} */ (null));
  const visible = useVisible(card, { once: true });
  const [dataset, setDataset] = useState(listed);
  useEffect(() => setDataset((/** @type {any} */ before) => ({ ...before, ...listed })), [listed]);
  const packing = dataset.packing?.find((/** @type {any} */ job) => !ENDED.includes(job.status));
  const isOpen = visible && (dataset.packing === undefined || packing !== undefined || isNew);
  useEffect(() => {
    if (!isOpen) return undefined;
    return whileVisible(async () => setDataset(await getJson(`datasets/${listed.id}`)), POLL_SECONDS);
  }, [isOpen, listed.id]);
  useEffect(() => {
    if (isNew) card.current?.scrollIntoView({ block: "center" });
  }, [isNew]);
  return html`
    <li ref=${card} class="card dataset-card" data-dataset=${dataset.id} data-new=${isNew ? "true" : null}>
      <${Sample} id=${dataset.id} isVisible=${visible} version=${dataset.packs?.[0]?.digest ?? ""} />
      <h3>${dataset.name} ${isNew && html`<span class="badge good">new</span>`}</h3>
      <p class=${typeof dataset.num_images === "number" ? "counts" : "hint"}>${countsText(dataset)}</p>
      <p class="hint">${KINDS[dataset.kind] ?? dataset.kind}${dataset.created_at ? `, ${dateText(dataset.created_at)}` : ""}${factorsText(dataset)}</p>
      ${
        packing &&
        html`<p role="status">Reading the pictures, ${percentText(packing.progress?.phase_fraction ?? 0)}.</p>
        <progress max="1" value=${packing.progress?.phase_fraction ?? 0} aria-label="Pictures read"></progress>`
      }
      ${dataset.error && html`<p class="banner bad">${dataset.error.message}</p>`}
      ${dataset.num_rejected > 0 && html`<${Rejected} id=${dataset.id} count=${dataset.num_rejected} />`}
      <p class="model-actions">
        <a class="button" href=${linkTo("train", { dataset: dataset.id })}>Train on it</a>
        ${dataset.kind !== "builtin" && html`<button type="button" class="danger" onClick=${onDelete}>Delete</button>`}
      </p>
    </li>
  `;
}

/** @param {{id: string, isVisible: boolean, version: string}} props */
function Sample({ id, isVisible, version }) {
  const [failed, setFailed] = useState(false);
  useEffect(() => setFailed(false), [version]);
  if (failed) return html`<div class="sample none"><span class="hint">Its pictures cannot be shown.</span></div>`;
  return html`<div class="sample">
    ${isVisible && html`<img src=${address(`datasets/${id}/sample.png${version ? `?${version.slice(0, 8)}` : ""}`)} alt="Some of its pictures" onError=${() => setFailed(true)} />`}
  </div>`;
}

/** @param {any} dataset */
function countsText({ num_images: images, num_rejected: rejected, status, packing }) {
  if (images === null || images === undefined) {
    return status === "failed"
      ? "It could not be read."
      : packing?.length
        ? ""
        : "Its pictures are counted when a training first uses it.";
  }
  return `${countText(images)} ${images === 1 ? "picture" : "pictures"}${rejected ? `, ${countText(rejected)} left out` : ""}`;
}

/** @param {any} dataset */
function factorsText({ packs }) {
  const names = packs?.[0]?.factor_names ?? [];
  return names.length ? ` · factors: ${names.join(", ")}` : "";
}
