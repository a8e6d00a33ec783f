// The posterior of a picture, where the browser computes it itself (models/posteriors.py).

/**
 * @typedef {{mean: Float32Array, logVariance: Float32Array, kl: number}} Posterior
 *   Mean and log-variance of each latent, and the KL of all of them from the prior in nats.
 */

const LEAST_VARIANCE = 1e-12;

/**
 * Returns the posterior of a picture.
 * @param {import("./network.js").Network} network With the weights of its encoder.
 * @param {Float32Array} pixels (image_size, image_size, num_channels) in [0, 1], channels last.
 * @returns {Posterior}
 */
export function encode(network, pixels) {
  const part = network.parts.encoder;
  if (!part) throw new Error("The encoder's weights were not loaded.");
  const { image_size: side, num_channels: channels, num_categories: categories, latent_dim } = network.network;
  for (let y = 0; y < side; y++) {
    const row = pixels.subarray(y * side * channels, (y + 1) * side * channels);
    network.memory.set(row, part.input.address / 4 + ((y + 1) * part.input.width + 1) * channels);
  }
  network.run(part);
  const start = part.output.address / 4;
  const outputs = network.memory.slice(start, start + (categories ?? 2) * latent_dim);
  return categories ? categoricalPosterior(outputs, categories) : gaussianPosterior(outputs);
}

/**
 * Returns a Gaussian posterior.
 * @param {Float32Array} outputs The means, then the log-variances.
 * @returns {Posterior}
 */
function gaussianPosterior(outputs) {
  const mean = outputs.subarray(0, outputs.length / 2);
  const logVariance = outputs.subarray(outputs.length / 2);
  const kl = mean.reduce((sum, m, k) => sum + 0.5 * (m * m + Math.exp(logVariance[k]) - logVariance[k] - 1), 0);
  return { mean, logVariance, kl };
}

/**
 * Returns a posterior over the values of a grid from −1 to 1.
 * @param {Float32Array} logits Those of each latent, one after the other.
 * @param {number} count Number of values on the grid.
 * @returns {Posterior}
 */
export function categoricalPosterior(logits, count) {
  const mean = new Float32Array(logits.length / count);
  const logVariance = new Float32Array(mean.length);
  let kl = 0;
  for (let k = 0; k < mean.length; k++) {
    const own = logits.subarray(k * count, (k + 1) * count);
    const highest = own.reduce((most, logit) => Math.max(most, logit));
    const weights = Array.from(own, (logit) => Math.exp(logit - highest));
    const total = weights.reduce((sum, weight) => sum + weight);
    const valueAt = (/** @type {number} */ i) => (2 * i) / (count - 1) - 1;
    const centre = weights.reduce((sum, weight, i) => sum + (weight / total) * valueAt(i), 0);
    const variance = weights.reduce((sum, weight, i) => sum + (weight / total) * (valueAt(i) - centre) ** 2, 0);
    mean[k] = centre;
    logVariance[k] = Math.log(Math.max(variance, LEAST_VARIANCE));
    kl += weights.reduce(
      (sum, weight, i) => sum + (weight / total) * (own[i] - highest - Math.log(total)),
      Math.log(count),
    );
  }
  return { mean, logVariance, kl };
}
