// Reads the weights that the service prepares for the page (models/web_weights.py): a safetensors file.

/**
 * @typedef {{part: "decoder" | "encoder", kind: "linear" | "convolution" | "transposed", inputs: number,
 *   outputs: number, rectify: boolean, weight: Float32Array, bias: Float32Array}} Layer
 * @typedef {{architecture: string, image_size: number, num_channels: number, latent_dim: number, num_categories?: number}} NetworkShape
 */

/**
 * Reads a file of weights.
 * @param {ArrayBuffer} file
 * @returns {{network: NetworkShape, layers: Layer[], about: {step?: number, z?: number[]}}} `about` belongs to a training.
 */
export function readWeights(file) {
  const length = Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  /** @param {string} name */
  const tensor = (name) => {
    const {
      dtype,
      data_offsets: [from, to],
    } = header[name];
    const bytes = file.slice(8 + length + from, 8 + length + to); // A copy, since float32 has to be aligned.
    return dtype === "F16" ? fromHalf(new Uint16Array(bytes)) : new Float32Array(bytes);
  };
  const { network, layers: described, about } = JSON.parse(header.__metadata__.page);
  const layers = described.map((/** @type {any} */ layer, /** @type {number} */ i) => ({
    ...layer,
    weight: tensor(`${i}.weight`),
    bias: tensor(`${i}.bias`),
  }));
  return { network, layers, about };
}

/**
 * Converts finite float16 numbers.
 * @param {Uint16Array} halves Their bits.
 * @returns {Float32Array}
 */
export function fromHalf(halves) {
  const floats = new Float32Array(halves.length);
  const bits = new Uint32Array(floats.buffer);
  for (let i = 0; i < halves.length; i++) bits[i] = (halves[i] & 0x7fff) << 13;
  // The exponents are 112 too small; the product also gives subnormal numbers their right values.
  for (let i = 0; i < halves.length; i++) floats[i] *= halves[i] & 0x8000 ? -(2 ** 112) : 2 ** 112;
  return floats;
}
