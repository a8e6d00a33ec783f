// A place on which files are dropped, with a button that does the same.

import { html, useState } from "../html.js";

/**
 * @param {{
 *   id: string, title: string, hint: unknown, button: string, accept: string, multiple?: boolean,
 *   onDrop: (dropped: DataTransfer) => void, onPick: (files: File[]) => void, children?: unknown,
 * }} props
 */
export function DropZone({ id, title, hint, button, accept, multiple = false, onDrop, onPick, children }) {
  const [over, setOver] = useState(false);
  /** @param {DragEvent} event */
  const drop = (event) => {
    event.preventDefault();
    event.stopPropagation();
    setOver(false);
    if (event.dataTransfer) onDrop(event.dataTransfer);
  };
  const pick = (/** @type {any} */ event) => {
    onPick([...event.target.files]);
    event.target.value = "";
  };
  return html`
    <div class="drop ${over ? "over" : ""}" onDragOver=${(/** @type {Event} */ event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <p><strong>${title}</strong></p>
      <p class="hint">${hint}</p>
      <p class="pick">
        <label class="button">${button}<input class="visually-hidden" type="file" id=${id} accept=${accept} multiple=${multiple} onChange=${pick} /></label>
        ${children}
      </p>
    </div>
  `;
}
