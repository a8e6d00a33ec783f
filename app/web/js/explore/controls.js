// The buttons beneath the picture.

import { html } from "../html.js";
import { Icon } from "./icons.js";

/**
 * @param {{
 *   playing: boolean, comparing: boolean, canUndo: boolean, onPlay: () => void, onRandom: () => void, onReset: () => void,
 *   onUndo: () => void, onCompare: () => void,
 * }} props
 */
export function Controls({ playing, comparing, canUndo, onPlay, onRandom, onReset, onUndo, onCompare }) {
  return html`<div class="controls" role="group" aria-label="Picture">
    <button type="button" onClick=${onPlay} title="Sweep one latent after the other"><${Icon} name=${playing ? "pause" : "play"} /><span>${playing ? "Pause" : "Play"}</span></button>
    <button type="button" onClick=${onRandom} title="Draw a picture from the prior"><${Icon} name="random" /><span>Random</span></button>
    <button type="button" onClick=${onReset} title="Back to the start"><${Icon} name="reset" /><span>Reset</span></button>
    <button type="button" onClick=${onUndo} disabled=${!canUndo} title="Undo (Ctrl+Z)"><${Icon} name="undo" /><span>Undo</span></button>
    <button type="button" onClick=${onCompare} aria-pressed=${comparing} title="Show the start beside it"><${Icon} name="compare" /><span>Compare</span></button>
  </div>`;
}
