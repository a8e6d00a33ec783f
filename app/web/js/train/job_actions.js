// The buttons of a job. Which ones there are follows from its state alone, so that a reload loses none.

import { Problem, sendJson } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { announceJobs } from "../jobs/polling.js";
import { ProblemBanner } from "../problems/banner.js";

/** @type {Record<string, [string, string, string]>} */
const TEXTS = {
  pause: ["Pause", "Pausing…", "Stops after a checkpoint, until you resume."],
  resume: ["Resume", "Resuming…", "Goes on from its checkpoint."],
  finish: [
    "Finish now and keep",
    "Finishing…",
    "Cools down over a quarter of the steps that are done, and makes the model.",
  ],
  retry: ["Try again", "Returning it to the queue…", "Goes on from its last checkpoint, if it has one."],
  cancel: ["Cancel", "Cancelling…", "Stops. You can go on later from its last checkpoint."],
};

/** @typedef {string} Action A key of TEXTS. */

/**
 * Returns what may be done to a job.
 * @param {any} job
 * @returns {Action[]}
 */
export function actionsOf(job) {
  const finish = /** @type {Action[]} */ (job.started_at && job.progress.step ? ["finish"] : []);
  if (job.status === "queued") return [...finish, "cancel"];
  if (job.status === "running") return ["pause", ...finish, "cancel"];
  if (job.status === "paused") return ["resume", ...finish, "cancel"];
  if (job.status === "failed" || job.status === "cancelled") return ["retry", ...finish];
  return [];
}

/** @param {{job: any, feed: import("../jobs/feed.js").Feed}} props */
export function JobActions({ job, feed }) {
  const finishing = feed.history.isFinishing;
  const act = async (/** @type {Action} */ action) => {
    try {
      await sendJson("POST", `${feed.path}/${action}`);
    } catch (error) {
      feed.refresh();
      throw error;
    }
    await feed.again();
    announceJobs();
  };
  const actions = actionsOf(job).filter((action) => action !== "finish" || !finishing);
  return html`<${ActionButtons} actions=${actions} texts=${TEXTS} state=${`${job.status} ${finishing}`} act=${act} />`;
}

/**
 * @param {{actions: Action[], texts: Record<string, [string, string, string]>, state: string, act: (action: Action) => Promise<void>}} props
 *   `texts` has of each action its name, what is said while it is under way, and a hint. It is under way until `state` changes.
 */
export function ActionButtons({ actions, texts, state, act }) {
  const [pending, setPending] = useState(/** @type {Action | null} */ (null));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  useEffect(() => setPending(null), [state]);
  const send = async (/** @type {Action} */ action) => {
    setPending(action);
    setProblem(null);
    try {
      await act(action);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      setPending(null);
    }
  };
  return html`
    <div class="job-actions">
      ${actions.map((action) => {
        const [text, busy, hint] = texts[action];
        return html`
          <button key=${action} class=${action === "cancel" ? "danger" : ""} title=${hint} disabled=${pending !== null} onClick=${() => send(action)}>
            ${pending === action ? busy : text}
          </button>`;
      })}
    </div>
    ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
  `;
}
