// Durations and shares as text.

/**
 * Writes a duration: "40 s", "3 min", "2 h 10 min".
 * @param {number} seconds
 * @returns {string}
 */
export function durationText(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** @param {number | null | undefined} fraction */
export function percentText(fraction) {
  return `${Math.floor(100 * (fraction ?? 0))} %`;
}
