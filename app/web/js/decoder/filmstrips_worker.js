// The worker of filmstrips.js: its first message names the decoder, every further one asks for strips.

import { loadKernel } from "./decoder.js";
import { Network } from "./network.js";
import { readWeights } from "./weights.js";

/** @type {Promise<Network> | null} */
let decoder = null;

/** @param {string} address */
async function load(address) {
  const [response, kernel] = await Promise.all([fetch(address), loadKernel()]);
  if (!response.ok) throw new Error(`The weights were refused with HTTP ${response.status}.`);
  const { network, layers } = readWeights(await response.arrayBuffer());
  return new Network(network, layers, kernel);
}

self.onmessage = async ({ data }) => {
  if (data.path) {
    decoder = load(new URL(data.path, data.base).href);
    decoder.catch(() => {}); // Every request reports it.
    return;
  }
  try {
    self.postMessage(strips(await /** @type {Promise<Network>} */ (decoder), data));
  } catch {
    self.postMessage(null);
  }
};

/**
 * @param {Network} network
 * @param {import("./filmstrips.js").Request} request
 * @returns {ImageData[][]}
 */
function strips(network, { z, latents, values }) {
  return latents.map((latent) =>
    values.map((value) => network.decode(z.map((before, k) => (k === latent ? value : before)))),
  );
}
