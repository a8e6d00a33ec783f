// The view "Models".

import { html } from "../html.js";

/** @param {{params: URLSearchParams}} props */
export function ModelsView({ params }) {
  return html`<h1>Models</h1>`;
}
