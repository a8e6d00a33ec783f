// The names of a model's latents: kept by the service, or by this browser for models that ship and cannot be changed.

import { sendJson } from "../api.js";
import { useCallback, useEffect, useRef, useState } from "../html.js";

const keyOf = (/** @type {any} */ model) => `labels:${model.id}:${model.weights_sha256 ?? ""}`;

/**
 * @param {any | null} model The model as the API shows it.
 * @param {(problem: Error) => void} onProblem Called where the service refuses a name.
 * @returns {[string[], (index: number, label: string) => Promise<void>]} The names, empty where there is none, and how to
 *   change one.
 */
export function useLabels(model, onProblem) {
  const [held, setHeld] = useState({ model, labels: labelsOf(model) });
  useEffect(() => setHeld({ model, labels: labelsOf(model) }), [model]);
  // The names of another model are not shown for one render.
  const labels = held.model === model ? held.labels : labelsOf(model);

  /** @param {number} index @param {string} label */
  const rename = async (index, label) => {
    const next = labels.map((before, place) => (place === index ? label : before));
    setHeld({ model, labels: next });
    try {
      if (model.shipped) localStorage.setItem(keyOf(model), JSON.stringify(next));
      else await sendJson("PATCH", `models/${model.id}`, { dimension_labels: next });
    } catch (problem) {
      setHeld({ model, labels });
      onProblem(/** @type {Error} */ (problem));
    }
  };
  const call = useRef(rename);
  call.current = rename;
  return [labels, useCallback((index, label) => call.current(index, label), [])];
}

/** @param {any | null} model @returns {string[]} */
function labelsOf(model) {
  if (!model) return [];
  const own = Array.from({ length: model.network.latent_dim }, (_, index) => model.dimension_labels?.[index] ?? "");
  try {
    const kept = model.shipped ? JSON.parse(localStorage.getItem(keyOf(model)) ?? "null") : null;
    return Array.isArray(kept) && kept.length === own.length ? kept.map(String) : own;
  } catch {
    return own; // Storage that is switched off, as in some private windows and frames.
  }
}
