// Loads a model's network and the kernel that runs it.

import { Network } from "./network.js";
import { readWeights } from "./weights.js";
import { request } from "../api.js";

/** @typedef {Network & {about: {step?: number, z?: number[]}}} Decoder `about`: step and a first z of a training. */

/** @type {Promise<WebAssembly.Module | null> | null} */
let kernel = null;

/**
 * Returns the compiled kernel; null in browsers without WebAssembly SIMD.
 * @returns {Promise<WebAssembly.Module | null>}
 */
export function loadKernel() {
  kernel ??= WebAssembly.compileStreaming(fetch(new URL("kernel.wasm", import.meta.url))).catch(() => null);
  return kernel;
}

/**
 * Loads the decoder of a model or of a running training.
 * @param {string} path Path such as "models/chairs/web" or "train-jobs/ID/web".
 * @param {AbortSignal} [signal]
 * @returns {Promise<Decoder>}
 * @throws {import("../api.js").Problem} There is no such model, or the job has no decoder yet.
 */
export async function loadDecoder(path, signal) {
  const [response, module] = await Promise.all([request("GET", path, { accept: "*/*", signal }), loadKernel()]);
  const { network, layers, about } = readWeights(await response.arrayBuffer());
  return Object.assign(new Network(network, layers, module), { about });
}

/**
 * Loads encoder and decoder of a model.
 * @param {string} path Path such as "models/chairs/web".
 * @param {AbortSignal} [signal]
 * @returns {Promise<Decoder>}
 */
export function loadNetwork(path, signal) {
  return loadDecoder(`${path}?encoder=true`, signal);
}
