// Numbers of a posterior that the browser computes itself.

/**
 * Returns the KL of a posterior from the prior, in nats.
 * @param {Float32Array} mean
 * @param {Float32Array} logVariance
 */
export function klOf(mean, logVariance) {
  return mean.reduce((sum, m, k) => sum + 0.5 * (m * m + Math.exp(logVariance[k]) - logVariance[k] - 1), 0);
}
