// The icons of the explore view, drawn with lines on a field of 20 × 20.

import { html } from "../html.js";

const LINES = {
  play: "M6.5 4.5v11l9-5.5z",
  pause: "M7 4.5v11M13 4.5v11",
  random: "M4 4h12v12H4zM7.5 7.5h.01M12.5 7.5h.01M10 10h.01M7.5 12.5h.01M12.5 12.5h.01",
  reset: "M10 3.5v13M3.5 10h13M10 10m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0",
  undo: "M7.5 4.5 4 8l3.5 3.5M4.5 8H12a4 4 0 0 1 0 8H8",
  compare: "M4 4.5h5v11H4zM11 4.5h5v11h-5z",
  pencil: "M4.5 15.5l.8-3.3 7.9-7.9 2.5 2.5-7.9 7.9zM11.5 6l2.5 2.5",
  upload: "M10 13.5v-9M6 8l4-4 4 4M4 13.5v3h12v-3",
  copy: "M7 7h9v9H7zM4 13V4h9",
};

/** @param {{name: keyof typeof LINES}} props */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
    <path d=${LINES[name]} fill=${name === "play" ? "currentColor" : "none"} stroke="currentColor" stroke-width="1.7"
      stroke-linecap="round" stroke-linejoin="round" />
  </svg>`;
}
