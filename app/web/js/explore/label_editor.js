// The name of a latent, which is edited in place.

import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { Icon } from "./icons.js";
import { nameOf } from "./latents.js";

const MOST_CHARACTERS = 60;

/**
 * @param {{latent: import("./latents.js").Latent, onRename?: (index: number, label: string) => void}} props
 *   Without onRename the name is plain text.
 */
export function LabelEditor({ latent, onRename }) {
  const [editing, setEditing] = useState(false);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const open = useRef(false);
  const opened = useRef(false);
  // The field has the focus before the next key: an effect after painting would lose it.
  useLayoutEffect(() => {
    if (editing) input.current?.select();
    else if (opened.current) button.current?.focus();
    opened.current = editing;
  }, [editing]);

  const name = nameOf(latent);
  const look = latent.label ? "latent-name" : "latent-name unnamed";
  if (!onRename) return html`<span class=${look} title=${name}>${name}</span>`;
  /** @param {boolean} now */
  const toggle = (now) => {
    open.current = now;
    setEditing(now);
  };
  if (!editing) {
    return html`<button ref=${button} type="button" class=${`${look} editable`} title=${`Rename “${name}”`} onClick=${() => toggle(true)}>
      <span>${name}</span><${Icon} name="pencil" /><span class="visually-hidden">, rename</span>
    </button>`;
  }
  /** @param {string} text */
  const keep = (text) => {
    if (!open.current) return; // The field loses the focus once more when it disappears.
    toggle(false);
    if (text.trim() !== latent.label) onRename(latent.index, text.trim());
  };
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault(); // The button has the focus next, and Enter would press it.
    if (event.key === "Enter") keep(/** @type {HTMLInputElement} */ (event.target).value);
    else toggle(false);
  };
  return html`<input ref=${input} class="latent-name-input" value=${latent.label} maxlength=${MOST_CHARACTERS}
    aria-label=${`Name of latent ${latent.index}`} placeholder=${`latent ${latent.index}`}
    onKeyDown=${onKeyDown} onBlur=${(/** @type {any} */ event) => keep(event.target.value)} />`;
}
