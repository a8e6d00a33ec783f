// The state of the explore view in the address of the page: everything that decides what is shown.

import { parseVector, vectorText } from "./latents.js";

/**
 * @typedef {{
 *   model: string, z: Float32Array | null, pair: [number, number] | null, a: Float32Array | null, b: Float32Array | null,
 *   t: number | null, path: "slerp" | "linear",
 * }} ViewState
 */

/**
 * Reads what an address says about a model; parts that do not fit the model are left out.
 * @param {URLSearchParams} params
 * @param {number} latentDim
 * @returns {Omit<ViewState, "model">}
 */
export function readState(params, latentDim) {
  const pair = (params.get("pad") ?? "").split(",").map(Number);
  const fits =
    pair.length === 2 &&
    pair[0] !== pair[1] &&
    pair.every((index) => Number.isInteger(index) && index >= 0 && index < latentDim);
  const t = params.has("t") ? Number(params.get("t")) : NaN;
  return {
    z: parseVector(params.get("z"), latentDim),
    pair: fits && params.has("pad") ? /** @type {[number, number]} */ (pair) : null,
    a: parseVector(params.get("a"), latentDim),
    b: parseVector(params.get("b"), latentDim),
    t: t >= 0 && t <= 1 ? t : null,
    path: params.get("path") === "linear" ? "linear" : "slerp",
  };
}

/**
 * Writes the state as an address holds it.
 * @param {ViewState} state
 * @returns {URLSearchParams}
 */
export function writeState({ model, z, pair, a, b, t, path }) {
  const params = new URLSearchParams({ model });
  if (z) params.set("z", vectorText(z));
  if (pair) params.set("pad", pair.join());
  if (a) params.set("a", vectorText(a));
  if (b) params.set("b", vectorText(b));
  if (t !== null) params.set("t", String(Number(t.toFixed(2))));
  if (path === "linear") params.set("path", path);
  return params;
}
