// Motion without a hand: one latent goes through its range and comes back to where it was, then the next one.

import { useCallback, useEffect, useRef, useState } from "../html.js";
import { withValue } from "./vector.js";

const SWEEP_MS = 3600;

/**
 * Returns the value of a latent during its sweep, a sine that begins and ends at the value it had.
 * @param {number} from Value before the sweep.
 * @param {number} share Share of the sweep that is over, in [0, 1].
 * @param {number} range Largest value.
 */
export function sweepValue(from, share, range) {
  const start = Math.asin(Math.max(-1, Math.min(1, from / range)));
  return share >= 1 ? from : range * Math.sin(start + 2 * Math.PI * share);
}

/**
 * Moves latents by themselves.
 * @param {{latest: () => Float32Array | null, set: (z: Float32Array) => void}} vector
 * @param {import("./latents.js").Latent[]} latents The latents in the order in which they are swept.
 * @returns {{playing: number | null, play: (options?: {once?: boolean, first?: number}) => void, stop: () => void}}
 *   `playing` is the latent that moves. `stop` leaves the picture as it is.
 */
export function useMotion(vector, latents) {
  const order = latents.map((latent) => latent.index);
  const [playing, setPlaying] = useState(/** @type {number | null} */ (null));
  const frame = useRef(0);
  const stop = useCallback(() => {
    if (!frame.current) return;
    cancelAnimationFrame(frame.current);
    frame.current = 0;
    setPlaying(null);
  }, []);
  useEffect(() => stop, []);

  /** @param {{once?: boolean, first?: number}} [options] */
  const play = ({ once = false, first } = {}) => {
    stop();
    const z = vector.latest();
    if (!z || order.length === 0) return;
    let turn = Math.max(0, order.indexOf(first ?? order[0]));
    let from = z[order[turn]];
    let began = performance.now();
    setPlaying(order[turn]);
    /** @param {number} now */
    const step = (now) => {
      const present = vector.latest();
      if (!present) return stop();
      const share = Math.max(0, (now - began) / SWEEP_MS);
      vector.set(withValue(present, order[turn], sweepValue(from, share, latents[turn].range)));
      if (share >= 1) {
        if (once) return stop();
        turn = (turn + 1) % order.length;
        from = present[order[turn]];
        began = now;
        setPlaying(order[turn]);
      }
      frame.current = requestAnimationFrame(step);
    };
    frame.current = requestAnimationFrame(step);
  };
  return { playing, play, stop };
}

/** Returns whether the visitor asked for less motion. */
export function wantsStillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
