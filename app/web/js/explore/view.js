// The view "Explore": a picture, the sliders that make it, and everything that can be done with the two.

import { html, useEffect, useRef, useState } from "../html.js";
import { ProblemBanner } from "../problems/banner.js";
import { LatentSliders } from "./latent_sliders.js";
import { describeVector } from "./latents.js";
import { useModelList } from "./loading.js";
import { ModelChooser } from "./model_chooser.js";
import { OwnPictureCard, useDroppedPictures } from "./own_picture.js";
import { useSession } from "./session.js";
import { Stage } from "./stage.js";

/** @param {{params: URLSearchParams}} props */
export function ExploreView({ params }) {
  const session = useSession(params);
  const { actions, decoder, latents, own, playing, problem, shown, start } = session;
  const models = useModelList(actions.fail);
  const over = useDroppedPictures(actions.takePicture);
  useUndoKey(actions.undo);
  // What is below the first screen comes after it.
  const [More, setMore] = useState(/** @type {any} */ (null));
  useEffect(() => void import("./more.js").then((module) => setMore(() => module.More)), []);
  const text = shown && `Picture that ${shown.model.name} decodes: ${describeVector(latents, shown.z)}`;
  return html`<div class="explore">
    ${problem && html`<div class="explore-problem"><${ProblemBanner} problem=${problem} onDismiss=${actions.dismiss} /></div>`}
    <div class="explore-left">
      <${ModelChooser} models=${models} chosen=${session.wanted} model=${shown?.model} loading=${!problem} onChoose=${actions.chooseModel} />
      <${Stage} decoder=${decoder} z=${shown?.z ?? null} alt=${text ?? "The picture is being loaded"}
        start=${start} startText=${own ? "your picture, decoded" : "start"} playing=${playing !== null} canUndo=${session.canUndo}
        onPlay=${actions.toggleMotion} onRandom=${actions.random} onReset=${actions.reset} onUndo=${actions.undo} />
      <${OwnPictureCard} own=${own} busy=${session.busy} over=${over} onFile=${actions.takePicture}
        onShow=${actions.reset} onForget=${actions.forgetPicture} />
    </div>
    <div class="explore-right">
      <div class="explore-title">
        <h1>Drag a slider, see what one latent does</h1>
        <p class="muted">${shown ? sentenceOf(session.active.length, latents.length) : "\u00a0"}</p>
      </div>
      ${!shown && !problem && html`<${Placeholders} />`}
      ${
        shown &&
        html`<${LatentSliders} latents=${latents} z=${shown.z} strips=${shown.strips} posterior=${own} playing=${playing}
        onInput=${actions.slide} onRelease=${actions.released} onRename=${actions.rename} />`
      }
    </div>
    ${shown && More && html`<${More} session=${session} shown=${shown} />`}
    <p class="visually-hidden" aria-live="polite">${session.announced}</p>
  </div>`;
}

/** The room that sliders will take, while they are loaded. */
function Placeholders() {
  const rows = Array.from({ length: 10 }, () => html`<i class="placeholder"></i>`);
  return html`<div class="latent-list" aria-hidden="true">${rows}</div>`;
}

/** @param {number} active @param {number} all */
function sentenceOf(active, all) {
  const some = `${active} of ${all} latents ${active === 1 ? "is" : "are"} in use`;
  const used = active === all ? `All ${all} latents are in use` : some;
  return `${used}, the strongest first. Each film shows the present picture along one of them.`;
}

/** @param {() => void} undo Called for Ctrl+Z and ⌘Z outside text fields. */
function useUndoKey(undo) {
  const call = useRef(undo);
  call.current = undo;
  useEffect(() => {
    const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
      const element = /** @type {HTMLElement} */ (event.target);
      const typing = element.matches?.("input:not([type=range], [type=radio]), textarea");
      if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || typing) return;
      event.preventDefault();
      call.current();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
}
