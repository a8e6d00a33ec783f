// What is shown, to take away: as a file, and as the request that makes it.

import { address, request } from "../api.js";
import { html, useState } from "../html.js";
import { Icon } from "./icons.js";
import { nameOf } from "./latents.js";
import { callFor, commandOf, curlOf, FORMATS, formatsOf, pythonOf } from "./snippets.js";

/**
 * @param {{
 *   model: string, z: Float32Array, latents: import("./latents.js").Latent[], current: number, pair: [number, number],
 *   ends: {a: Float32Array, b: Float32Array}, path: "slerp" | "linear", onProblem: (problem: Error) => void,
 * }} props The model and what it shows; the latent that was moved last; the pad's latents; A, B, and the way between.
 */
export function TakeAway({ model, z, latents, current, pair, ends, path, onProblem }) {
  const [kind, setKind] = useState("latents");
  const [chosen, setFormat] = useState(/** @type {"png" | "gif" | "mp4"} */ ("gif"));
  const [busy, setBusy] = useState("");
  const latent = latents.find((one) => one.index === current) ?? latents[0];
  const active = latents.filter((one) => one.active);
  const named = (/** @type {number} */ index) =>
    nameOf(latents.find((one) => one.index === index) ?? { index, label: "" });
  /** @type {Record<string, {text: string, subject: import("./snippets.js").Subject}>} */
  const subjects = {
    picture: { text: "This picture", subject: { kind: "picture" } },
    latent: { text: `The sweep of “${nameOf(latent)}”`, subject: { kind: "latent", index: latent.index } },
    latents: {
      text: active.length === 1 ? "The filmstrip" : `All ${active.length} filmstrips`,
      subject: { kind: "latents", indices: active.map((one) => one.index) },
    },
    pad: { text: `The pad of “${named(pair[0])}” and “${named(pair[1])}”`, subject: { kind: "pad", pair } },
    path: { text: "The way from A to B", subject: { kind: "path", ...ends, path } },
  };
  const { subject } = subjects[kind];
  const offered = formatsOf(subject);
  const format = offered.includes(chosen) ? chosen : offered[0];

  /** @param {"png" | "gif" | "mp4"} wanted */
  const download = async (wanted) => {
    setBusy(wanted);
    setFormat(wanted);
    try {
      await save(callFor(model, z, subject, wanted));
    } catch (problem) {
      onProblem(/** @type {Error} */ (problem));
    }
    setBusy("");
  };
  return html`<section class="card take-away" aria-labelledby="take-away-title">
    <div class="take-away-files">
      <h2 id="take-away-title">Take it away</h2>
      <label class="take-away-what">What <select value=${kind} onChange=${(/** @type {any} */ event) => setKind(event.target.value)}>
        ${Object.entries(subjects).map(([name, { text }]) => html`<option key=${name} value=${name} selected=${name === kind}>${text}</option>`)}
      </select></label>
      <div class="take-away-buttons">
        ${offered.map(
          (name) => html`<button key=${name} type="button" disabled=${busy !== ""} onClick=${() => download(name)}>
          ${busy === name ? "Making it…" : FORMATS[name]}</button>`,
        )}
      </div>
      <p class="hint">Or the whole model with its sliders, as one file that opens without a network:</p>
      <a class="button primary" href=${address(`models/${model}/explorer.html`)} download=${`${model}.html`}>HTML with sliders</a>
    </div>
    <${Snippets} call=${callFor(model, z, subject, format)} />
  </section>`;
}

/** @param {{call: import("./snippets.js").Call}} props */
function Snippets({ call }) {
  const [tab, setTab] = useState("curl");
  const [copied, setCopied] = useState(false);
  const base = address("");
  /** @type {Record<string, string | null>} */
  const texts = { curl: curlOf(call, base), Python: pythonOf(call, base), "Command line": commandOf(call) };
  const text = texts[tab] ?? "# The command line makes animations and figures; choose one of those at the left.";
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<div class="snippets">
    <div class="snippets-head">
      <h3>This, as</h3>
      <div class="segments" role="group" aria-label="Language">
        ${Object.keys(texts).map(
          (name) =>
            html`<button type="button" aria-pressed=${name === tab} onClick=${() => setTab(name)}>${name}</button>`,
        )}
      </div>
      <button type="button" class="quiet" onClick=${copy}><${Icon} name="copy" /> ${copied ? "Copied" : "Copy"}</button>
    </div>
    <pre tabindex="0" aria-label=${`This, as ${tab}`}><code>${text}</code></pre>
  </div>`;
}

/**
 * Sends a request and saves its answer as a file.
 * @param {import("./snippets.js").Call} call
 */
async function save(call) {
  let form;
  if (call.fields) {
    form = new FormData();
    for (const [name, value] of call.fields) form.append(name, value);
  }
  const response = await request("POST", call.path, { json: call.json, form, accept: "*/*" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = call.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
