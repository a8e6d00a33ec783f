// The picture of a model's card. Its strongest latent sweeps once while the pointer or the focus is on the card.

import { loadDecoder } from "../decoder/decoder.js";
import { latentsOf, nameOf, startVector } from "../explore/latents.js";
import { sweepValue, wantsStillness } from "../explore/motion.js";
import { drawPicture } from "../explore/picture.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useVisible } from "../visible.js";

const SWEEP_MS = 3600;

/** @typedef {import("../decoder/decoder.js").Decoder} Decoder */

/** @param {{model: any, isLively: boolean}} props */
export function CardPicture({ model, isLively }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const visible = useVisible(canvas, { once: true });
  const [decoder, setDecoder] = useState(/** @type {Decoder | null} */ (null));
  const [failed, setFailed] = useState(false);
  const latents = latentsOf(model);
  const [strongest] = latents;
  useEffect(() => {
    if (!visible) return undefined;
    const stop = new AbortController();
    loadDecoder(`models/${model.id}/web`, stop.signal).then(setDecoder, () => stop.signal.aborted || setFailed(true));
    return () => stop.abort();
  }, [visible, model.weights_sha256]);
  useEffect(() => {
    const target = canvas.current;
    if (!decoder || !target) return undefined;
    const z = startVector(latents, decoder);
    drawPicture(target, decoder.decode(z));
    if (!isLively || wantsStillness()) return undefined;
    const from = z[strongest.index];
    const began = performance.now();
    let frame = 0;
    const step = (/** @type {number} */ now) => {
      const share = Math.max(0, (now - began) / SWEEP_MS);
      z[strongest.index] = sweepValue(from, share, strongest.range);
      drawPicture(target, decoder.decode(z));
      if (share < 1) frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [decoder, isLively]);
  return html`
    <canvas ref=${canvas} width="64" height="64" aria-hidden="true" data-drawn=${decoder ? "true" : null}></canvas>
    <span class="hint">${failed ? "no picture" : nameOf(strongest)}</span>
  `;
}
