// All trainings, newest first: jobs, and sweeps in the place of their members.

import { getJson } from "../api.js";
import { FINISHED } from "../jobs/feed.js";
import { html, useEffect, useState } from "../html.js";
import { whileVisible } from "../jobs/polling.js";
import { isSettled, sweepSentence } from "../jobs/sweeps.js";
import { percentText } from "../jobs/amounts.js";
import { jobSentence } from "../jobs/words.js";
import { ProblemBanner } from "../problems/banner.js";
import { linkTo } from "../router.js";
import { sentenceOfError } from "./failures.js";
import { deleteLater, UndoNote } from "../undo.js";

const PAGE = "limit=20";
const FEWEST_ROWS = 8;

/** @typedef {{rows: any[], next: {jobs: string | null, sweeps: string | null}}} Entries Jobs and sweeps, and where they go on. */

/**
 * Reads a page of jobs and one of sweeps.
 * @param {Entries["next"]} [after] What is null here has no further page.
 * @returns {Promise<Entries>}
 */
async function read(after) {
  const none = { jobs: [], sweeps: [], next: null };
  /** @param {"jobs" | "sweeps"} kind @param {string} path */
  const page = (kind, path) =>
    after && after[kind] === null ? none : getJson(`${path}?${PAGE}${after ? `&after=${after[kind]}` : ""}`);
  const [{ jobs, next }, { sweeps, next: nextSweep }] = await Promise.all([
    page("jobs", "train-jobs"),
    page("sweeps", "sweeps"),
  ]);
  // The members of a sweep stand on its own page.
  const rows = [...jobs.filter((/** @type {any} */ job) => !job.sweep), ...sweeps];
  return { rows, next: { jobs: next, sweeps: nextSweep } };
}

export function JobList() {
  const [newest, setNewest] = useState(/** @type {Entries | null} */ (null));
  const [older, setOlder] = useState(/** @type {Entries | null} */ (null));
  const [hidden, setHidden] = useState(/** @type {string[]} */ ([]));
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  useEffect(() => whileVisible(async () => setNewest(await read()), 5), []);
  const { next } = older ?? newest ?? {};
  const hasMore = Boolean(next?.jobs || next?.sweeps);
  const more = async () => {
    const page = await read(next);
    setOlder((before) => ({ rows: [...(before?.rows ?? []), ...page.rows], next: page.next }));
  };
  const all = new Map([...(older?.rows ?? []), ...(newest?.rows ?? [])].map((row) => [row.id, row]));
  const rows = [...all.values()]
    .filter((row) => !hidden.includes(row.id))
    .sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  // A page of jobs may be that of one sweep's members.
  const isShort = newest !== null && hasMore && rows.length < FEWEST_ROWS;
  useEffect(() => void (isShort && more().catch(() => undefined)), [isShort, next?.jobs, next?.sweeps]);
  const remove = (/** @type {any} */ row) => {
    const { id, name } = row;
    const show = () => setHidden((before) => before.filter((one) => one !== id));
    setHidden((before) => [...before, id]);
    // A deleted job stays hidden, since a list that is on its way may still have it.
    deleteLater({
      path: `${isSweep(row) ? "sweeps" : "train-jobs"}/${id}`,
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
      ${newest !== null && rows.length === 0 && !hasMore && html`<${Empty} />`}
      <ul>${rows.map((row) => html`<${isSweep(row) ? SweepRow : JobRow} key=${row.id} row=${row} onDelete=${() => remove(row)} />`)}</ul>
      ${hasMore && html`<button class="quiet" onClick=${more}>Older trainings</button>`}
      <${UndoNote} />
    </section>
  `;
}

/** @param {any} row */
const isSweep = (row) => "num_members" in row;

function Empty() {
  return html`<p class="muted">
    There is none yet. A training shows its reconstructions, its losses and its latents while it runs, and you can move
    its latents before it ends.
  </p>`;
}

/** @param {{row: any, onDelete: () => void}} props */
function JobRow({ row: job, onDelete }) {
  const isRunning = ["running", "pausing", "cancelling"].includes(job.status);
  return html`
    <li>
      <a href=${linkTo("train", { job: job.id })}>${job.name}</a>
      <span class="status ${job.status}">${job.status}</span>
      <span class="muted">${job.status === "failed" ? sentenceOfError(job.error) : jobSentence(job)}</span>
      ${FINISHED.includes(job.status) && html`<${Delete} name=${job.name} title="Removes the record and the checkpoints; its model stays." onDelete=${onDelete} />`}
      ${isRunning && html`<progress max="1" value=${job.progress.fraction ?? 0} aria-label="Progress of ${job.name}">${percentText(job.progress.fraction)}</progress>`}
    </li>
  `;
}

/** @param {{row: any, onDelete: () => void}} props */
function SweepRow({ row: sweep, onDelete }) {
  const { id, name, status, progress } = sweep;
  return html`
    <li data-sweep=${id}>
      <a href=${linkTo("train", { sweep: id })}>${name}</a>
      <span class="status ${status}">${status}</span>
      <span class="muted">${sweepSentence(sweep)}</span>
      ${isSettled(sweep) && html`<${Delete} name=${name} title="Removes the records of its trainings; their models stay." onDelete=${onDelete} />`}
      ${progress.phase && html`<progress max="1" value=${progress.fraction} aria-label="Progress of ${name}">${percentText(progress.fraction)}</progress>`}
    </li>
  `;
}

/** @param {{name: string, title: string, onDelete: () => void}} props */
function Delete({ name, title, onDelete }) {
  return html`<button class="quiet" title=${title} aria-label="Delete ${name}" onClick=${onDelete}>Delete</button>`;
}
