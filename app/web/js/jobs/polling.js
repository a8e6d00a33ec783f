// Repeated requests: the next one is sent only after the last has settled, and a hidden tab asks seldom.

const HIDDEN_SECONDS = 60;

/**
 * Calls a function at once, when the tab becomes visible, and again and again.
 * @param {() => Promise<void>} call Its failures are left to the next call.
 * @param {number} seconds Time between two calls in a visible tab.
 * @returns {() => void} Ends the calls.
 */
export function whileVisible(call, seconds) {
  let timer = 0;
  let ended = false;
  let calling = false;
  const again = async () => {
    clearTimeout(timer);
    if (ended || calling) return;
    calling = true;
    await call().catch(() => undefined);
    calling = false;
    if (!ended) timer = window.setTimeout(again, 1000 * (document.hidden ? HIDDEN_SECONDS : seconds));
  };
  const onVisible = () => !document.hidden && again();
  document.addEventListener("visibilitychange", onVisible);
  window.addEventListener("betavae:jobs", again);
  again();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisible);
    window.removeEventListener("betavae:jobs", again);
  };
}

/** Says that a job was made or steered in this tab, so that what polls asks anew. */
export function announceJobs() {
  window.dispatchEvent(new Event("betavae:jobs"));
}
