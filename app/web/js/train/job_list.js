// All training jobs, newest first.

import { getJson } from "../api.js";
import { FINISHED } from "../jobs/feed.js";
import { html, useEffect, useState } from "../html.js";
import { whileVisible } from "../jobs/polling.js";
import { jobSentence, percentText } from "../jobs/words.js";
import { ProblemBanner } from "../problems/banner.js";
import { linkTo } from "../router.js";
import { sentenceOfError } from "./failures.js";
import { deleteLater, UndoNote } from "../undo.js";

const PAGE = "train-jobs?limit=20";

/** @typedef {{jobs: any[], next: string | null}} JobPage */

export function JobList() {
  const [newest, setNewest] = useState(/** @type {JobPage | null} */ (null));
  const [older, setOlder] = useState(/** @type {JobPage | null} */ (null));
  const [hidden, setHidden] = useState(/** @type {string[]} */ ([]));
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  useEffect(() => whileVisible(async () => setNewest(await getJson(PAGE)), 5), []);
  const next = (older ?? newest)?.next;
  const more = async () => {
    const page = await getJson(`${PAGE}&after=${next}`);
    setOlder((before) => ({ jobs: [...(before?.jobs ?? []), ...page.jobs], next: page.next }));
  };
  const all = new Map([...(older?.jobs ?? []), ...(newest?.jobs ?? [])].map((job) => [job.id, job]));
  const jobs = [...all.values()]
    .filter((job) => !hidden.includes(job.id))
    .sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  const remove = (/** @type {any} */ { id, name }) => {
    const show = () => setHidden((before) => before.filter((one) => one !== id));
    setHidden((before) => [...before, id]);
    // A deleted job stays hidden, since a list that is on its way may still have it.
    deleteLater({
      path: `train-jobs/${id}`,
      name,
      onUndone: show,
      onRefused: (refusal) => (show(), setProblem(refusal)),
    });
  };
  return html`
    <section class="card job-list" aria-labelledby="jobs-title">
      <h2 id="jobs-title">Trainings</h2>
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
      ${newest === null && html`<p class="muted">Loading…</p>`}
      ${newest !== null && jobs.length === 0 && html`<${Empty} />`}
      <ul>${jobs.map((job) => html`<${JobRow} key=${job.id} job=${job} onDelete=${() => remove(job)} />`)}</ul>
      ${next && html`<button class="quiet" onClick=${more}>Older trainings</button>`}
      <${UndoNote} />
    </section>
  `;
}

function Empty() {
  return html`<p class="muted">
    There is none yet. A training shows its reconstructions, its losses and its latents while it runs, and you can move
    its latents before it ends.
  </p>`;
}

/** @param {{job: any, onDelete: () => void}} props */
function JobRow({ job, onDelete }) {
  const isRunning = ["running", "pausing", "cancelling"].includes(job.status);
  const isFinished = FINISHED.includes(job.status);
  return html`
    <li>
      <a href=${linkTo("train", { job: job.id })}>${job.name}</a>
      <span class="status ${job.status}">${job.status}</span>
      <span class="muted">${job.status === "failed" ? sentenceOfError(job.error) : jobSentence(job)}</span>
      ${isFinished && html`<button class="quiet" title="Removes the record and the checkpoints; its model stays." aria-label="Delete ${job.name}" onClick=${onDelete}>Delete</button>`}
      ${isRunning && html`<progress max="1" value=${job.progress.fraction ?? 0} aria-label="Progress of ${job.name}">${percentText(job.progress.fraction)}</progress>`}
    </li>
  `;
}
