// The files of a data set that were left out, by reason.

import { request } from "../api.js";
import { html, useState } from "../html.js";
import { countText } from "./words.js";

const FILES_SHOWN = 50;

/** @typedef {{file: string, code: string, reason: string}} RejectedFile */

/** @param {{id: string, count: number}} props */
export function Rejected({ id, count }) {
  const [files, setFiles] = useState(/** @type {RejectedFile[] | null} */ (null));
  const [failed, setFailed] = useState("");
  const onToggle = async (/** @type {any} */ event) => {
    if (!event.target.open || files) return;
    try {
      const response = await request("GET", `datasets/${id}/rejected`, { accept: "application/x-ndjson" });
      const lines = (await response.text()).split("\n").filter((line) => line);
      setFiles(lines.map((line) => JSON.parse(line)));
    } catch (problem) {
      setFailed(/** @type {Error} */ (problem).message);
    }
  };
  return html`
    <details class="rejected" onToggle=${onToggle}>
      <summary>${countText(count)} ${count === 1 ? "file was" : "files were"} left out</summary>
      ${failed && html`<p class="field-error">${failed}</p>`}
      ${
        files &&
        byReason(files).map(
          ([code, some]) => html`
        <h4>${code.replaceAll("_", " ")}: ${countText(some.length)}</h4>
        <ul>
          ${some.slice(0, FILES_SHOWN).map(({ file, reason }) => html`<li><span class="path">${file}</span> <span class="hint">${reason}</span></li>`)}
          ${some.length > FILES_SHOWN && html`<li class="hint">and ${countText(some.length - FILES_SHOWN)} more</li>`}
        </ul>`,
        )
      }
    </details>
  `;
}

/**
 * Groups files by the code of their reason, the commonest first.
 * @param {RejectedFile[]} files
 * @returns {[string, RejectedFile[]][]}
 */
export function byReason(files) {
  /** @type {Map<string, RejectedFile[]>} */
  const groups = new Map();
  for (const file of files) groups.set(file.code, [...(groups.get(file.code) ?? []), file]);
  return [...groups].sort((a, b) => b[1].length - a[1].length);
}
