// Crops and resizes a picture as the service does (training/data/images.py), since browsers' own resizing differs.

/**
 * @typedef {{image_size: number, num_channels: number, crop: string, crop_size: number | null}} Preprocessing
 * @typedef {{first: number, weights: Float64Array}} Taps Weights of neighbouring input pixels, from `first` on.
 */

/**
 * Returns the region that a model sees.
 * @param {number} width
 * @param {number} height
 * @param {Preprocessing} preprocessing
 * @returns {{left: number, top: number, width: number, height: number}}
 */
export function cropBox(width, height, { crop, crop_size: cropSize }) {
  let kept = [width, height];
  if (cropSize) kept = [Math.min(width, cropSize), Math.min(height, cropSize)];
  else if (crop !== "center") return { left: 0, top: 0, width, height };
  if (crop === "center") kept = [Math.min(...kept), Math.min(...kept)];
  return { left: (width - kept[0]) >> 1, top: (height - kept[1]) >> 1, width: kept[0], height: kept[1] };
}

/**
 * Makes a network's input of a picture: transparency over white, crop, and areas averaged (or bilinear enlargement).
 * @param {ImageData} image
 * @param {Preprocessing} preprocessing
 * @returns {Float32Array} (image_size, image_size, num_channels) in [0, 1].
 */
export function toInput(image, preprocessing) {
  const { image_size: size, num_channels: channels } = preprocessing;
  const box = cropBox(image.width, image.height, preprocessing);
  const pixels = overWhite(image, channels);
  const shrinks = box.width >= size && box.height >= size;
  const across = taps(image.width, box.left, box.width, size, shrinks);
  const down = taps(image.height, box.top, box.height, size, shrinks);
  const rows = new Float32Array(image.height * size * channels);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < size; x++) {
      for (let c = 0; c < channels; c++) {
        const start = (y * image.width + across[x].first) * channels + c;
        rows[(y * size + x) * channels + c] = average(pixels, start, channels, across[x].weights);
      }
    }
  }
  const input = new Float32Array(size * size * channels);
  for (let y = 0; y < size; y++) {
    for (let i = 0; i < size * channels; i++) {
      const start = down[y].first * size * channels + i;
      input[y * size * channels + i] = average(rows, start, size * channels, down[y].weights) / 255;
    }
  }
  return input;
}

/**
 * Returns the levels of a picture over white.
 * @param {ImageData} image
 * @param {number} channels 1 for luma (ITU-R 601), 3 for RGB.
 * @returns {Uint8ClampedArray} (height, width, channels)
 */
function overWhite(image, channels) {
  const data = image.data;
  const pixels = new Uint8ClampedArray(image.width * image.height * channels); // It rounds what it is given.
  const rgb = new Uint8ClampedArray(3);
  for (let i = 0; i < image.width * image.height; i++) {
    const white = 255 - data[4 * i + 3];
    for (let c = 0; c < 3; c++) rgb[c] = white + (data[4 * i + c] * data[4 * i + 3]) / 255;
    if (channels === 1) pixels[i] = (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16;
    else pixels.set(rgb, 3 * i);
  }
  return pixels;
}

/**
 * Returns the weights of the input pixels for every output pixel, as Pillow's BOX and BILINEAR filters have them.
 * @param {number} length Pixels of the input.
 * @param {number} start First pixel of the region.
 * @param {number} kept Pixels of the region.
 * @param {number} size Pixels of the output.
 * @param {boolean} shrinks Whether areas are averaged.
 * @returns {Taps[]}
 */
function taps(length, start, kept, size, shrinks) {
  const scale = kept / size;
  const filterScale = Math.max(1, scale);
  const support = (shrinks ? 0.5 : 1) * filterScale;
  return Array.from({ length: size }, (_, i) => {
    const center = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(length, Math.trunc(center + support + 0.5));
    const weights = new Float64Array(end - first).map((_, k) => {
      const x = (first + k - center + 0.5) / filterScale;
      if (shrinks) return x > -0.5 && x <= 0.5 ? 1 : 0;
      return Math.max(0, 1 - Math.abs(x));
    });
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/**
 * Returns a weighted mean, rounded to a level of 8 bits.
 * @param {ArrayLike<number>} numbers
 * @param {number} start
 * @param {number} step Distance between the numbers.
 * @param {Float64Array} weights
 */
function average(numbers, start, step, weights) {
  let sum = 0;
  for (let k = 0; k < weights.length; k++) sum += weights[k] * numbers[start + k * step];
  return Math.floor(sum + 0.5);
}
