// One training job: what it does, its linked panes, and its story.

import { numberText } from "../charts/scale.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useFeed } from "../jobs/use_feed.js";
import { durationText, percentText } from "../jobs/amounts.js";
import { jobSentence } from "../jobs/words.js";
import { currentRoute, linkTo, replaceState } from "../router.js";
import { JobActions } from "./job_actions.js";
import { Outcome } from "./outcome.js";
import { Panes } from "./panes.js";
import { Story } from "./story.js";

/** @param {{jobId: string, params: URLSearchParams}} props */
export function JobPage({ jobId, params }) {
  const feed = useFeed(jobId);
  const asked = params.get("step");
  const [step, setStep] = useState(/** @type {number | null} */ (asked === null ? null : Number(asked)));
  const z = useRef(params.get("z"));
  const write = () => {
    if (currentRoute().params.get("job") !== jobId) return;
    replaceState("train", {
      job: jobId,
      ...(step === null ? {} : { step: String(step) }),
      ...(z.current ? { z: z.current } : {}),
    });
  };
  useEffect(write, [step]);
  const onVector = (/** @type {string} */ text) => {
    z.current = text;
    write();
  };
  if (feed?.problem) return html`<${Missing} problem=${feed.problem} />`;
  if (!feed?.job) return html`<p class="boot" role="status">Loading the training…</p>`;
  const { job } = feed;
  return html`
    <article class="job">
      <p class="back">${job.sweep ? html`<a href=${linkTo("train", { sweep: job.sweep.id })}>← Its sweep</a>` : html`<a href=${linkTo("train")}>← All trainings</a>`}</p>
      <header class="card job-head">
        <div class="job-title">
          <h1>${job.name}</h1>
          <span class="status ${job.status}">${job.status}</span>
        </div>
        <p class="sentence" role="status">${jobSentence(job)}</p>
        <${Bar} job=${job} />
        <${Estimate} job=${job} />
        <${JobActions} job=${job} feed=${feed} />
        <${Connection} feed=${feed} />
      </header>
      <${Outcome} job=${job} feed=${feed} />
      <${Panes} feed=${feed} step=${step} onStep=${setStep} zText=${z.current} onVector=${onVector} />
      <${Story} feed=${feed} />
    </article>
  `;
}

/** @param {{job: any}} props */
function Bar({ job: { progress, status } }) {
  if (["queued", "failed", "cancelled"].includes(status) && !progress.step) return null;
  const packs = progress.phase === "packing";
  const fraction = packs ? progress.phase_fraction : progress.fraction;
  const { step, num_steps: numSteps, images_per_second: speed } = progress;
  return html`
    <div class="job-bar">
      <progress max="1" value=${fraction ?? 0} aria-label=${packs ? "Pictures read" : "Progress of the training"}></progress>
      <span class="number muted">
        ${[
          percentText(fraction),
          !packs && numSteps ? `step ${numberText(step)} of ${numberText(numSteps)}` : "",
          status === "running" && speed ? `${Math.round(speed)} images/s` : "",
        ]
          .filter(Boolean)
          .join(" · ")}
      </span>
    </div>
  `;
}

/** @param {{job: any}} props What the service expects before the first step. */
function Estimate({ job: { estimate, progress, status } }) {
  if (!estimate || progress.step || !["queued", "running"].includes(status)) return null;
  const parts = [
    estimate.seconds ? `about ${durationText(estimate.seconds)} once it runs` : "",
    estimate.num_steps ? `${numberText(estimate.num_steps)} steps` : "",
    estimate.passes ? `each picture is used ${numberText(estimate.passes)} times` : "",
  ].filter(Boolean);
  return parts.length ? html`<p class="muted estimate">Expected: ${parts.join(", ")}.</p>` : null;
}

/** @param {{feed: import("../jobs/feed.js").Feed}} props */
function Connection({ feed }) {
  const [, tick] = useState(0);
  const isAway = feed.connection === "reconnecting";
  useEffect(() => {
    if (!isAway) return undefined;
    const timer = setInterval(() => tick((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, [isAway]);
  if (!isAway) return null;
  const seconds = Math.round((Date.now() - feed.lastNews) / 1000);
  return html`<p class="banner warn" role="status">Last news ${seconds} s ago; the page reconnects by itself. A training goes on without it.</p>`;
}

/** @param {{problem: import("../api.js").Problem}} props */
function Missing({ problem }) {
  return html`
    <div class="card missing">
      <h1>${problem.code === "unknown_job" ? "This training is not here" : "The training cannot be shown"}</h1>
      <p>${problem.message}</p>
      <p><a class="button" href=${linkTo("train")}>All trainings</a></p>
    </div>
  `;
}
