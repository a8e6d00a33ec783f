// Reads server-sent events with fetch. EventSource cannot name the event after which to begin, hides the body of a
// refusal, and says nothing of the pings that show that a quiet stream is alive.

import { request } from "../api.js";

/** @typedef {{id: string, type: string, data: Record<string, any>}} JobEvent */

/**
 * Reads a stream of events until it ends.
 * @param {string} path Path of the stream.
 * @param {string | null} after Id of the event after which to begin; null begins with the first.
 * @param {{onEvents: (events: JobEvent[]) => void, onNews: () => void}} listener `onNews` is called whenever bytes come.
 * @param {AbortSignal} signal Stops the reading.
 * @throws {import("../api.js").Problem} Where the service refuses.
 */
export async function readEvents(path, after, { onEvents, onNews }, signal) {
  /** @type {Record<string, string>} */
  const headers = after ? { "Last-Event-ID": after } : {};
  const response = await request("GET", path, { accept: "text/event-stream", headers, signal });
  if (!response.body) return; // 204: nothing is left to come.
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onNews();
    const { events, remainder } = parseEvents(rest + decoder.decode(value, { stream: true }));
    rest = remainder;
    if (events.length) onEvents(events);
  }
}

/**
 * Takes the complete events out of a text.
 * @param {string} text Text of a stream, from the beginning of an event.
 * @returns {{events: JobEvent[], remainder: string}} The events, and the text of one that is not complete.
 */
export function parseEvents(text) {
  const blocks = text.replace(/\r\n?/g, "\n").split("\n\n");
  const remainder = blocks.pop() ?? "";
  const events = [];
  for (const block of blocks) {
    /** @type {Record<string, string>} */
    const fields = {};
    for (const line of block.split("\n")) {
      const [, name, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
      if (name) fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
    }
    if (fields.data) events.push({ id: fields.id, type: fields.event, data: JSON.parse(fields.data) });
  }
  return { events, remainder };
}
