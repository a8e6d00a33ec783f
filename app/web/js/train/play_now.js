// "Play with it now": sliders on the newest decoder of a job that is still training.

import { html } from "../html.js";

/** @param {{job: any, newestPreview: number | null}} props */
export function PlayNow({ job, newestPreview }) {
  return null;
}
