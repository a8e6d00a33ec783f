// "This, as …": the request for what is shown, as text for a shell, for Python and for the command line.

import { vectorText } from "./latents.js";

/** Kinds of files that a subject can be taken away as, with the suffix. */
export const FORMATS = { png: "PNG", gif: "GIF", mp4: "MP4" };
const STEPS = "31";

/**
 * @typedef {{kind: "picture"} | {kind: "latent", index: number} | {kind: "latents", indices: number[]} |
 *   {kind: "pad", pair: [number, number]} | {kind: "path", steps: Float32Array[]}} Subject What is taken away.
 * @typedef {{path: string, json?: object, fields?: [string, string][], file: string}} Call A POST request, and the name of the file.
 */

/**
 * Returns the formats that a subject exists in.
 * @param {Subject} subject
 * @returns {("png" | "gif" | "mp4")[]}
 */
export function formatsOf(subject) {
  return subject.kind === "picture" || subject.kind === "path" ? ["png"] : ["gif", "png", "mp4"];
}

/**
 * Returns the request that makes a file of what is shown.
 * @param {string} model Id of the model.
 * @param {Float32Array} z The latent vector that is shown.
 * @param {Subject} subject
 * @param {"png" | "gif" | "mp4"} format
 * @returns {Call}
 */
export function callFor(model, z, subject, format) {
  const numbers = (/** @type {Float32Array} */ vector) => JSON.parse(`[${vectorText(vector)}]`);
  if (subject.kind === "picture")
    return { path: `models/${model}/decode`, json: { z: [numbers(z)] }, file: `${model}.png` };
  if (subject.kind === "path")
    return { path: `models/${model}/decode`, json: { z: subject.steps.map(numbers) }, file: `${model}-a-to-b.png` };
  /** @type {[string, string][]} */
  const fields = [["model", model], ["z", vectorText(z)], ...rangeOf(subject), ["format", format]];
  return { path: "traversals", fields, file: `${model}-${subject.kind}.${format}` };
}

/**
 * @param {Subject} subject
 * @returns {[string, string][]}
 */
function rangeOf(subject) {
  const frames = /** @type {[string, string][]} */ ([
    ["start", "-3"],
    ["end", "3"],
    ["steps", STEPS],
    ["columns", "7"],
    ["resample", "nearest"],
  ]);
  if (subject.kind === "pad") return [["grid", subject.pair.join()], ...frames];
  if (subject.kind === "latent") return [["dimensions", String(subject.index)], ["loop", "pingpong"], ...frames];
  if (subject.kind === "latents")
    return [["dimensions", subject.indices.join()], ["order", "kl"], ["loop", "pingpong"], ...frames];
  return frames;
}

/** @param {string} text @returns {string} The text as one word of a POSIX shell. */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/**
 * Returns a request as a curl command.
 * @param {Call} call
 * @param {string} base Address of the service, with a slash at its end.
 */
export function curlOf(call, base) {
  const parts = [`curl --fail-with-body ${quoted(base + call.path)}`];
  if (call.json) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(call.json))}`);
  for (const [name, value] of call.fields ?? []) parts.push(`-F ${quoted(`${name}=${value}`)}`);
  return [...parts, `-o ${quoted(call.file)}`].join(" \\\n  ");
}

/**
 * Returns a request as Python.
 * @param {Call} call
 * @param {string} base Address of the service, with a slash at its end.
 */
export function pythonOf(call, base) {
  const body = call.json
    ? `    json=${JSON.stringify(call.json)},`
    : `    data={\n${(call.fields ?? []).map(([name, value]) => `        ${JSON.stringify(name)}: ${JSON.stringify(value)},`).join("\n")}\n    },`;
  const lines = [
    "from pathlib import Path",
    "",
    "import httpx",
    "",
    "answer = httpx.post(",
    `    ${JSON.stringify(base + call.path)},`,
    body,
    "    timeout=90,",
    ")",
  ];
  return [...lines, "answer.raise_for_status()", `Path(${JSON.stringify(call.file)}).write_bytes(answer.content)`].join(
    "\n",
  );
}

/**
 * Returns a request as a command line, which needs no running service; null where no command makes it.
 * @param {Call} call
 */
export function commandOf(call) {
  if (!call.fields) return null;
  const parts = ["betavae traverse"];
  // A value may begin with a minus, which only the form with "=" takes.
  for (const [name, value] of call.fields) if (name !== "format") parts.push(`--${name}=${quoted(value)}`);
  return [...parts, `--output ${quoted(call.file)}`].join(" \\\n  ");
}
