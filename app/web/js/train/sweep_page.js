// One sweep: what it does, the model that it chooses, its members and cells, and the pictures that compare them.

import { Problem, address, getJson, sendJson } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { sweepSentence, useSweep } from "../jobs/sweeps.js";
import { percentText } from "../jobs/amounts.js";
import { ProblemBanner } from "../problems/banner.js";
import { linkTo } from "../router.js";
import { sentenceOfError } from "./failures.js";
import { ActionButtons } from "./job_actions.js";
import { CellTable, MemberTable } from "./sweep_tables.js";

/** @typedef {import("../jobs/sweeps.js").Sweep} Sweep */

/** @type {Record<string, [string, string, string]>} */
const TEXTS = {
  pause: ["Pause", "Pausing…", "Stops the trainings that run after a checkpoint, and starts no others."],
  resume: ["Resume", "Resuming…", "Its trainings go on from their checkpoints."],
  retry: ["Try again", "Returning to the queue…", "Trains anew what failed or was cancelled, and compares the models."],
  cancel: ["Cancel", "Cancelling…", "Stops all trainings that have not ended. Their models are compared so far."],
};

/**
 * Returns what may be done to a sweep.
 * @param {Sweep} sweep
 * @returns {string[]}
 */
export function actionsOf({ status, progress, error }) {
  const { failed = 0, cancelled = 0 } = progress.members;
  const isHeld = ["paused", "pausing", "cancelling"].includes(status);
  return [
    ...(["queued", "running"].includes(status) && progress.phase === "training" ? ["pause"] : []),
    ...(status === "paused" ? ["resume"] : []),
    ...(!isHeld && (failed || cancelled || error) ? ["retry"] : []),
    ...(status === "paused" || (progress.phase && status !== "cancelling") ? ["cancel"] : []),
  ];
}

/** @param {{id: string}} props */
export function SweepPage({ id }) {
  const { sweep, problem, act } = useSweep(id);
  if (problem && (!sweep || problem.code === "unknown_sweep")) return html`<${Missing} problem=${problem} />`;
  if (!sweep) return html`<p class="boot" role="status">Loading the sweep…</p>`;
  const { status, progress, links } = sweep;
  const state = [status, progress.phase, ...Object.entries(progress.members)].join();
  return html`
    <article class="job sweep">
      <p class="back"><a href=${linkTo("train")}>← All trainings</a></p>
      <header class="card job-head">
        <div class="job-title">
          <h1>${sweep.name}</h1>
          <span class="status ${status}">${status}</span>
        </div>
        <p class="sentence" role="status">${sweepSentence(sweep)}</p>
        <div class="job-bar">
          <progress max="1" value=${progress.fraction} aria-label="Progress of the sweep"></progress>
          <span class="number muted">${percentText(progress.fraction)} · ${countsText(progress.members)}</span>
        </div>
        <${ActionButtons} actions=${actionsOf(sweep)} texts=${TEXTS} state=${state} act=${act} />
        ${problem && html`<p class="banner warn" role="status">${problem.message} The page goes on asking; the trainings go on without it.</p>`}
      </header>
      <${Chosen} key=${sweep.winner?.model} sweep=${sweep} />
      <section class="card" aria-labelledby="members-title">
        <div class="sweep-head"><h2 id="members-title">Trainings</h2><a href=${address(`sweeps/${id}/table.csv`)} download="${sweep.name}.csv">All numbers as CSV</a></div>
        <${MemberTable} sweep=${sweep} />
      </section>
      <section class="card" aria-labelledby="cells-title">
        <h2 id="cells-title">Mean ± deviation over the seeds</h2>
        <${CellTable} sweep=${sweep} />
      </section>
      ${links.figure && html`<${Pictures} sweep=${sweep} />`}
    </article>
  `;
}

/** @param {Record<string, number>} members */
function countsText(members) {
  return Object.entries(members)
    .map(([status, count]) => `${count} ${status}`)
    .join(", ");
}

/** @param {{sweep: Sweep}} props The model that the sweep chooses, and why; or when there will be one. */
function Chosen({ sweep: { winner, error, progress, make_default: isAsked } }) {
  const [model, setModel] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const attempt = (/** @type {Promise<any>} */ answer) =>
    answer.then(setModel, (failure) => {
      if (!(failure instanceof Problem)) throw failure;
      setProblem(failure);
    });
  const read = () => getJson(`models/${winner.model}`);
  const choose = () => attempt(sendJson("PUT", "models/default", { id: winner.model }).then(read));
  useEffect(() => void (winner && attempt(read())), []);
  if (error)
    return html`<section class="banner bad" role="alert"><div><p><strong>The models could not be compared.</strong> ${sentenceOfError(error)}</p></div></section>`;
  if (!winner)
    return progress.phase
      ? html`<section class="card"><p class="muted">When all trainings have ended, their models are compared on the same pictures, and one of them is chosen without labels.${isAsked ? " It becomes the default model." : ""}</p></section>`
      : null;
  return html`
    <section class="card done" role="status">
      <div>
        <h2>The chosen model: ${model?.name ?? winner.model}</h2>
        <p class="muted">${sentenceOfError({ message: winner.reason })}${model?.default ? " It is the default model." : ""}</p>
      </div>
      <a class="button primary" href=${linkTo("explore", { model: winner.model })}>Explore it</a>
      ${model && !model.default && html`<button type="button" onClick=${choose}>Make it the default</button>`}
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
    </section>
  `;
}

/** @param {{sweep: Sweep}} props */
function Pictures({ sweep: { id, name, comparison } }) {
  // A new comparison has other pictures at the same addresses.
  const of = `?of=${comparison.models.length}-${comparison.models[0]}`;
  const [figure, sheet] = ["figure", "sheet"].map((kind) => address(`sweeps/${id}/${kind}.png`) + of);
  return html`
    <section class="card pane" aria-labelledby="figure-title">
      <h2 id="figure-title">Reconstruction against score</h2>
      <div class="scroll" tabindex="0" role="region" aria-label="Figure"><a href=${figure} target="_blank"><img class="sweep-figure" width="1008" height="624" src=${figure}
        alt=${`Reconstruction loss of the ${comparison.models.length} models of ${name} against their score; the numbers are in the table.`} /></a></div>
    </section>
    <section class="card pane" aria-labelledby="sheet-title">
      <h2 id="sheet-title">The same latents, model by model</h2>
      <p class="reading">Each row is the same latent in every model, the chosen one first: latents whose codes of ${comparison.num_images} common pictures correlate most. <a href=${sheet} target="_blank">In full size</a></p>
      <div class="scroll" tabindex="0" role="region" aria-label="Aligned latents"><img class="sweep-sheet" src=${sheet} alt="Traversals of the aligned latents of each model." /></div>
      ${comparison.notes.map((/** @type {string} */ note) => html`<p class="muted">${note}</p>`)}
    </section>
  `;
}

/** @param {{problem: Problem}} props */
function Missing({ problem }) {
  return html`
    <div class="card missing">
      <h1>${problem.code === "unknown_sweep" ? "This sweep is not here" : "The sweep cannot be shown"}</h1>
      <p>${problem.message}</p>
      <p><a class="button" href=${linkTo("train")}>All trainings</a></p>
    </div>
  `;
}
