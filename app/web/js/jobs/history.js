// What is known about a job: its attempts, its numbers by step, and its story. Events may come twice and late.

/**
 * @typedef {import("./stream.js").JobEvent} JobEvent
 * @typedef {Record<string, any> & {step: number}} Numbers One record of a run: losses in nats, KL per dimension, C.
 * @typedef {{number: number, from: number, worker: string, startedAt: string, lastStep: number, lastAt: string, isPlaced: boolean}} Attempt
 *   `isPlaced`: it is known at which step it began.
 * @typedef {{at: string, kind: string, text: string}} Chapter
 * @typedef {{attempt: number, lost: boolean, points: Numbers[]}} Trace
 */

/** @type {Record<string, string>} */
const ENDINGS = {
  paused: "Paused after a checkpoint.",
  cancelled: "Cancelled.",
  succeeded: "Done.",
  cancelling: "Asked to cancel.",
  pausing: "Asked to pause.",
  finishing: "Asked to finish now and keep what is learnt.",
};

const ENDED = ["succeeded", "failed", "cancelled"];

export class History {
  constructor() {
    /** Changes with everything that is taken. */
    this.version = 0;
    /** @type {string | null} Id of the newest event. */
    this.lastId = null;
    /** @type {JobEvent[]} Every event that was taken, for tabs that open later. */
    this.log = [];
    /** @type {Attempt[]} */
    this.attempts = [];
    /** @type {Chapter[]} */
    this.story = [];
    /** @type {Map<number, string>} When each step's checkpoint was written. */
    this.checkpoints = new Map();
    /** @type {Numbers[][]} The numbers that each attempt reported, in the order of the attempts. */
    this.reported = [];
    /** @type {Numbers[]} The numbers that the run keeps, by step. */
    this.recorded = [];
    /** @type {Numbers[]} Losses on the validation images, by step. */
    this.validations = [];
  }

  /**
   * Takes an event, unless it is known.
   * @param {JobEvent} event
   * @returns {boolean} Whether it was new.
   */
  take(event) {
    if (this.lastId !== null && !isAfter(event.id, this.lastId)) return false;
    this.lastId = event.id;
    this.version += 1;
    const packs = event.type === "packing" && this.log.at(-1)?.type === "packing";
    if (packs) this.log.pop();
    this.log.push(event);
    this.#tell(event);
    return true;
  }

  /** Whether the run was asked to finish early. */
  get isFinishing() {
    const newest = this.log.findLast(
      ({ type, data }) => type === "finishing" || data.finishing || ENDED.includes(type),
    );
    return newest !== undefined && !ENDED.includes(newest.type);
  }

  /** @param {JobEvent} event */
  #tell({ type, data }) {
    const at = data.at;
    const attempt = this.attempts.at(-1);
    if (data.restored) this.#add(at, "state", "Restored from its files, since the job store had lost it.");
    else if (type === "progress") this.#report(data, at);
    else if (type === "running") this.#begin(data, at);
    else if (type === "resumed") this.#resume(data.step, at);
    else if (type === "checkpoint") this.checkpoints.set(data.step, at);
    else if (type === "warning") this.#add(at, "warning", data.message);
    else if (type === "queued" && data.reason === "worker lost") {
      this.#add(at, "killed", `The worker died${attempt?.lastStep ? ` after step ${attempt.lastStep}` : ""}.`);
    } else if (type === "queued") this.#add(at, "state", attempt ? "Back in the queue." : "Put into the queue.");
    else if (type === "failed")
      this.#add(at, "killed", `Failed${attempt?.lastStep ? ` at step ${attempt.lastStep}` : ""}.`);
    else if (type === "started_from") this.#add(at, "state", `Started from the weights of ${data.model}.`);
    else if (type in ENDINGS) this.#add(at, "state", ENDINGS[type]);
  }

  /**
   * Returns the story from its start on, which the record of the job has where its log is lost.
   * @param {{created_at: string, started_at?: string | null}} job
   * @returns {Chapter[]}
   */
  storyOf({ created_at: created, started_at: started }) {
    const [first] = this.log;
    if (!first || (first.type === "queued" && !first.data.restored)) return this.story;
    const start = [{ at: created, kind: "state", text: "Put into the queue." }];
    const isStarted = started && Date.parse(started) < Date.parse(first.data.at);
    if (isStarted) start.push({ at: started, kind: "state", text: "Started." });
    return [...start, ...this.story];
  }

  /** @param {string} at @param {string} kind @param {string} text */
  #add(at, kind, text) {
    this.story.push({ at, kind, text });
  }

  /** @param {Record<string, any>} data @param {string} at */
  #begin(data, at) {
    const number = data.attempt;
    this.attempts.push({
      number,
      from: 0,
      worker: data.worker,
      startedAt: at,
      lastStep: 0,
      lastAt: at,
      isPlaced: number === 1,
    });
    this.reported.push([]);
    this.#add(
      at,
      "state",
      number === 1 ? `Started by ${data.worker}.` : `Attempt ${number} started by ${data.worker}.`,
    );
  }

  /** @param {number} step @param {string} at */
  #resume(step, at) {
    const attempt = this.attempts.at(-1);
    if (!attempt) return;
    attempt.from = attempt.lastStep = step;
    attempt.isPlaced = true;
    const before = this.attempts.at(-2);
    const saved = step ? this.checkpoints.get(step) : before?.startedAt;
    const lost = before && before.lastStep > step && saved ? secondsBetween(saved, before.lastAt) : 0;
    const where = step ? `Resumed at step ${step}` : "Started again, since there was no checkpoint yet";
    this.#add(at, "resumed", `${where}${lost >= 1 ? `, ${Math.round(lost)} s of work lost` : ""}.`);
  }

  /** @param {Record<string, any>} data @param {string} at */
  #report(data, at) {
    const step = data.progress.step;
    // The log of a restored job begins later; what is left belongs to an attempt that nobody announced.
    if (!this.attempts.length) {
      this.attempts.push({ number: 1, from: 0, worker: "", startedAt: at, lastStep: 0, lastAt: at, isPlaced: true });
      this.reported.push([]);
    }
    const attempt = /** @type {Attempt} */ (this.attempts.at(-1));
    if (!attempt.isPlaced) this.#resume(0, at);
    attempt.lastStep = step;
    attempt.lastAt = at;
    this.reported.at(-1)?.push({ step, ...data.metrics });
  }

  /**
   * Takes the numbers of the run's file, which are complete up to now.
   * @param {string} text JSON lines.
   */
  setRecords(text) {
    this.version += 1;
    const records = text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
    this.recorded = records.filter((record) => record.kl_per_dimension);
    this.validations = records.filter((record) => "validation_reconstruction_loss" in record);
  }

  /**
   * Returns the numbers by attempt, for curves that do not jump where a run was resumed.
   * @returns {Trace[]} Traces in the order of the steps; `lost` is work that a later attempt has done again.
   */
  traces() {
    const starts = this.attempts.length ? this.attempts.map((attempt) => attempt.from) : [0];
    const traces = starts.map((from, k) => {
      const until = Math.min(Infinity, ...starts.slice(k + 1));
      const kept = this.recorded.filter((record) => record.step > from && record.step <= until);
      const newest = kept.at(-1)?.step ?? from;
      const live = (this.reported[k] ?? []).filter((record) => record.step > newest && record.step <= until);
      return { attempt: k + 1, lost: false, points: unique([...kept, ...live]) };
    });
    const lost = this.reported.slice(0, -1).map((points, k) => {
      const until = Math.min(...starts.slice(k + 1));
      return { attempt: k + 1, lost: true, points: unique(points.filter((record) => record.step > until)) };
    });
    return [...lost, ...traces].filter((trace) => trace.points.length);
  }
}

/**
 * Returns whether an event id comes after another.
 * @param {string} id
 * @param {string} other
 */
export function isAfter(id, other) {
  const [milliseconds, number] = id.split("-").map(Number);
  const [otherMilliseconds, otherNumber] = other.split("-").map(Number);
  return milliseconds > otherMilliseconds || (milliseconds === otherMilliseconds && number > otherNumber);
}

/** @param {Numbers[]} records @returns {Numbers[]} One record for each step. */
function unique(records) {
  return [...new Map(records.map((record) => [record.step, record])).values()];
}

/** @param {string} from @param {string} to */
function secondsBetween(from, to) {
  return (Date.parse(to) - Date.parse(from)) / 1000;
}
