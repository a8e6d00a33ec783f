// Loads a model's network and the kernel that runs it.

import { Network } from "./network.js";
import { readWeights } from "./weights.js";
import { request } from "../api.js";

/** @typedef {Network & {about: {step?: number, z?: number[]}}} Decoder `about`: step and a first z of a training. */

/** @type {ReturnType<typeof load> | null} */
let kernel = null;

/** Returns the compiled kernel, or its JavaScript twin in browsers without WebAssembly SIMD. */
export function loadKernel() {
  kernel ??= load();
  return kernel;
}

async function load() {
  try {
    return await WebAssembly.compileStreaming(fetch(new URL("kernel.wasm", import.meta.url)));
  } catch {
    return (await import("./twin.js")).javascriptKernel;
  }
}

/**
 * Loads the decoder of a model or of a running training.
 * @param {string} path Path such as "models/chairs/web" or "train-jobs/ID/web"; ?encoder=true adds the encoder.
 * @param {AbortSignal} [signal]
 * @returns {Promise<Decoder>}
 * @throws {import("../api.js").Problem} There is no such model, or the job has no decoder yet.
 */
export async function loadDecoder(path, signal) {
  const [response, kernel] = await Promise.all([request("GET", path, { accept: "*/*", signal }), loadKernel()]);
  const { network, layers, about } = readWeights(await response.arrayBuffer());
  return Object.assign(new Network(network, layers, kernel), { about });
}
