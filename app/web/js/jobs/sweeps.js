// Sweeps: their state in a sentence, and a hook that follows one. A sweep is read whole every few seconds, since one
// answer has all of it, and its members' streams would need more connections than a browser gives.

import { Problem, getJson, sendJson } from "../api.js";
import { useEffect, useRef, useState } from "../html.js";
import { inOrder } from "../newest.js";
import { announceJobs, whileVisible } from "./polling.js";
import { percentText } from "./amounts.js";

/** @typedef {any} Sweep The sweep as the API shows it. */

const SECONDS = 3;

/** @param {Sweep} sweep @returns {boolean} Whether nothing more happens to it by itself. */
export function isSettled({ status, progress }) {
  return ["succeeded", "failed", "cancelled"].includes(status) && !progress.phase;
}

/**
 * Follows a sweep while the view is shown.
 * @param {string} id
 * @returns {{sweep: Sweep | null, problem: Problem | null, act: (action: string) => Promise<void>}} `problem` is why the
 *   newest state is not known. `act` sends one of the sweep's actions, and throws the problem of a refusal.
 */
export function useSweep(id) {
  const [sweep, setSweep] = useState(/** @type {Sweep | null} */ (null));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const ask = useRef(inOrder());
  const latest = useRef(/** @type {Sweep | null} */ (null));
  const take = async (/** @type {Promise<Sweep>} */ answer) => {
    const isNewest = ask.current();
    const found = await answer;
    if (!isNewest()) return;
    latest.current = found;
    setSweep(found);
    setProblem(null);
  };
  useEffect(() => {
    latest.current = null;
    return whileVisible(async () => {
      if (latest.current && isSettled(latest.current)) return;
      try {
        await take(getJson(`sweeps/${id}`));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        setProblem(error);
      }
    }, SECONDS);
  }, [id]);
  const act = async (/** @type {string} */ action) => {
    try {
      await take(sendJson("POST", `sweeps/${id}/${action}`));
      announceJobs();
    } catch (error) {
      await take(getJson(`sweeps/${id}`)).catch(() => undefined);
      throw error;
    }
  };
  return { sweep, problem, act };
}

/**
 * Says in a sentence what a sweep is doing.
 * @param {Sweep} sweep
 * @returns {string}
 */
export function sweepSentence({ status, progress, num_members: all }) {
  const { succeeded = 0, failed = 0 } = progress.members;
  const made = `${succeeded} of ${all} trainings ${succeeded === 1 ? "has" : "have"} made a model`;
  const lost = failed ? `, ${failed} failed` : "";
  if (progress.phase === "comparing") return "The trainings have ended. Comparing their models.";
  if (status === "queued") return `Waiting for a worker: ${all} trainings.`;
  if (status === "running") return `Training, ${percentText(progress.fraction)}: ${made}${lost}.`;
  if (status === "pausing") return "Saving checkpoints before the pause.";
  if (status === "paused") return `Paused: ${made}${lost}.`;
  if (status === "cancelling") return "Stopping.";
  if (status === "cancelled") return `Cancelled: ${made}${lost}.`;
  if (status === "failed") return "Failed: no training has made a model.";
  return `Done: ${made}${lost}.`;
}
