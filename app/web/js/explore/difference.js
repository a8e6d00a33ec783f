// Pictures out of numbers, and the difference of two pictures.

/**
 * Returns the pixels of a network's input.
 * @param {Float32Array} numbers (size, size, channels) in [0, 1]
 * @param {number} size
 * @param {number} channels
 * @returns {ImageData}
 */
export function toPixels(numbers, size, channels) {
  const pixels = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * numbers[i * channels + (c % channels)];
    pixels.data[4 * i + 3] = 255;
  }
  return pixels;
}

/**
 * Returns where two pictures of one size differ: dark where they are equal, bright where they are far apart.
 * @param {ImageData} first
 * @param {ImageData} second
 * @returns {{error: ImageData, mean: number}} The picture, and the mean difference in [0, 1].
 */
export function compare(first, second) {
  const error = new ImageData(first.width, first.height);
  let sum = 0;
  for (let i = 0; i < first.data.length; i += 4) {
    let difference = 0;
    for (let c = i; c < i + 3; c++) difference += Math.abs(first.data[c] - second.data[c]) / (3 * 255);
    sum += difference;
    const heat = Math.min(1, 1.5 * difference) * 3;
    for (let c = 0; c < 3; c++) error.data[i + c] = 18 + 237 * Math.max(0, Math.min(1, heat - c));
    error.data[i + 3] = 255;
  }
  return { error, mean: (4 * sum) / first.data.length };
}
