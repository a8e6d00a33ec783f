// How long a training would take on this machine, said before it is started.

import { Problem, request } from "../api.js";
import { numberText } from "../charts/scale.js";
import { html, useEffect, useState } from "../html.js";
import { durationText } from "../jobs/amounts.js";

const PAUSE_MS = 250; // After the last change, so that typing a number sends one request.

/**
 * The length that a request would get: "About 9 min on this machine: 12 000 steps, 250 passes over the pictures."
 * @param {{body: any}} props Body of a `POST /train-jobs`; null while there is none.
 */
export function EstimateLine({ body }) {
  const [text, setText] = useState("");
  const asked = body && JSON.stringify(body);
  useEffect(() => {
    if (!asked) return setText("");
    const isOver = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const options = { json: JSON.parse(asked), signal: isOver.signal };
        setText(estimateText(await (await request("POST", "train-jobs/estimate", options)).json()));
      } catch (error) {
        if (isOver.signal.aborted) return;
        if (!(error instanceof Problem)) throw error;
        setText(""); // What is wrong is said when the training is started.
      }
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      isOver.abort();
    };
  }, [asked]);
  return html`<p class="hint estimate" role="status">${text}</p>`;
}

/**
 * @param {{num_steps: number | null, seconds: number | null, passes: number | null}} estimate
 * @returns {string}
 */
export function estimateText({ num_steps, seconds, passes }) {
  const counts = [
    num_steps && `${numberText(num_steps)} steps`,
    passes && `${numberText(Math.round(passes * 10) / 10)} passes over the pictures`,
  ].filter(Boolean);
  if (!seconds && !counts.length) return "How long it takes is known when a worker begins it.";
  if (!seconds) return `${counts.join(", ")}; how long they take is known when a worker begins.`;
  const time = `About ${durationText(seconds)} on this machine`;
  return counts.length ? `${time}: ${counts.join(", ")}.` : `${time}; the worker lays out the steps that fit.`;
}
