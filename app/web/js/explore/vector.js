// The latent vector that is shown: set at most once a frame, with undo.

import { useCallback, useEffect, useMemo, useRef, useState } from "../html.js";
import { rounded } from "./latents.js";

const MOST_STEPS = 200;
const SAME_GESTURE_MS = 800;
const SETTLED_MS = 150;

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
  const own = useRef({
    z: /** @type {Float32Array | null} */ (null),
    frame: 0,
    past: /** @type {Float32Array[]} */ ([]),
    key: "",
    time: 0,
  });
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
 * Returns a value once it has not changed for a moment; the first one at once.
 * @template T
 * @param {T} value
 * @returns {T}
 */
export function useSettled(value) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled ?? value;
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

/**
 * Returns a vector between two, as the service computes it; the ends are exact.
 * @param {Float32Array} first
 * @param {Float32Array} last
 * @param {number} t In [0, 1].
 * @param {"slerp" | "linear"} path slerp is linear where the arc is not defined.
 * @returns {Float32Array}
 */
export function between(first, last, t, path) {
  if (t <= 0) return first;
  if (t >= 1) return last;
  const dot = (/** @type {Float32Array} */ a, /** @type {Float32Array} */ b) =>
    a.reduce((sum, value, index) => sum + value * b[index], 0);
  const lengths = Math.sqrt(dot(first, first) * dot(last, last));
  let weights = [1 - t, t];
  if (path === "slerp" && lengths > 0) {
    const angle = Math.acos(Math.max(-1, Math.min(1, dot(first, last) / lengths)));
    if (Math.sin(angle) > 1e-4)
      weights = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map((weight) => weight / Math.sin(angle));
  }
  return rounded(first.map((value, index) => weights[0] * value + weights[1] * last[index]));
}
