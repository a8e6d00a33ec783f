// "A new one like it": the form with the settings of an earlier training.

import { getJson } from "../api.js";

/**
 * Returns what the form shows for a job.
 * @param {string} jobId
 * @param {any} schema Schemas of the service's OpenAPI document.
 * @returns {Promise<{dataset: string, name: string, length: import("./lengths.js").Length | null, settings: Record<string, any>}>}
 *   Only settings that differ from the defaults; `length` is null where num_steps or num_epochs gives it.
 */
export async function formLike(jobId, schema) {
  const job = await getJson(`train-jobs/${jobId}`);
  const { properties } = schema.TrainingConfig;
  const differs = (/** @type {[string, any]} */ [name, value]) =>
    name in properties && value !== null && value !== (properties[name]["x-default"] ?? null);
  const settings = Object.fromEntries(Object.entries(job.config).filter(differs));
  if (job.minutes) for (const name of ["num_steps", "num_epochs"]) delete settings[name];
  if (job.evaluate.length) settings.evaluate = true;
  const length = job.minutes ? { kind: /** @type {const} */ ("minutes"), minutes: job.minutes } : null;
  // A run of the default length has it in its settings, too.
  if (!length && settings.num_epochs === undefined) settings.num_steps = job.config.num_steps;
  return { dataset: job.dataset, name: job.name, length, settings };
}
