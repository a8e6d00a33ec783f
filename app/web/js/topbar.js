// The bar above every view, which becomes a tab bar at the bottom of a phone.

import { html } from "./html.js";
import { RunningJob } from "./jobs/running.js";
import { linkTo } from "./router.js";

const VIEWS = [
  ["explore", "Explore"],
  ["train", "Train"],
  ["models", "Models"],
];

/** @param {{view: string}} props */
export function TopBar({ view }) {
  return html`
    <header class="topbar">
      <a class="brand" href=${linkTo("explore")} aria-label="β-VAE, first page">
        <img src=${new URL("../icon.svg", import.meta.url).href} alt="" /><span>β-VAE</span>
      </a>
      <nav aria-label="Views">
        ${VIEWS.map(([name, text]) => html`<a href=${linkTo(name)} aria-current=${name === view ? "page" : null}>${text}</a>`)}
        <a href="docs">API</a>
      </nav>
      <${RunningJob} />
    </header>
  `;
}
