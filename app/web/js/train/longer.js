// A finished training that goes on: a job of its own, which begins with the weights and the optimizer of the model.

import { Problem, sendJson } from "../api.js";
import { html, useRef, useState } from "../html.js";
import { announceJobs } from "../jobs/polling.js";
import { ProblemBanner } from "../problems/banner.js";
import { linkTo } from "../router.js";
import { EstimateLine } from "./estimate.js";

/** @param {{job: any}} props A job that has succeeded. */
export function TrainLonger({ job }) {
  const [steps, setSteps] = useState(Number(job.progress.step) || 1000);
  const [isOpen, setOpen] = useState(false);
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const busy = useRef(false);
  const body = { from: job.model, more_steps: steps };
  const start = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy.current) return;
    busy.current = true;
    setProblem(null);
    try {
      const longer = await sendJson("POST", "train-jobs", body);
      announceJobs();
      location.hash = linkTo("train", { job: longer.id });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
    } finally {
      busy.current = false;
    }
  };
  if (!isOpen) return html`<button type="button" onClick=${() => setOpen(true)}>Train longer…</button>`;
  return html`
    <form class="longer" onSubmit=${start}>
      <label>Further steps <input type="number" name="more_steps" min="1" step="1" required value=${steps}
        onInput=${(/** @type {any} */ event) => setSteps(Number(event.target.value))} /></label>
      <button type="submit" class="primary">Go on</button>
      <${EstimateLine} body=${steps >= 1 ? body : null} />
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
    </form>
  `;
}
