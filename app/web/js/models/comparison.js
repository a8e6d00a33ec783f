// Two models on one picture: what each sees, makes of it, and gets wrong, and their numbers side by side.

import { html, useEffect, useRef, useState } from "../html.js";
import { replaceState } from "../router.js";
import { useVisible } from "../visible.js";
import { ComparedModel, ComparedNumbers } from "./compared_model.js";
import { PictureChoice } from "./picture_choice.js";

/**
 * @param {{models: any[], params: URLSearchParams, onRefused: (problem: import("../api.js").Problem) => void}} props
 */
export function Comparison({ models, params, onRefused }) {
  const section = useRef(/** @type {HTMLElement | null} */ (null));
  const visible = useVisible(section, { once: true });
  const asked = (params.get("compare") ?? "").split(",");
  const [chosen, setChosen] = useState(asked);
  const [picture, setPicture] = useState(/** @type {ImageData | null} */ (null));
  const known = chosen.filter((id) => models.some((model) => model.id === id));
  const others = models.filter((model) => !known.includes(model.id));
  const pair = [...known, ...others.map((model) => model.id)]
    .slice(0, 2)
    .map((id) => models.find((model) => model.id === id));
  useEffect(() => {
    if (params.get("compare")) section.current?.scrollIntoView();
  }, []);
  /** @param {number} place @param {string} id */
  const choose = (place, id) => {
    const ids = pair.map((model) => model.id);
    // The same model twice would compare nothing: the two change places.
    const next = ids[1 - place] === id ? [ids[1], ids[0]] : ids.map((one, k) => (k === place ? id : one));
    setChosen(next);
    replaceState("models", { compare: next.join(",") });
  };
  return html`
    <section ref=${section} class="compare" aria-labelledby="compare-title">
      <h2 id="compare-title">Compare two models</h2>
      <div class="card">
        <${PictureChoice} isVisible=${visible} dataset=${pair[0].dataset?.id} onPicture=${setPicture} onRefused=${onRefused} />
        <div class="compare-pair">
          ${pair.map(
            (model, place) => html`<div key=${place}>
            <label for="compare-${place}">${place === 0 ? "Model A" : "Model B"}</label>
            <select id="compare-${place}" value=${model.id} onChange=${(/** @type {any} */ event) => choose(place, event.target.value)}>
              ${models.map((one) => html`<option value=${one.id}>${one.name}</option>`)}
            </select>
            <${ComparedModel} key=${model.id} model=${model} picture=${picture} onRefused=${onRefused} />
          </div>`,
          )}
        </div>
        <${ComparedNumbers} pair=${pair} />
      </div>
    </section>
  `;
}
