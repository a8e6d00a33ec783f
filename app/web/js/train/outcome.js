// What a job's state means for the visitor: its place in the queue, why it failed, or where its model is.

import { getJson } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { whileVisible } from "../jobs/polling.js";
import { numberText } from "../charts/scale.js";
import { linkTo } from "../router.js";
import { nextStepAfter, sentenceOfError } from "./failures.js";
import { TrainLonger } from "./longer.js";
import { useWorkers } from "./workers.js";

/** @param {{job: any, feed: import("../jobs/feed.js").Feed}} props */
export function Outcome({ job, feed }) {
  if (job.status === "queued") return html`<${Queued} job=${job} />`;
  if (job.status === "failed") return html`<${Failed} job=${job} feed=${feed} />`;
  if (job.status === "succeeded") return html`<${Done} job=${job} />`;
  return null;
}

/** @param {{job: any}} props */
function Queued({ job }) {
  const [before, setBefore] = useState(/** @type {any[] | null} */ (null));
  const workers = useWorkers();
  useEffect(
    () =>
      whileVisible(async () => {
        const [queued, running] = await Promise.all([
          getJson("train-jobs?status=queued&limit=200"),
          getJson("train-jobs?status=running&limit=20"),
        ]);
        setBefore([
          ...running.jobs,
          ...queued.jobs
            .reverse()
            .filter((/** @type {any} */ other) => other.id !== job.id && other.created_at < job.created_at),
        ]);
      }, 5),
    [job.id],
  );
  return html`
    <section class="card queue" role="status">
      <h2>In the queue</h2>
      ${
        workers === false
          ? html`<p class="warn-text">No worker is there that could train. The training is kept, and starts when a worker comes: <code>betavae serve</code> brings one, or look at the worker's log.</p>`
          : before === null
            ? html`<p class="muted">Looking at what runs before…</p>`
            : before.length === 0
              ? html`<p>Nothing is before it; a worker takes it in a moment.</p>`
              : html`<p>${before.length === 1 ? "One training is" : `${before.length} trainings are`} before it:</p>
              <ul>${before.map((other) => html`<li><a href=${linkTo("train", { job: other.id })}>${other.name}</a> <span class="muted">${other.status}</span></li>`)}</ul>`
      }
    </section>
  `;
}

/** @param {{job: any, feed: import("../jobs/feed.js").Feed}} props */
function Failed({ job, feed }) {
  const saved = Math.max(-1, ...feed.history.checkpoints.keys());
  return html`
    <section class="banner bad failed" role="alert">
      <div>
        <p><strong>The training failed${job.progress.step ? ` at step ${numberText(job.progress.step)}` : ""}.</strong> ${sentenceOfError(job.error)}</p>
        <p>${nextStepAfter(job.error)} ${
          saved > 0
            ? `Its last checkpoint is of step ${numberText(saved)}: “Try again” goes on from there, “Finish now and keep” makes a model of it.`
            : "“Try again” goes on from its last checkpoint, or from the beginning if there is none."
        }</p>
        <p><a class="button" href=${linkTo("train", { like: job.id })}>A new one like it</a></p>
        <details><summary>Details</summary><pre tabindex="0" aria-label="Details of the failure">${JSON.stringify(job.error, null, 2)}</pre></details>
      </div>
    </section>
  `;
}

/** @param {{job: any}} props */
function Done({ job }) {
  const active = job.result?.active_dimensions?.length;
  return html`
    <section class="card done" role="status">
      <div>
        <h2>Your model is ready</h2>
        <p class="muted">${active ?? "Some"} of its ${job.result?.kl_per_dimension?.length ?? job.config.latent_dim} latents carry information.</p>
      </div>
      <a class="button primary" href=${linkTo("explore", { model: job.model })}>Explore it</a>
      <a class="button" href="train-jobs/${job.id}/training.gif" download="${job.name}.gif">Animation of the training</a>
      <${TrainLonger} job=${job} />
    </section>
  `;
}
