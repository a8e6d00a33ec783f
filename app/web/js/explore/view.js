// The view "Explore".

import { html } from "../html.js";

/** @param {{params: URLSearchParams}} props */
export function ExploreView({ params }) {
  return html`<h1>Explore</h1>`;
}
