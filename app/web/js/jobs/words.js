// Sentences about jobs.

import { numberText } from "../charts/scale.js";
import { durationText, percentText } from "./amounts.js";

/** @type {Record<string, string>} */
const WAITING = {
  queued: "Waiting for its turn",
  pausing: "Saving a checkpoint before the pause",
  paused: "Paused",
  cancelling: "Stopping",
  cancelled: "Cancelled",
  failed: "Failed",
  succeeded: "Done",
};

/**
 * Says in a sentence what a job is doing.
 * @param {any} job
 * @returns {string}
 */
export function jobSentence(job) {
  const { status, progress } = job;
  if (status === "succeeded" && job.finished_at && job.started_at) {
    return `Done in ${durationText((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000)}.`;
  }
  if (status !== "running") {
    const rest = status === "paused" ? ` at step ${numberText(progress.step)}` : "";
    return `${WAITING[status] ?? status}${rest}.`;
  }
  if (progress.phase === "packing") return `Reading the pictures, ${percentText(progress.phase_fraction)}.`;
  if (progress.phase === "naming") return "Trained. Looking at what each latent does.";
  if (progress.phase === "evaluating") return `Trained. Computing scores, ${percentText(progress.phase_fraction)}.`;
  if (!progress.step) return "Starting.";
  const left = progress.eta_seconds ? `, ${durationText(progress.eta_seconds)} left` : "";
  return `${stage(job)}${left}.`;
}

/** @param {any} job What a running training learns now. */
function stage({ progress, metrics, config }) {
  const { capacity, kl } = metrics;
  if (progress.fraction > 0.8 && config.learning_rate_schedule === "cooldown")
    return "Polishing: the learning rate falls";
  if ((kl ?? 0) < 1) return "Learning the average picture";
  const most = config.capacity_max;
  if (typeof capacity === "number" && capacity < 0.98 * most) {
    return `Learning one factor after another, C at ${numberText(capacity)} of ${numberText(most)} nats`;
  }
  return progress.fraction < 0.3 ? "Learning shapes" : "Learning details";
}
