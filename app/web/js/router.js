// The view and its state live in the fragment: #/explore?model=chairs&z=0,1,…

const REPLACEMENTS_PER_SECOND = 3; // Safari throws after 100 in 10 s.

/** @typedef {{view: string, params: URLSearchParams}} Route */

/**
 * Reads the address of the page.
 * @returns {Route} The view, which is "explore" where none is named.
 */
export function currentRoute() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: path.split("/")[0] || "explore", params: new URLSearchParams(query ?? "") };
}

/**
 * Returns the fragment of a view.
 * @param {string} view Name of the view.
 * @param {Record<string, string> | URLSearchParams} [params] State of the view.
 * @returns {string}
 */
export function linkTo(view, params = {}) {
  const query = new URLSearchParams(params).toString().replaceAll("%2C", ","); // Vectors stay readable.
  return `#/${view}${query ? `?${query}` : ""}`;
}

/**
 * Calls a function whenever the address names another view or state.
 * @param {(route: Route) => void} listener
 * @returns {() => void} Stops the calls.
 */
export function onRoute(listener) {
  const call = () => listener(currentRoute());
  window.addEventListener("hashchange", call);
  return () => window.removeEventListener("hashchange", call);
}

/** @type {string | null} */
let waiting = null;
let timer = 0;
let last = 0;

/**
 * Replaces the state in the address without a new entry of the history; the newest value wins, at most three a second.
 * @param {string} view Name of the view.
 * @param {Record<string, string> | URLSearchParams} params State of the view.
 */
export function replaceState(view, params) {
  waiting = linkTo(view, params);
  if (timer) return;
  const wait = Math.max(0, last + 1000 / REPLACEMENTS_PER_SECOND - performance.now());
  timer = window.setTimeout(() => {
    timer = 0;
    last = performance.now();
    // A view that was left in the meantime does not change the address of the next one.
    if (waiting !== null && currentRoute().view === view) history.replaceState(null, "", waiting);
    waiting = null;
  }, wait);
}
