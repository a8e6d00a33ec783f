// The visitor's own picture, encoded here: it never leaves the page.

import { toInput } from "../decoder/resize.js";
import { compare, toPixels } from "../explore/difference.js";

const LARGEST_SIDE = 4096;

/**
 * Encodes a picture.
 * @param {import("../decoder/network.js").Network} network With its encoder.
 * @param {{preprocessing: import("../decoder/resize.js").Preprocessing, likelihood: string}} model
 * @param {Blob} file The picture.
 * @returns {Promise<import("../explore/own_picture.js").OwnPicture>}
 */
export async function encodeHere(network, { preprocessing, likelihood }, file) {
  const input = toInput(await pixelsOfFile(file), preprocessing);
  const { mean, logVariance } = network.encode(input);
  const size = preprocessing.image_size;
  const channels = preprocessing.num_channels;
  const reconstruction = network.decode(mean);
  const crop = toPixels(input, size, channels);
  const { error, mean: meanError } = compare(crop, reconstruction);
  return {
    url: URL.createObjectURL(file),
    crop,
    reconstruction,
    error,
    meanError,
    mean: Array.from(mean),
    sigma: Array.from(logVariance, (value) => Math.exp(value / 2)),
    loss: reconstructionLoss(input, network.logits(mean), channels, likelihood),
    notice: "",
  };
}

/**
 * Returns the reconstruction loss in nats.
 * @param {Float32Array} input (pixels, channels) in [0, 1]
 * @param {Float32Array} logits (pixels, 4)
 * @param {number} channels
 * @param {string} likelihood "bernoulli" or "gaussian"
 */
function reconstructionLoss(input, logits, channels, likelihood) {
  let loss = 0;
  for (let i = 0; i < input.length; i++) {
    const logit = logits[4 * Math.floor(i / channels) + (i % channels)];
    if (likelihood === "gaussian") loss += (input[i] - 1 / (1 + Math.exp(-logit))) ** 2 / 2;
    else loss += Math.max(logit, 0) - logit * input[i] + Math.log1p(Math.exp(-Math.abs(logit)));
  }
  return loss;
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
