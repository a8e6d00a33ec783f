// What to do about a training that failed, by the code of its error.

/** @type {Record<string, string>} */
const NEXT_STEPS = {
  diverged: "Start a new one like it with a lower learning rate, or another seed.",
  worker_lost:
    "A worker that dies again and again lacks memory more often than not: try a smaller batch or pictures of 64 px.",
  invalid_config: "Start a new one like it, and change the setting that is named.",
  invalid_dataset: "Look at the data set's rejected files, and send its pictures again.",
  unknown_dataset: "The data set is gone; send its pictures again.",
  unknown_model: "The model to start from is gone; start a new training without it.",
  checkpoint_mismatch: "Start a new one like it; its checkpoint belongs to other settings.",
  storage_failed: "Make room on the service's disk, then try again.",
  packing_died: "One of the pictures may be damaged; look at the worker's log, or send the pictures again.",
};

/**
 * Returns the next step after a failure.
 * @param {{code: string} | null} error
 * @returns {string} A sentence; empty where nothing better than another try is known.
 */
export function nextStepAfter(error) {
  return NEXT_STEPS[error?.code ?? ""] ?? "";
}

/**
 * Writes the message of an error or of a warning as a sentence.
 * @param {{message: string} | null} error
 */
export function sentenceOfError(error) {
  const text = (error?.message ?? "").trim();
  return text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "";
}
