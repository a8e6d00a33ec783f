// All training jobs, newest first.

import { getJson } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { jobSentence, percentText } from "../jobs/words.js";
import { linkTo } from "../router.js";
import { whileVisible } from "../jobs/polling.js";

export function JobList() {
  const [jobs, setJobs] = useState(/** @type {any[] | null} */ (null));
  const [next, setNext] = useState(/** @type {string | null} */ (null));
  useEffect(() => whileVisible(async () => {
    const page = await getJson("train-jobs?limit=20");
    setJobs((before) => [...page.jobs, ...(before ?? []).filter((old) => !page.jobs.some((/** @type {any} */ job) => job.id === old.id)).slice(0, before && before.length > 20 ? undefined : 0)]);
    setNext((before) => before ?? page.next);
  }, 5), []);
  const more = async () => {
    const page = await getJson(`train-jobs?limit=20&after=${next}`);
    setJobs((before) => [...(before ?? []), ...page.jobs]);
    setNext(page.next);
  };
  return html`
    <section class="card job-list" aria-labelledby="jobs-title">
      <h2 id="jobs-title">Trainings</h2>
      ${jobs === null && html`<p class="muted">Loading…</p>`}
      ${jobs?.length === 0 && html`
        <p class="muted">There is none yet. A training shows its reconstructions, its losses and its latents while it runs, and you can move its latents before it ends.</p>`}
      <ul>${jobs?.map((job) => html`<${JobRow} key=${job.id} job=${job} />`)}</ul>
      ${next && html`<button class="quiet" onClick=${more}>Older trainings</button>`}
    </section>
  `;
}

/** @param {{job: any}} props */
function JobRow({ job }) {
  const isRunning = ["running", "pausing", "cancelling"].includes(job.status);
  return html`
    <li>
      <a href=${linkTo("train", { job: job.id })}>${job.name}</a>
      <span class="status ${job.status}">${job.status}</span>
      <span class="muted">${job.status === "failed" ? job.error?.message : jobSentence(job)}</span>
      ${isRunning && html`<progress max="1" value=${job.progress.fraction ?? 0} aria-label="Progress of ${job.name}">${percentText(job.progress.fraction)}</progress>`}
    </li>
  `;
}
