// The page in one file: a model's sliders, and the visitor's own picture, from disk and without any network.

import { Network } from "../decoder/network.js";
import { javascriptKernel } from "../decoder/twin.js";
import { readWeights } from "../decoder/weights.js";
import { LatentSliders } from "../explore/latent_sliders.js";
import { describeVector, drawVector, latentsOf, rounded, startVector } from "../explore/latents.js";
import { useMotion, wantsStillness } from "../explore/motion.js";
import { OwnPictureCard, useDroppedPictures } from "../explore/own_picture.js";
import { Stage } from "../explore/stage.js";
import { useLatentVector, withValue } from "../explore/vector.js";
import { html, render, useEffect, useMemo, useState } from "../html.js";
import { InlineStrips } from "./inline_strips.js";
import { encodeHere } from "./own_picture.js";

/**
 * Returns the bytes that the file holds under an id, as base64.
 * @param {string} id
 */
function bytesOf(id) {
  const text = /** @type {HTMLElement} */ (document.getElementById(id)).textContent ?? "";
  return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
}

/** @param {{model: any, network: Network}} props */
function TakenAway({ model, network }) {
  const latents = useMemo(() => latentsOf(model), []);
  const active = latents.filter((latent) => latent.active);
  const strips = useMemo(() => new InlineStrips(network), []);
  const start = useMemo(() => startVector(latents, network), []);
  const vector = useLatentVector();
  const motion = useMotion(vector, active);
  const [own, setOwn] = useState(/** @type {import("../explore/own_picture.js").OwnPicture | null} */ (null));
  const [problem, setProblem] = useState("");
  const home = own ? rounded(own.mean) : start;
  useEffect(() => {
    vector.set(start);
    if (!wantsStillness()) motion.play({ once: true, first: active[0]?.index });
  }, []);

  /** @param {Float32Array} z @param {string} [key] */
  const show = (z, key) => {
    motion.stop();
    vector.remember(key);
    vector.set(z);
  };
  const onFile = async (/** @type {Blob} */ file) => {
    try {
      const picture = await encodeHere(network, model, file);
      if (own) URL.revokeObjectURL(own.url);
      setOwn(picture);
      setProblem("");
      show(rounded(picture.mean));
    } catch {
      setProblem("This browser cannot read that file as a picture. Try a PNG or a JPEG.");
    }
  };
  const over = useDroppedPictures(network.parts.encoder ? onFile : () => {});
  const z = vector.z ?? start;
  return html`<main class="taken">
    <header>
      <h1>${model.name}</h1>
      <p class="muted">${model.about} Everything runs in this file: no picture leaves it.</p>
    </header>
    <div class="explore">
      <div class="explore-left">
        <${Stage} decoder=${network} z=${z} alt=${`Picture that ${model.name} decodes: ${describeVector(latents, z)}`}
          start=${home} startText=${own ? "your picture, decoded" : "start"} playing=${motion.playing !== null} canUndo=${vector.canUndo}
          onUndo=${() => (motion.stop(), vector.undo())} onRandom=${() => show(drawVector(latents))} onReset=${() => show(home)}
          onPlay=${() => (motion.playing === null ? motion.play() : motion.stop())} />
        ${
          network.parts.encoder &&
          html`<${OwnPictureCard} own=${own} busy=${false} over=${over} onFile=${onFile} onShow=${() => show(home)} onForget=${() => setOwn(null)} />`
        }
        ${problem && html`<p class="banner bad" role="alert">${problem}</p>`}
      </div>
      <div class="explore-right">
        <${LatentSliders} latents=${latents} z=${z} strips=${strips} posterior=${own} playing=${motion.playing}
          onInput=${(/** @type {number} */ index, /** @type {number} */ value) => show(withValue(z, index, value), `slider ${index}`)} />
      </div>
    </div>
  </main>`;
}

/** Starts the page. */
async function start() {
  const page = /** @type {HTMLElement} */ (document.getElementById("page"));
  const model = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("model")).textContent ?? "");
  const kernel = await WebAssembly.compile(bytesOf("kernel")).catch(() => javascriptKernel);
  const { network, layers } = readWeights(bytesOf("weights").buffer);
  page.textContent = "";
  render(html`<${TakenAway} model=${model} network=${new Network(network, layers, kernel)} />`, page);
}

start();
