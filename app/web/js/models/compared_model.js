// One of two compared models: crop, reconstruction and error of the picture, and the numbers of both.

import { loadDecoder } from "../decoder/decoder.js";
import { encode } from "../decoder/posterior.js";
import { toInput } from "../decoder/resize.js";
import { toPixels } from "../explore/difference.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { Tile } from "./picture_choice.js";
import { scoreText } from "./scores.js";
import { datasetText, objectiveText, scoreName } from "./words.js";

/**
 * @param {{model: any, picture: ImageData | null, onRefused: (problem: import("../api.js").Problem) => void}} props
 */
export function ComparedModel({ model, picture, onRefused }) {
  const [network, setNetwork] = useState(/** @type {import("../decoder/decoder.js").Decoder | null} */ (null));
  const isWanted = picture !== null;
  useEffect(() => {
    if (!isWanted) return undefined;
    const stop = new AbortController();
    loadDecoder(`models/${model.id}/web?encoder=true`, stop.signal).then(
      setNetwork,
      (problem) => stop.signal.aborted || onRefused(problem),
    );
    return () => stop.abort();
  }, [isWanted, model.id]);
  const seen = useMemo(
    () => (network && picture ? look(network, picture, model.preprocessing) : null),
    [network, picture],
  );
  const tiles = /** @type {const} */ (["crop", "reconstruction", "error"]);
  return html`
    <div class="compared" data-seen=${seen ? "true" : null}>
      ${tiles.map((name) => html`<figure key=${name}><${Tile} pixels=${seen?.[name] ?? null} /><figcaption>${name}</figcaption></figure>`)}
    </div>
    <p class="hint number" role="status">${seen ? `Pixels are ${(100 * seen.meanError).toFixed(1)} % off on average · KL ${seen.kl.toFixed(1)} nats` : "\u00a0"}</p>
  `;
}

/**
 * Sends a picture through a network.
 * @param {import("../decoder/decoder.js").Decoder} network
 * @param {ImageData} picture
 * @param {import("../decoder/resize.js").Preprocessing} preprocessing
 */
function look(network, picture, preprocessing) {
  const input = toInput(picture, preprocessing);
  const { mean, kl } = encode(network, input);
  const { image_size: side, num_channels: channels } = network.network;
  const crop = toPixels(input, side, channels);
  const reconstruction = network.decode(mean);
  return { crop, reconstruction, kl, ...difference(crop, reconstruction) };
}

/**
 * Returns where two pictures differ, black where they are equal, and by how much on average, in [0, 1].
 * @param {ImageData} first
 * @param {ImageData} second
 */
function difference(first, second) {
  const error = new ImageData(first.width, first.height);
  let sum = 0;
  for (let i = 0; i < error.data.length; i++) {
    const off = Math.abs(first.data[i] - second.data[i]);
    sum += off;
    error.data[i] = i % 4 === 3 ? 255 : off;
  }
  return { error, meanError: sum / (255 * 3 * first.width * first.height) };
}

/** @param {{pair: any[]}} props */
export function ComparedNumbers({ pair }) {
  /** @param {number | null | undefined} value */
  const nats = (value) => (typeof value === "number" ? `${value.toFixed(1)} nats` : "unknown");
  /** @param {any} model */
  const totalKl = ({ kl_per_dimension: kl }) =>
    kl?.length ? kl.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0) : null;
  const scores = [...new Set(pair.flatMap((model) => Object.keys(model.metrics ?? {})))].filter((name) =>
    pair.some((model) => typeof model.metrics?.[name] === "object"),
  );
  /** @type {[string, (model: any) => string][]} */
  const rows = [
    ["Trained on", datasetText],
    ["Objective", objectiveText],
    ["Latents in use", (model) => `${model.active_dimensions.length} of ${model.network.latent_dim}`],
    ["Reconstruction loss", (model) => nats(model.reconstruction_loss)],
    ["KL", (model) => nats(totalKl(model))],
    ...scores.map(
      (name) =>
        /** @type {[string, (model: any) => string]} */ ([
          scoreName(name),
          (model) => (model.metrics?.[name] ? scoreText(model.metrics[name]) : "not computed"),
        ]),
    ),
  ];
  return html`
    <div class="compare-numbers" tabindex="0" role="region" aria-label="Numbers of both models">
      <table>
        <thead><tr><td></td>${pair.map((model) => html`<th scope="col">${model.name}</th>`)}</tr></thead>
        <tbody>${rows.map(([name, text]) => html`<tr key=${name}><th scope="row">${name}</th>${pair.map((model) => html`<td class="number">${text(model)}</td>`)}</tr>`)}</tbody>
      </table>
    </div>
    <p class="hint">Losses of models that were trained on different data sets cannot be compared.</p>
  `;
}
