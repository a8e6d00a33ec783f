// One latent: its name, KL and value, a filmstrip, and beneath it the slider whose thumb stands where the film is. What
// moves in a drag moves by transforms, which cost no layout.

import { Component, html } from "../html.js";
import { LabelEditor } from "./label_editor.js";
import { FRAMES, nameOf, signed, valueText, within } from "./latents.js";

/**
 * Returns the place of a value on the slider, from its left end.
 * @param {import("./latents.js").Latent} latent
 * @param {number} value
 */
const place = (latent, value) => `${((within(latent, value) + latent.range) / (2 * latent.range)) * 100}%`;

/**
 * @typedef {{
 *   latent: import("./latents.js").Latent, value: number, largestKl: number, playing: boolean, strip: boolean,
 *   mark: {mean: number, sigma: number} | null,
 *   onInput: (index: number, value: number) => void, onRelease?: (index: number) => void,
 *   onRename?: (index: number, label: string) => void, onCanvas: (index: number, canvas: HTMLCanvasElement | null) => void,
 * }} RowProps
 */

/** @type {Record<string, number>} In a thirtieth of the range: the slider's own step is too fine for keys. */
const KEY_STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
/** @type {(keyof RowProps)[]} */
const SHOWN = ["latent", "value", "largestKl", "playing", "strip", "mark", "onRename"];

/** A row is drawn again only where what it shows has changed: a drag moves one row of many. */
export class LatentRow extends Component {
  /** @param {RowProps} next */
  shouldComponentUpdate(next) {
    return SHOWN.some((name) => next[name] !== this.props[name]);
  }

  /** The value at the start of a touch, which a pan of the page puts back. */
  held = 0;
  onInput = (/** @type {any} */ event) => this.props.onInput(this.props.latent.index, Number(event.target.value));
  onRelease = () => this.props.onRelease?.(this.props.latent.index);
  onPointerDown = () => (this.held = this.props.value);
  onPointerCancel = () => this.props.onInput(this.props.latent.index, this.held);
  onCanvas = (/** @type {HTMLCanvasElement | null} */ canvas) => this.props.onCanvas(this.props.latent.index, canvas);
  onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const { latent } = this.props;
    const steps = KEY_STEPS[event.key];
    if (steps === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    // The thumb knows of keys that came since the row was drawn last.
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    input.value = String(within(latent, Number(input.value) + (steps * latent.range) / 30));
    this.props.onInput(latent.index, Number(input.value));
    this.onRelease();
  };
  onStrip = (/** @type {any} */ event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const frame = Math.floor(((event.clientX - box.left) / box.width) * FRAMES.length);
    const { index, range } = this.props.latent;
    this.props.onInput(index, range * FRAMES[Math.max(0, Math.min(FRAMES.length - 1, frame))]);
    this.onRelease();
  };

  /** @param {RowProps} props */
  render({ latent, value, largestKl, playing, strip, mark, onRename }) {
    const name = nameOf(latent);
    const share = largestKl > 0 ? Math.max(0.02, latent.kl / largestKl) : 0;
    const reached = within(latent, value) / latent.range;
    return html`<li class="latent" data-playing=${playing ? "true" : null}>
      <div class="latent-head">
        <${LabelEditor} latent=${latent} onRename=${onRename} />
        <span class="latent-kl" title=${`KL from the prior: ${latent.kl.toFixed(2)} nats`}>
          <span class="kl-bar" aria-hidden="true"><i style=${{ width: `${share * 100}%` }}></i></span>
          <span class="number"><span class="visually-hidden">KL </span>${latent.kl.toFixed(2)}<span class="unit"> nats</span></span>
        </span>
        <output class="latent-value number">${signed(value, 2)}${!latent.categories && html`<span class="unit"> σ</span>`}</output>
      </div>
      <div class="latent-film">
        ${
          strip &&
          html`<div class="strip" onClick=${this.onStrip}>
          <canvas ref=${this.onCanvas} aria-hidden="true" width="7" height="1"></canvas>
          <div class="strip-scale"><i class="playhead" style=${{ transform: `translateX(${reached * 300}%)` }}></i></div>
        </div>`
        }
        <div class="slider">
          <i class="slider-fill" style=${{ transform: `scaleX(${reached})` }}></i>
          ${
            mark &&
            html`<i class="posterior" style=${{ left: place(latent, mark.mean - mark.sigma), right: `calc(100% - ${place(latent, mark.mean + mark.sigma)})` }}></i>
            <i class="posterior-mean" style=${{ left: place(latent, mark.mean) }}></i>`
          }
          <input type="range" min=${-latent.range} max=${latent.range} step="0.001" value=${value} data-latent=${latent.index} aria-label=${name}
            aria-valuetext=${`${name}, ${valueText(latent, value)}`} onInput=${this.onInput} onChange=${this.onRelease} onKeyDown=${this.onKeyDown}
            onPointerDown=${this.onPointerDown} onPointerCancel=${this.onPointerCancel} />
        </div>
      </div>
    </li>`;
  }
}
