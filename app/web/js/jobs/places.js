// The browser's few places for streams: browsers allow six connections to a service, and other requests need some.

const PLACES = 3;
const WAIT_SECONDS = 3;

/**
 * Calls a function while holding one of the places.
 * @param {AbortSignal} signal Ends the waiting.
 * @param {() => Promise<void>} call
 * @param {() => Promise<void>} meanwhile Called again and again while all places are taken.
 */
export async function withPlace(signal, call, meanwhile) {
  while (!signal.aborted) {
    for (let place = 0; place < PLACES; place += 1) {
      const took = await navigator.locks.request(`betavae-stream-${place}`, { ifAvailable: true }, async (lock) => {
        if (lock) await call();
        return lock !== null;
      });
      if (took) return;
    }
    await pause(WAIT_SECONDS, signal);
    await meanwhile();
  }
}

/**
 * Waits.
 * @param {number} seconds
 * @param {AbortSignal} signal Ends the waiting early.
 * @returns {Promise<void>}
 */
export function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
