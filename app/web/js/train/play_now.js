// "Play with it now": sliders on the newest decoder of a job that is still training. What is shown stays when a new
// decoder comes.

import { Problem } from "../api.js";
import { loadDecoder } from "../decoder/decoder.js";
import { Filmstrips } from "../decoder/filmstrips.js";
import { LatentSliders } from "../explore/latent_sliders.js";
import { describeVector, drawVector, latentsOf, parseVector, vectorText } from "../explore/latents.js";
import { Picture } from "../explore/picture.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { numberText } from "../charts/scale.js";

const SHOWN = 5;

/**
 * @param {{
 *   path: string, job: any, kl: number[], newestPreview: number | null, zText: string | null,
 *   onVector: (text: string) => void,
 * }} props `path` is the job's; a decoder comes with each preview.
 */
export function PlayNow({ path, job, kl, newestPreview, zText, onVector }) {
  const [loaded, setLoaded] = useState(/** @type {{decoder: any, strips: Filmstrips} | null} */ (null));
  const [z, setZ] = useState(/** @type {Float32Array | null} */ (null));
  const [isMissing, setIsMissing] = useState(false);
  const [all, setAll] = useState(false);
  const pane = useRef(/** @type {HTMLElement | null} */ (null));
  const isOwn = useRef(false);
  const order = useRef(/** @type {number[]} */ ([]));

  useEffect(() => {
    if (newestPreview === null) return undefined;
    const stop = new AbortController();
    loadDecoder(`${path}/web`, stop.signal).then(
      (decoder) => {
        if (stop.signal.aborted) return;
        setIsMissing(false);
        setLoaded({ decoder, strips: new Filmstrips(`${path}/web`) });
        const { latent_dim: size } = decoder.network;
        const own = parseVector(zText, size);
        isOwn.current ||= own !== null;
        // Until the visitor moves something, the first preview picture is shown as the newest network sees it.
        setZ(
          (before) =>
            (isOwn.current && (before ?? own)) || Float32Array.from(decoder.about.z ?? new Float32Array(size)),
        );
      },
      (error) => {
        // The next preview brings the next decoder, if there is one.
        if (stop.signal.aborted) return;
        if (!(error instanceof Problem)) throw error;
        setIsMissing(true);
      },
    );
    return () => stop.abort();
  }, [path, newestPreview]);
  useEffect(() => () => loaded?.strips.close(), [loaded]);

  if (!loaded || !z) {
    return newestPreview === null || isMissing
      ? null
      : html`<section class="card pane play-now"><h2>Play with it now</h2><p class="muted">Loading the decoder…</p></section>`;
  }
  const move = (/** @type {Float32Array} */ vector) => {
    isOwn.current = true;
    setZ(vector);
    onVector(vectorText(vector));
  };
  const latents = latentsOf({ network: loaded.decoder.network, kl_per_dimension: kl });
  // The order stays while someone is at the sliders.
  if (order.current.length !== latents.length || !pane.current?.contains(document.activeElement)) {
    order.current = latents.map((latent) => latent.index);
  }
  const strongest = order.current
    .map((index) => latents.find((latent) => latent.index === index))
    .filter((latent) => latent !== undefined);
  const shown = strongest.slice(0, all ? undefined : SHOWN).map((latent) => ({ ...latent, active: true }));
  return html`
    <section class="card pane play-now" aria-labelledby="play-title" ref=${pane}>
      <h2 id="play-title">Play with it now</h2>
      <p class="reading">The decoder as it is after step ${numberText(loaded.decoder.about.step ?? newestPreview)}. ${job.finished_at ? "" : "A newer one comes with each preview; your values stay."}</p>
      <div class="play-grid">
        <div class="play-picture">
          <${Picture} decoder=${loaded.decoder} z=${z} size=${192} id="live-picture" alt=${`Decoded picture, ${describeVector(latents, z)}.`} />
          <div class="job-actions">
            <button onClick=${() => move(drawVector(latents))}>Random</button>
            <button onClick=${() => move(Float32Array.from(loaded.decoder.about.z ?? new Float32Array(z.length)))}>Reset</button>
          </div>
        </div>
        <${LatentSliders} latents=${shown} z=${z} strips=${loaded.strips} onInput=${(
          /** @type {number} */ index,
          /** @type {number} */ value,
        ) => {
          const moved = Float32Array.from(z);
          moved[index] = value;
          move(moved);
        }} />
      </div>
      ${strongest.length > SHOWN && html`<button class="quiet" aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? `The ${SHOWN} strongest only` : `All ${strongest.length} latents`}</button>`}
    </section>
  `;
}
