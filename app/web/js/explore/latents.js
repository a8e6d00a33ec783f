// The latents of a model: their order, names, and how their values are written.

/** Sliders go from −RANGE to RANGE in σ of the prior, and over the whole grid, from −1 to 1, of categorical latents. */
const RANGE = 3;
const GRID_RANGE = 1;
/** Where a filmstrip's seven frames stand, as shares of the range. */
export const FRAMES = [-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1];
const ACTIVE_KL_NATS = 0.1;

/**
 * @typedef {{index: number, kl: number, label: string, active: boolean, range: number, categories: number | null}} Latent
 *   `range` is the value at the right end of the slider; `categories` counts the values of a categorical latent.
 */

/**
 * Returns the latents of a model, the strongest first.
 * @param {{network: {latent_dim: number, num_categories?: number | null}, kl_per_dimension?: number[], active_dimensions?: number[], dimension_labels?: string[]}} model
 *   The model as the API shows it.
 * @param {string[]} [labels] Names that replace the model's own.
 * @returns {Latent[]}
 */
export function latentsOf(model, labels = model.dimension_labels ?? []) {
  const kl = model.kl_per_dimension ?? [];
  const active = model.active_dimensions && new Set(model.active_dimensions);
  const categories = model.network.num_categories ?? null;
  const latents = Array.from({ length: model.network.latent_dim }, (_, index) => ({
    index,
    kl: kl[index] ?? 0,
    label: labels[index] ?? "",
    range: categories === null ? RANGE : GRID_RANGE,
    categories,
    active: kl.length === 0 || (active ? active.has(index) : kl[index] > ACTIVE_KL_NATS),
  }));
  return latents.sort((a, b) => b.kl - a.kl);
}

/**
 * Returns the name of a latent.
 * @param {{index: number, label: string}} latent
 */
export function nameOf(latent) {
  return latent.label || `latent ${latent.index}`;
}

/**
 * Writes a value with its sign: "+1.2", "−0.8", "0.0".
 * @param {number} value
 * @param {number} [digits]
 */
export function signed(value, digits = 1) {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? "−" : "+") + text;
}

/**
 * Writes a value of a latent with its unit, which a categorical latent does not have: "+1.2 σ", "+0.42".
 * @param {{categories?: number | null}} latent
 * @param {number} value
 */
export function valueText(latent, value) {
  return latent.categories ? signed(value, 2) : `${signed(value)} σ`;
}

/**
 * Returns the value of a latent nearest to the given one that its slider can show.
 * @param {{range: number}} latent
 * @param {number} value
 */
export function within({ range }, value) {
  return Math.max(-range, Math.min(range, value));
}

/**
 * Describes a latent vector by the values that differ most from 0.
 * @param {Latent[]} latents
 * @param {ArrayLike<number>} z
 * @returns {string} Such as "turns +1.2 σ, paler −0.8 σ".
 */
export function describeVector(latents, z) {
  const moved = latents.filter((latent) => latent.active && Math.abs(z[latent.index]) >= 0.05);
  moved.sort((a, b) => Math.abs(z[b.index]) - Math.abs(z[a.index]));
  if (moved.length === 0) return "every latent at 0";
  return moved
    .slice(0, 4)
    .map((latent) => `${nameOf(latent)} ${valueText(latent, z[latent.index])}`)
    .join(", ");
}

/**
 * Returns a vector rounded to what the address of the page holds, so that a reload gives the same pixels.
 * @param {ArrayLike<number>} values
 * @returns {Float32Array}
 */
export function rounded(values) {
  return Float32Array.from(values, (value) => Number(value.toFixed(3)));
}

/**
 * Returns a vector as text, with three digits after the point at most.
 * @param {ArrayLike<number>} z
 */
export function vectorText(z) {
  return Array.from(z, (value) => String(Number(value.toFixed(3)))).join(",");
}

/**
 * Reads a vector from text.
 * @param {string | null} text
 * @param {number} length Number of latents.
 * @returns {Float32Array | null} Null where the text is no vector of that length.
 */
export function parseVector(text, length) {
  if (!text) return null;
  const values = text.split(",").map(Number);
  return values.length === length && values.every((value) => Number.isFinite(value) && Math.abs(value) <= 100)
    ? rounded(values)
    : null;
}

/**
 * Returns a draw from the prior for each active latent, N(0, 1) or a value of the grid, and 0 for the others.
 * @param {Latent[]} latents
 * @param {() => number} [random] Uniform numbers in [0, 1).
 */
export function drawVector(latents, random = Math.random) {
  const z = new Float32Array(latents.length);
  for (const latent of latents) {
    if (latent.active)
      z[latent.index] = latent.categories ? drawFromGrid(latent.categories, random) : drawNormal(random);
  }
  return rounded(z);
}

/** @param {() => number} random @returns {number} */
function drawNormal(random) {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.max(-RANGE, Math.min(RANGE, normal));
}

/** @param {number} count Number of values between −1 and 1. @param {() => number} random */
function drawFromGrid(count, random) {
  return (2 * Math.floor(count * random())) / (count - 1) - 1;
}

/**
 * Returns a generator of uniform numbers that always gives the same ones (mulberry32).
 * @param {number} seed
 */
export function seededRandom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const STARTS = 8;

/**
 * Returns a vector to begin with: of a few draws from the prior, always the same ones, the one with the clearest picture.
 * The vector 0 would give the blur of all pictures.
 * @param {Latent[]} latents
 * @param {{decode: (z: ArrayLike<number>) => ImageData}} decoder
 */
export function startVector(latents, decoder) {
  const random = seededRandom(1);
  /** @type {{z: Float32Array, clearness: number}} */
  let best = { z: new Float32Array(latents.length), clearness: -1 };
  for (let turn = 0; turn < STARTS; turn++) {
    const z = drawVector(latents, random);
    const clearness = contrastOf(decoder.decode(z));
    if (clearness > best.clearness) best = { z, clearness };
  }
  return best.z;
}

/** @param {ImageData} pixels @returns {number} How much neighbouring pixels differ. */
function contrastOf({ data, width }) {
  let sum = 0;
  for (let place = 4 * width; place < data.length; place++)
    sum += Math.abs(data[place] - data[place - 4]) + Math.abs(data[place] - data[place - 4 * width]);
  return sum;
}
