// The view "Train": a form and the jobs, or one job, or one sweep.

import { html } from "../html.js";
import { JobList } from "./job_list.js";
import { JobPage } from "./job_page.js";
import { SweepPage } from "./sweep_page.js";
import { TrainForm } from "./form.js";

/** @param {{params: URLSearchParams}} props */
export function TrainView({ params }) {
  const job = params.get("job");
  const sweep = params.get("sweep");
  if (sweep) return html`<${SweepPage} key=${sweep} id=${sweep} />`;
  if (job) return html`<${JobPage} key=${job} jobId=${job} params=${params} />`;
  return html`
    <div class="train-start">
      <${TrainForm} key=${params.get("like")} params=${params} />
      <${JobList} />
    </div>
  `;
}
