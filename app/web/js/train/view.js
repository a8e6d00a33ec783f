// The view "Train".

import { html } from "../html.js";

/** @param {{params: URLSearchParams}} props */
export function TrainView({ params }) {
  return html`<h1>Train</h1>`;
}
