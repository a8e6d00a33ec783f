// The step that every pane shows: a slider over the run, a button that plays it, and one that follows the newest step.

import { html, useEffect, useRef, useState } from "../html.js";
import { numberText } from "../charts/scale.js";

const FRAMES_PER_SECOND = 8;
const FRAMES = 40;

/**
 * @param {{newest: number, stops: number[], step: number | null, onStep: (step: number | null) => void, isLive: boolean}} props
 *   The arrow keys and the player go from stop to stop.
 */
export function Scrubber({ newest, stops, step, onStep, isLive }) {
  const [playing, setPlaying] = useState(false);
  const places =
    stops.length > 1
      ? [...new Set([...stops, newest])]
      : Array.from({ length: 21 }, (_, k) => Math.round((k * newest) / 20));
  const shown = Math.min(step ?? newest, newest);
  const state = useRef({ places, shown });
  state.current = { places, shown };
  const move = (/** @type {number} */ direction) => {
    const { places, shown } = state.current;
    const next = direction > 0 ? places.find((place) => place > shown) : places.findLast((place) => place < shown);
    if (next !== undefined) {
      onStep(next === newest && isLive ? null : next);
      state.current.shown = next; // Another move may come before the page is drawn anew.
    }
    return next !== undefined;
  };
  useEffect(() => {
    if (!playing) return undefined;
    const stride = Math.max(1, Math.round(state.current.places.length / FRAMES));
    const timer = setInterval(() => {
      for (let k = 0; k < stride; k += 1) if (!move(1)) return setPlaying(false);
    }, 1000 / FRAMES_PER_SECOND);
    return () => clearInterval(timer);
  }, [playing, newest]);
  const play = () => {
    if (!playing && shown >= newest) onStep(0);
    setPlaying(!playing);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (event.key === "Home") onStep(0);
    else if (event.key === "End") onStep(null);
    else if (direction) move(direction);
    else return;
    setPlaying(false);
    event.preventDefault();
  };
  return html`
    <div class="scrubber card" role="group" aria-label="Step that is shown">
      <button onClick=${play} aria-label=${playing ? "Stop playing" : "Play the training from its beginning"}>${playing ? "❚❚" : "▶"}</button>
      <input id="step" type="range" min="0" max=${Math.max(1, newest)} step="1" value=${shown} aria-label="Step"
        aria-valuetext="step ${shown} of ${newest}" onKeyDown=${onKeyDown}
        onInput=${(/** @type {any} */ event) => (setPlaying(false), onStep(Number(event.target.value)))} />
      <output for="step" class="number">step ${numberText(shown)}</output>
      <button aria-pressed=${step === null} onClick=${() => (setPlaying(false), onStep(null))}>${isLive ? "Newest" : "End"}</button>
    </div>
  `;
}
