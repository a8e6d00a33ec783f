// Evaluations of a model: starts one, follows it, and shows what it found.

import { getJson, sendJson } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { percentText } from "../jobs/amounts.js";
import { whileVisible } from "../jobs/polling.js";
import { useVisible } from "../visible.js";
import { Scores } from "./scores.js";
import { dateText } from "./words.js";

const POLL_SECONDS = 1;
const FINISHED = ["succeeded", "failed", "cancelled"];

/**
 * @param {{
 *   model: any, datasets: any[], onDone: () => Promise<void>, onRefused: (problem: import("../api.js").Problem) => void,
 * }} props
 */
export function Evaluation({ model, datasets, onDone, onRefused }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const visible = useVisible(place, { once: true });
  const [evaluation, setEvaluation] = useState(/** @type {any} */ (null));
  const path = `models/${model.id}/evaluations`;
  useEffect(() => {
    if (visible)
      getJson(path).then(
        (list) => setEvaluation(list.evaluations[0] ?? null),
        () => undefined,
      );
  }, [visible]);
  const isRunning = evaluation && !FINISHED.includes(evaluation.status);
  useEffect(() => {
    if (!isRunning) return undefined;
    return whileVisible(async () => {
      const now = await getJson(`${path}/${evaluation.id}`);
      setEvaluation(now);
      if (now.status === "succeeded") await onDone();
    }, POLL_SECONDS);
  }, [isRunning, evaluation?.id]);
  /** @param {string} dataset */
  const start = (dataset) => sendJson("POST", path, dataset ? { dataset } : {}).then(setEvaluation, onRefused);
  /** @param {string} action */
  const act = (action) => sendJson("POST", `${path}/${evaluation.id}/${action}`).then(setEvaluation, onRefused);
  return html`
    <div ref=${place} class="evaluation">
      ${
        isRunning
          ? html`<${Running} evaluation=${evaluation} onCancel=${() => act("cancel")} />`
          : html`<${Start} model=${model} datasets=${datasets} onStart=${start} />`
      }
      ${evaluation && !isRunning && html`<${Ended} evaluation=${evaluation} model=${model} onRetry=${() => act("retry")} />`}
    </div>
  `;
}

/** @param {{model: any, datasets: any[], onStart: (dataset: string) => Promise<void>}} props */
function Start({ model, datasets, onStart }) {
  const own = (datasets.find(({ id }) => id === model.dataset?.id) ?? datasets[0])?.id ?? "";
  const [dataset, setDataset] = useState("");
  const [isBusy, setBusy] = useState(false);
  const start = async () => {
    setBusy(true);
    await onStart(dataset || own);
    setBusy(false);
  };
  const id = `evaluate-${model.id}`;
  return html`
    <label for=${id}>Evaluate on</label>
    <select id=${id} value=${dataset || own} onChange=${(/** @type {any} */ event) => setDataset(event.target.value)}>
      ${datasets.map((one) => html`<option value=${one.id}>${one.name}</option>`)}
    </select>
    <button type="button" disabled=${isBusy || datasets.length === 0} onClick=${start}>Evaluate</button>
  `;
}

/** @param {{evaluation: any, onCancel: () => void}} props */
function Running({ evaluation: { status, dataset, progress }, onCancel }) {
  const fraction = progress.phase_fraction ?? progress.fraction;
  const sentence =
    status === "queued"
      ? "waits for a training worker"
      : progress.phase === "packing"
        ? `reads the pictures, ${percentText(fraction)}`
        : `computes scores, ${percentText(fraction)}`;
  return html`
    <p role="status">The evaluation on ${dataset} ${sentence}.</p>
    <progress max="1" value=${fraction ?? 0} aria-label="Progress of the evaluation"></progress>
    <button type="button" onClick=${onCancel}>Cancel</button>
  `;
}

/** @param {{evaluation: any, model: any, onRetry: () => void}} props */
function Ended({ evaluation: { status, dataset, error, result, finished_at: time }, model, onRetry }) {
  if (status !== "succeeded") {
    return html`<p class="ended">The evaluation on ${dataset} ${status === "failed" ? `failed: ${error?.message ?? "no reason is known"}` : "was cancelled"}.
      <button type="button" class="quiet" onClick=${onRetry}>Try again</button></p>`;
  }
  const found = result.active_dimensions.length;
  return html`
    <div class="ended">
      <p class="hint">Evaluated on ${dataset}, ${dateText(time)}: reconstruction loss ${result.reconstruction_loss.toFixed(1)} nats,
        KL ${result.kl.toFixed(1)} nats, ${found} active ${found === 1 ? "latent" : "latents"}.</p>
      ${model.shipped && Object.keys(result.scores).length > 0 && html`<details><summary>Its scores</summary><${Scores} metrics=${result.scores} /></details>`}
      ${result.notes.map((/** @type {string} */ note) => html`<p class="hint">${note}</p>`)}
    </div>
  `;
}
