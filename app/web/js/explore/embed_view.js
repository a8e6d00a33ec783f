// The view that other sites frame: one model, its picture and its sliders.

import { address } from "../api.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { linkTo } from "../router.js";
import { readState, writeState } from "./address.js";
import { LatentSliders } from "./latent_sliders.js";
import { describeVector, drawVector, latentsOf, startVector } from "./latents.js";
import { useLoadedModel } from "./loading.js";
import { useMotion, wantsStillness } from "./motion.js";
import { NO_CHOICES } from "./session.js";
import { Stage } from "./stage.js";
import { useLatentVector, withValue } from "./vector.js";

const FIRST_MODEL = "chairs";

/** @param {{params: URLSearchParams}} props The query of the address: `model`, and `z` where the frame begins with it. */
export function EmbedView({ params }) {
  const id = params.get("model") || FIRST_MODEL;
  const [problem, setProblem] = useState(/** @type {Error | null} */ (null));
  const loaded = useLoadedModel(id, setProblem);
  const latents = useMemo(() => (loaded ? latentsOf(loaded.model) : []), [loaded]);
  const active = latents.filter((latent) => latent.active);
  const start = useMemo(
    () => loaded && (readState(params, latents.length).z ?? startVector(latents, loaded.decoder)),
    [loaded],
  );
  const vector = useLatentVector();
  const motion = useMotion(vector, active);
  const [current, setCurrent] = useState(0);
  useEffect(() => {
    if (!start) return;
    setCurrent(active[0].index);
    vector.set(start);
    if (!params.has("z") && !wantsStillness()) motion.play({ once: true });
  }, [start]);

  /** @param {Float32Array | null} z @param {string} [key] */
  const show = (z, key = "") => {
    motion.stop();
    vector.remember(key);
    if (z) vector.set(z);
  };
  const onInput = (/** @type {number} */ index, /** @type {number} */ value) => {
    const present = vector.latest();
    setCurrent(index);
    if (present) show(withValue(present, index, value), `slider ${index}`);
  };
  const onPlay = () => {
    if (motion.playing !== null) return motion.stop();
    vector.remember("play");
    motion.play({ first: current });
  };
  const onUndo = () => {
    motion.stop();
    vector.undo();
  };
  if (problem) return html`<p class="boot" role="alert">${problem.message}</p>`;
  const { z } = vector;
  const text = z ? `Picture that ${id} decodes: ${describeVector(latents, z)}` : "The picture is being loaded";
  const link = address("") + linkTo("explore", writeState({ model: id, z, ...NO_CHOICES }));
  return html`<div class="embed">
    <div class="embed-left">
      <${Stage} decoder=${loaded?.decoder ?? null} z=${z} alt=${text} start=${start} startText="start"
        playing=${motion.playing !== null} canUndo=${vector.canUndo} onPlay=${onPlay} onUndo=${onUndo}
        onRandom=${() => show(drawVector(latents))} onReset=${() => show(start)} />
      <p class="embed-source">
        <span><b>${loaded?.model.name ?? id}</b>, a β-VAE</span>
        <a target="_blank" rel="noopener" href=${link}>Open it</a>
      </p>
    </div>
    ${
      z &&
      loaded &&
      html`<${LatentSliders} latents=${latents} z=${z} strips=${loaded.strips} playing=${motion.playing} onInput=${onInput} />`
    }
  </div>`;
}
