// Follows a job: its whole history first, then what happens. All tabs of a browser share one stream of events, since
// browsers allow six connections to a service over HTTP/1.1.

import { Problem, getJson, request } from "../api.js";
import { inOrder } from "../newest.js";
import { History } from "./history.js";
import { pause, withPlace } from "./places.js";
import { readEvents } from "./stream.js";

const SILENCE_SECONDS = 40; // The service pings every 15 s.
const LONGEST_WAIT_SECONDS = 15;
export const FINISHED = ["succeeded", "failed", "cancelled"];

/** @typedef {"loading" | "live" | "reconnecting" | "ended"} Connection */

export class Feed {
  /**
   * @param {string} jobId
   * @param {() => void} onChange Called after changes, at most some twelve times a second.
   */
  constructor(jobId, onChange) {
    this.path = `train-jobs/${jobId}`;
    /** @type {any} The job, as the service describes it. */
    this.job = null;
    this.history = new History();
    /** @type {number[]} Steps that have a preview. */
    this.previews = [];
    /** @type {Connection} */
    this.connection = "loading";
    /** @type {Problem | null} Why the job cannot be shown. */
    this.problem = null;
    this.lastNews = Date.now();
    this.#onChange = onChange;
    this.#channel = new BroadcastChannel(`betavae-${jobId}`);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    document.addEventListener("visibilitychange", this.#wake);
    window.addEventListener("pageshow", this.#wake);
    this.#watch = window.setInterval(() => this.#check(), 5000);
    this.#start();
  }

  #onChange;
  #channel;
  #watch;
  #closed = new AbortController();
  #stream = new AbortController();
  #leads = false;
  #timer = 0;
  #interval = 0;
  #ask = inOrder();

  /** Ends all work of the feed. */
  close() {
    this.#closed.abort();
    this.#stream.abort();
    this.#channel.close();
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#wake);
    window.removeEventListener("pageshow", this.#wake);
  }

  async #start() {
    await this.refresh();
    if (this.problem?.code === "unknown_job") return;
    this.#channel.postMessage({ kind: "hello" });
    await this.#lead();
  }

  /** Reads the job, its numbers and its previews anew. */
  async refresh() {
    const isNewest = this.#ask();
    try {
      const signal = this.#closed.signal;
      const [job, metrics] = await Promise.all([
        getJson(this.path, { signal }),
        request("GET", `${this.path}/metrics`, { accept: "application/x-ndjson", signal }).then((answer) =>
          answer.text(),
        ),
      ]);
      if (!isNewest()) return;
      this.job = job;
      this.history.setRecords(metrics);
      this.problem = null;
      await this.#listPreviews();
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      if (!this.job || error.code === "unknown_job") this.problem = error;
    }
    this.#changed();
  }

  async #listPreviews() {
    const { previews } = await getJson(`${this.path}/previews`, { signal: this.#closed.signal });
    this.previews = previews.map((/** @type {string} */ url) => parseInt(url.split("/").at(-1) ?? "0", 10));
    this.#interval = this.previews.length > 1 ? this.previews[1] - this.previews[0] : 0;
  }

  /** Waits until this tab is the one of the browser that reads the stream, and reads it. */
  async #lead() {
    if (!navigator.locks) return this.#follow(); // Plain HTTP to another machine has no locks.
    const signal = this.#closed.signal;
    try {
      await navigator.locks.request(`betavae-${this.path}`, { signal }, () =>
        withPlace(
          signal,
          () => this.#follow(),
          () => this.refresh(),
        ),
      );
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #follow() {
    this.#leads = true;
    let failures = 0;
    while (!this.#closed.signal.aborted) {
      this.#stream = new AbortController();
      const onNews = () => {
        failures = 0;
        this.#hear({ kind: "connection", connection: "live" }, true);
      };
      try {
        await readEvents(
          `${this.path}/events`,
          this.history.lastId,
          { onNews, onEvents: this.#tell },
          this.#stream.signal,
        );
        await this.refresh();
        if (FINISHED.includes(this.job?.status)) break;
      } catch (error) {
        if (this.#closed.signal.aborted) return;
        if (error instanceof Problem && error.code === "unknown_job") {
          this.problem = error;
          break;
        }
      }
      failures += 1;
      this.#hear({ kind: "connection", connection: "reconnecting" }, true);
      await pause(Math.min(LONGEST_WAIT_SECONDS, 2 ** (failures - 1)), this.#closed.signal);
      await this.refresh();
    }
    this.#leads = false;
    this.#hear({ kind: "connection", connection: "ended" }, true);
  }

  /** Follows a job that goes on after its end: it was returned to the queue. */
  async again() {
    await this.refresh();
    if (this.connection === "ended" && !FINISHED.includes(this.job?.status)) {
      this.connection = "loading";
      this.#lead();
    }
  }

  /** @param {import("./stream.js").JobEvent[]} events */
  #tell = (events) => this.#hear({ kind: "events", events }, true);

  /**
   * Takes what this tab or the one that reads the stream found.
   * @param {any} message
   * @param {boolean} [own] Whether it is to be passed on to the other tabs.
   */
  #hear(message, own = false) {
    if (this.#closed.signal.aborted) return;
    if (message.kind === "hello") {
      if (!this.#leads) return;
      this.#channel.postMessage({ kind: "events", events: this.history.log });
      this.#channel.postMessage({ kind: "connection", connection: this.connection });
      return;
    }
    if (message.kind === "connection") {
      const isNew = this.connection !== message.connection;
      this.connection = message.connection;
      if (message.connection === "live") this.lastNews = Date.now();
      if (!isNew && message.connection === "live" && own) return this.#passOn(message, own);
    }
    if (message.kind === "events") this.#takeAll(message.events);
    this.#passOn(message, own);
    this.#changed();
  }

  /** @param {any} message @param {boolean} own */
  #passOn(message, own) {
    if (own) this.#channel.postMessage(message);
  }

  /** @param {import("./stream.js").JobEvent[]} events */
  #takeAll(events) {
    const fresh = events.filter((event) => this.history.take(event));
    this.lastNews = Date.now();
    let changes = false;
    for (const { type, data } of fresh) {
      if (!this.job || Date.parse(data.at) < Date.parse(this.job.updated_at)) continue;
      if (type === "progress") {
        this.job = { ...this.job, status: data.status, progress: data.progress, metrics: data.metrics };
      } else if (type === "packing") {
        const progress = { ...this.job.progress, phase: "packing", phase_fraction: data.fraction };
        this.job = { ...this.job, status: data.status, progress };
      } else changes = true;
    }
    if (changes) this.refresh();
    else if (this.#previewIsDue())
      this.#listPreviews().then(
        () => this.#changed(),
        () => undefined,
      );
  }

  #previewIsDue() {
    const step = this.job?.progress.step ?? 0;
    return step > 0 && (this.previews.length < 2 || step >= (this.previews.at(-1) ?? 0) + this.#interval);
  }

  #wake = () => {
    if (document.visibilityState === "visible") this.#check(20);
  };

  /** Reads anew what was missed while the machine slept or the connection was dead. */
  #check(seconds = SILENCE_SECONDS) {
    if (this.connection === "ended" || Date.now() - this.lastNews < seconds * 1000) return;
    this.lastNews = Date.now();
    if (this.#leads) this.#stream.abort();
    else this.refresh();
  }

  #changed() {
    if (this.#timer || this.#closed.signal.aborted) return;
    this.#timer = window.setTimeout(() => {
      this.#timer = 0;
      this.#onChange();
    }, 80);
  }
}
