// The numbers behind a chart, for those who cannot see it or want to copy them.

import { html, useState } from "../html.js";
import { numberText, thinned } from "./scale.js";

const ROWS = 40;

/** @param {{caption: string, columns: string[], rows: () => (number | null)[][]}} props */
export function ChartTable({ caption, columns, rows }) {
  const [open, setOpen] = useState(false);
  return html`
    <details class="chart-table" onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
      <summary>Table</summary>
      ${
        open &&
        html`
        <div class="scroll" tabindex="0" role="region" aria-label=${caption}>
          <table>
            <caption class="visually-hidden">${caption}</caption>
            <thead><tr>${columns.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
            <tbody>${thinned(rows(), ROWS).map((row) => html`<tr>${row.map((value) => html`<td class="number">${numberText(value)}</td>`)}</tr>`)}</tbody>
          </table>
        </div>`
      }
    </details>
  `;
}
