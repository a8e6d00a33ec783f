// The latent vector that is shown: set at most once a frame, with undo.

import { useCallback, useEffect, useMemo, useRef, useState } from "../html.js";

const MOST_STEPS = 200;
const SAME_GESTURE_MS = 800;

/**
 * Holds a latent vector. `set` draws in the next animation frame, where the last value wins; `remember` keeps the present
 * value for undo, once for a run of changes with the same key.
 * @returns {{
 *   z: Float32Array | null, latest: () => Float32Array | null, set: (z: Float32Array | null) => void,
 *   remember: (key?: string) => void, undo: () => boolean, canUndo: boolean,
 * }}
 */
export function useLatentVector() {
  const [z, show] = useState(/** @type {Float32Array | null} */ (null));
  const [steps, setSteps] = useState(0);
  const own = useRef({ z: /** @type {Float32Array | null} */ (null), frame: 0, past: /** @type {Float32Array[]} */ ([]), key: "", time: 0 });
  useEffect(() => () => cancelAnimationFrame(own.current.frame), []);

  const set = useCallback((/** @type {Float32Array | null} */ next) => {
    const held = own.current;
    const first = held.z === null || next === null || held.z.length !== next.length;
    held.z = next;
    if (first) {
      // Another model: the vector must change together with its decoder.
      held.past = [];
      setSteps(0);
      show(next);
    } else if (!held.frame) {
      held.frame = requestAnimationFrame(() => {
        held.frame = 0;
        show(held.z);
      });
    }
  }, []);

  const remember = useCallback((key = "") => {
    const held = own.current;
    const now = performance.now();
    const same = key !== "" && key === held.key && now - held.time < SAME_GESTURE_MS;
    held.key = key;
    held.time = now;
    if (same || !held.z) return;
    held.past.push(held.z);
    if (held.past.length > MOST_STEPS) held.past.shift();
    setSteps(held.past.length);
  }, []);

  const undo = useCallback(() => {
    const before = own.current.past.pop();
    own.current.key = "";
    setSteps(own.current.past.length);
    if (before) set(before);
    return before !== undefined;
  }, []);

  const latest = useCallback(() => own.current.z, []);
  return useMemo(() => ({ z, latest, set, remember, undo, canUndo: steps > 0 }), [z, steps]);
}

/**
 * Returns a copy of a vector with one value changed.
 * @param {Float32Array} z
 * @param {number} index
 * @param {number} value
 */
export function withValue(z, index, value) {
  const copy = Float32Array.from(z);
  copy[index] = Number(value.toFixed(3));
  return copy;
}
