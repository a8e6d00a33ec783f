// "This, as …": the request for what is shown, as text for a shell, for Python and for the command line.

import { vectorText } from "./latents.js";

/** Kinds of files that a subject can be taken away as, with the suffix. */
export const FORMATS = { png: "PNG", gif: "GIF", mp4: "MP4" };

/**
 * @typedef {{kind: "picture"} | {kind: "latent", index: number} | {kind: "latents", indices: number[]} |
 *   {kind: "pad", pair: [number, number]} | {kind: "path", a: Float32Array, b: Float32Array, path: "slerp" | "linear"}
 * } Subject What is taken away.
 * @typedef {{path: string, json?: object, fields?: [string, string][], file: string}} Call A POST request, and the name of the file.
 */

/**
 * Returns the formats that a subject exists in.
 * @param {Subject} subject
 * @returns {("png" | "gif" | "mp4")[]}
 */
export function formatsOf(subject) {
  return subject.kind === "picture" ? ["png"] : ["gif", "png", "mp4"];
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
  if (subject.kind === "picture") {
    const json = { z: [JSON.parse(`[${vectorText(z)}]`)] };
    return { path: `models/${model}/decode`, json, file: `${model}.png` };
  }
  const options = {
    model,
    z: vectorText(subject.kind === "path" ? subject.a : z),
    ...movementOf(subject),
    steps: "31",
    columns: "7",
    resample: "nearest",
    format,
  };
  const name = subject.kind === "path" ? "a-to-b" : subject.kind;
  return { path: "traversals", fields: Object.entries(options), file: `${model}-${name}.${format}` };
}

/**
 * Returns the options that say what moves.
 * @param {Exclude<Subject, {kind: "picture"}>} subject
 * @returns {Record<string, string>}
 */
function movementOf(subject) {
  const range = { start: "-3", end: "3" };
  const loop = "pingpong";
  if (subject.kind === "path") return { z2: vectorText(subject.b), interpolation: subject.path, loop };
  if (subject.kind === "pad") return { grid: subject.pair.join(), ...range };
  if (subject.kind === "latent") return { dimensions: String(subject.index), loop, ...range };
  return { dimensions: subject.indices.join(), order: "kl", loop, ...range };
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
