// The visitor's own picture, encoded here: it never leaves the page.

import { encode } from "../decoder/posterior.js";
import { toInput } from "../decoder/resize.js";
import { compare, toPixels } from "../explore/difference.js";

const LARGEST_SIDE = 4096;
const LEAST_SIGMA = Math.exp(-6);

/**
 * @typedef {{preprocessing: import("../decoder/resize.js").Preprocessing, likelihood: string,
 *   familiarity: {reconstruction_error_p99?: number, kl_p99?: number}}} Model
 */

/**
 * Encodes a picture.
 * @param {import("../decoder/network.js").Network} network With its encoder.
 * @param {Model} model
 * @param {Blob} file The picture.
 * @returns {Promise<import("../explore/own_picture.js").OwnPicture>}
 */
export async function encodeHere(network, model, file) {
  const { preprocessing, likelihood } = model;
  const input = toInput(await pixelsOfFile(file), preprocessing);
  const { mean, logVariance, kl } = encode(network, input);
  const size = preprocessing.image_size;
  const channels = preprocessing.num_channels;
  const reconstruction = network.decode(mean);
  const crop = toPixels(input, size, channels);
  const { error, mean: meanError } = compare(crop, reconstruction);
  const summed = reconstructionLoss(input, network.logits(mean), channels, likelihood);
  return {
    url: URL.createObjectURL(file),
    crop,
    reconstruction,
    error,
    meanError,
    mean: Array.from(mean),
    sigma: Array.from(logVariance, (value) => Math.exp(value / 2)),
    loss: likelihood === "gaussian_optimal" ? withOptimalVariance(summed, input.length) : summed,
    notice: noticeOf(model, summed - floorOf(input, likelihood), kl),
  };
}

/**
 * Returns the reconstruction loss in nats; with gaussian_optimal the summed squared error.
 * @param {Float32Array} input (pixels, channels) in [0, 1]
 * @param {Float32Array} logits (pixels, 4)
 * @param {number} channels
 * @param {string} likelihood "bernoulli", "gaussian" or "gaussian_optimal"
 */
function reconstructionLoss(input, logits, channels, likelihood) {
  let loss = 0;
  for (let i = 0; i < input.length; i++) {
    const logit = logits[4 * Math.floor(i / channels) + (i % channels)];
    if (likelihood !== "bernoulli") loss += (input[i] - 1 / (1 + Math.exp(-logit))) ** 2;
    else loss += Math.max(logit, 0) - logit * input[i] + Math.log1p(Math.exp(-Math.abs(logit)));
  }
  return loss;
}

/**
 * Returns the loss of a Gaussian whose variance is the mean squared error (training/objectives/losses.py), in nats.
 * @param {number} error The summed squared error.
 * @param {number} count Number of values.
 */
function withOptimalVariance(error, count) {
  const variance = Math.max(error / count, LEAST_SIGMA ** 2);
  return (count / 2) * Math.log(2 * Math.PI * variance) + error / (2 * variance);
}

/**
 * Returns the least loss that any reconstruction of a picture has, in nats.
 * @param {Float32Array} input Numbers in [0, 1].
 * @param {string} likelihood
 */
function floorOf(input, likelihood) {
  if (likelihood !== "bernoulli") return 0;
  let floor = 0;
  for (const x of input) if (x > 0 && x < 1) floor -= x * Math.log(x) + (1 - x) * Math.log(1 - x);
  return floor;
}

/**
 * Returns a sentence where a picture is beyond 99 of 100 of the model's own; empty elsewhere.
 * @param {Model} model
 * @param {number} error Reconstruction loss less the picture's floor, in nats.
 * @param {number} kl In nats.
 */
function noticeOf({ familiarity }, error, kl) {
  const beyond = error > (familiarity.reconstruction_error_p99 ?? Infinity) || kl > (familiarity.kl_p99 ?? Infinity);
  return beyond
    ? "The model does not know pictures of this kind: 99 of 100 of its own have a smaller error and KL."
    : "";
}

/**
 * Returns the pixels of a file, made smaller where it is huge.
 * @param {Blob} file
 * @returns {Promise<ImageData>}
 */
async function pixelsOfFile(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LARGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
