// Scales, ticks and thinning for the charts.

export const MAX_POINTS = 400;

/**
 * Returns a function that maps numbers to pixels.
 * @param {[number, number]} from Range of the numbers.
 * @param {[number, number]} to Range of the pixels.
 * @returns {(value: number) => number}
 */
export function scale([low, high], [start, end]) {
  const factor = (end - start) / (high - low || 1);
  return (value) => start + (value - low) * factor;
}

/**
 * Returns round numbers of a range.
 * @param {number} low
 * @param {number} high
 * @param {number} count About how many.
 * @returns {number[]}
 */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) => (first + k) * step);
}

/**
 * Thins points evenly; the first and the last stay.
 * @template T
 * @param {T[]} points
 * @param {number} [most]
 * @returns {T[]}
 */
export function thinned(points, most = MAX_POINTS) {
  if (points.length <= most) return points;
  return Array.from({ length: most }, (_, k) => points[Math.round((k * (points.length - 1)) / (most - 1))]);
}

/**
 * Writes a number for people: 25 000, 12.3, 0.042.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function numberText(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 1000) {
    return Math.round(value)
      .toString()
      .replace(/\B(?=(\d{3})+$)/g, "\u202f")
      .replace("-", "−");
  }
  if (Math.abs(value) < 0.01) return value.toFixed(4).replace("-", "−");
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2).replace("-", "−");
}

/**
 * Returns the colour of a latent dimension, the same in every chart and both themes.
 * @param {number} index
 * @returns {string}
 */
export function latentColour(index) {
  return `hsl(${Math.round((222 + index * 137.5) % 360)} 58% ${index % 2 ? 62 : 52}%)`;
}
