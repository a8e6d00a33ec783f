// The picture with the buttons beneath it.

import { html, useMemo, useState } from "../html.js";
import { Icon } from "./icons.js";
import { Picture, SmallPicture } from "./picture.js";

/**
 * @param {{
 *   decoder: import("../decoder/decoder.js").Decoder | null, z: Float32Array | null, alt: string,
 *   start: Float32Array | null, startText: string, playing: boolean, canUndo: boolean,
 *   onPlay: () => void, onRandom: () => void, onReset: () => void, onUndo: () => void,
 * }} props The decoder and the vector (null while they are loaded), and the vector that Compare shows beside it.
 */
export function Stage({ decoder, z, alt, start, startText, playing, canUndo, onPlay, onRandom, onReset, onUndo }) {
  const [comparing, setComparing] = useState(false);
  const startPixels = useMemo(
    () => (comparing && decoder && start ? decoder.decode(start) : null),
    [comparing, decoder, start],
  );
  return html`<div class="stage">
    <div class="stage-picture">
      <${Picture} decoder=${decoder} z=${z} alt=${alt} />
      ${startPixels && html`<figure class="stage-start"><${SmallPicture} pixels=${startPixels} /><figcaption>${startText}</figcaption></figure>`}
    </div>
    <div class="controls" role="group" aria-label="Picture">
      <${Control} icon=${playing ? "pause" : "play"} text=${playing ? "Pause" : "Play"} title="Sweep one latent after the other" disabled=${!z} onClick=${onPlay} />
      <${Control} icon="random" text="Random" title="Draw a picture from the prior" disabled=${!z} onClick=${onRandom} />
      <${Control} icon="reset" text="Reset" title="Back to the start" disabled=${!z} onClick=${onReset} />
      <${Control} icon="undo" text="Undo" title="Undo (Ctrl+Z)" disabled=${!canUndo} onClick=${onUndo} />
      <${Control} icon="compare" text="Compare" title="Show the start beside it" disabled=${!z} pressed=${comparing} onClick=${() => setComparing(!comparing)} />
    </div>
  </div>`;
}

/** @param {{icon: string, text: string, title: string, onClick: () => void, disabled?: boolean, pressed?: boolean}} props */
function Control({ icon, text, title, onClick, disabled, pressed }) {
  return html`<button type="button" title=${title} disabled=${disabled} aria-pressed=${pressed} onClick=${onClick}>
    <${Icon} name=${icon} /><span>${text}</span>
  </button>`;
}
