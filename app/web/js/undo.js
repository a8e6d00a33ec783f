// Deletions that can be undone: what is deleted disappears at once, and the service hears of it some seconds later.

import { address, request } from "./api.js";
import { html, useEffect, useState } from "./html.js";

const SECONDS = 10;

/**
 * @typedef {object} Deletion
 * @property {string} path Path of the service that is deleted.
 * @property {string} name What the visitor calls it.
 * @property {() => void} onUndone Called when it stays after all.
 * @property {(problem: import("./api.js").Problem) => void} onRefused Called when the service does not delete it.
 * @property {() => void} [onDone] Called when it is deleted.
 */

/** @type {Deletion | null} */
let waiting = null;
let timer = 0;
/** @type {Set<() => void>} */
const listeners = new Set();

/**
 * Deletes something unless it is undone in time; a deletion that waits already is carried out.
 * @param {Deletion} deletion
 */
export function deleteLater(deletion) {
  carryOut();
  waiting = deletion;
  restartTimer();
  tell();
}

/** Keeps what waits to be deleted. */
export function undo() {
  const kept = waiting;
  waiting = null;
  stopTimer();
  tell();
  kept?.onUndone();
}

/** Deletes what waits, now. */
async function carryOut() {
  const deletion = waiting;
  waiting = null;
  stopTimer();
  tell();
  if (!deletion) return;
  try {
    await request("DELETE", deletion.path);
    deletion.onDone?.();
  } catch (problem) {
    deletion.onUndone();
    deletion.onRefused(/** @type {import("./api.js").Problem} */ (problem));
  }
}

function restartTimer() {
  stopTimer();
  if (waiting) timer = window.setTimeout(carryOut, 1000 * SECONDS);
}

function stopTimer() {
  clearTimeout(timer);
}

function tell() {
  for (const listener of listeners) listener();
}

// A page that is closed carries out what waits; such a request outlives the page.
window.addEventListener("pagehide", () => {
  if (waiting) fetch(address(waiting.path), { method: "DELETE", keepalive: true });
  waiting = null;
});

/** The note "Deleted …" with its button. The time stands still while the pointer or the focus is on it. */
export function UndoNote() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return html`
    <div class="undo-note" role="status" data-shown=${waiting ? "true" : null}
      onPointerEnter=${stopTimer} onPointerLeave=${restartTimer} onFocusIn=${stopTimer} onFocusOut=${restartTimer}>
      ${waiting && html`<span>Deleted ${waiting.name}.</span> <button type="button" onClick=${undo}>Undo</button>`}
    </div>
  `;
}
