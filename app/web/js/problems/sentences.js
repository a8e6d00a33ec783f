// What each problem means for a visitor, and what to do next. Keys are the codes of app/problems.py and of api.js.

/** @type {Record<string, [string, string]>} Code → [sentence, next step]. */
export const SENTENCES = {
  // The page's own
  unreachable: [
    "The service does not answer.",
    "Check that it runs, then try again. Trainings go on without this page.",
  ],
  unexpected_answer: [
    "The answer did not come from the service.",
    "A proxy may stand between. Try again, or ask whoever runs it.",
  ],
  // 400 to 409
  bad_request: ["The request could not be read.", "Reload the page and try again."],
  token_required: [
    "The service asks for a token.",
    "Enter the one that its operator made for you: betavae tokens add.",
  ],
  scope_missing: ["Your token does not allow this.", "Ask the service's operator for one of a larger scope."],
  cross_site_refused: [
    "The service took this page for one of another site.",
    "Open the page at the service's own address.",
  ],
  not_found: ["There is nothing at this address.", "The service may be newer than this page: reload the page."],
  unknown_traversal: ["This traversal is gone.", "Make it again: the same request gives the same pictures."],
  unknown_job: ["This job is gone.", "It may have been deleted. The list of trainings has all others."],
  unknown_sweep: ["This sweep is gone.", "It may have been deleted. Start it again."],
  unknown_model: ["This model is gone.", "It may have been deleted. Choose another one under Models."],
  unknown_dataset: ["This data set is gone.", "It may have been deleted. Choose or add another one under Models."],
  unknown_file: ["This file is gone.", "Make it again."],
  method_not_allowed: ["The service does not take this request.", "It may be newer than this page: reload the page."],
  not_acceptable: ["The service cannot answer in this format.", "It may be newer than this page: reload the page."],
  transition_refused: [
    "The job has moved on in the meantime.",
    "Look at its state now; what you asked for may be done already.",
  ],
  already_exists: ["This name is taken.", "Choose another one."],
  in_use: [
    "It is in use.",
    "Wait for the job that needs it, or cancel that job; make another model the default first.",
  ],
  read_only: [
    "This ships with the service and cannot be changed.",
    "Export the model and import it under a name of your own.",
  ],
  not_ready: ["It is not ready yet.", "Try again in a moment."],
  idempotency_conflict: ["This was sent before with other settings.", "Reload the page and send it again."],
  // 413 to 422
  upload_too_large: [
    "The file is too large for this service.",
    "Send fewer or smaller pictures, or register a folder: betavae datasets add.",
  ],
  image_too_large: ["The picture has too many pixels.", "Scale it down; models look at 64 × 64 pixels anyway."],
  request_timeout: ["The upload came too slowly.", "Check the connection, then send it again."],
  ambiguous_name: ["Several things have this name.", "Use the id of the one that you mean; the details list them."],
  model_overflow: [
    "The model's numbers overflow.",
    "Its weights are too large to compute with; train or import another one.",
  ],
  unsupported_media_type: [
    "The service does not take files of this kind.",
    "Send PNG, JPEG or WebP pictures, or a zip of them.",
  ],
  unsupported_image: ["The service does not read this picture format.", "Save it as PNG or JPEG."],
  range_not_satisfiable: ["The file is shorter than expected.", "Load it again from its start."],
  host_not_allowed: [
    "The service does not answer to this address.",
    "Its operator can allow it: see BETAVAE_ALLOWED_HOSTS under Operations.",
  ],
  invalid_request: ["A value does not fit.", "Mend the field that is named here."],
  not_an_image: ["The file is not a picture, or is damaged.", "Open it in a viewer; if it shows, save it anew as PNG."],
  invalid_dataset: ["The file is not a data set.", "Send a zip of pictures, or an .npz, .npy or .h5 file of pixels."],
  invalid_model: [
    "The file is not a model.",
    "Send an exported bundle, a .safetensors file, or a checkpoint of a supported project.",
  ],
  // 421 and above
  too_many_jobs: ["Too much work is waiting already.", "Wait for a job to end, or cancel one."],
  too_many_requests: ["You have too much under way at once.", "Wait for some of it to end, then try again."],
  request_failed: ["The work failed.", "Try again. If it fails again, the details say why."],
  internal_error: ["The service made a mistake.", "Try again. If it happens again, report the details."],
  job_store_unavailable: [
    "The service cannot reach its job store.",
    "Try again in a moment. Its operator can check that Redis runs.",
  ],
  workers_busy: [
    "No worker answered in time.",
    "Try again when a training has ended. A service without workers needs one: betavae serve starts them.",
  ],
  storage_full: [
    "The disk of the service is full.",
    "Delete data sets or models that you do not need, then try again.",
  ],
};

/**
 * Returns the sentence and the next step for a problem.
 * @param {{code: string}} problem
 * @returns {[string, string]}
 */
export function sentenceOf(problem) {
  return SENTENCES[problem.code] ?? ["Something went wrong.", "Try again. If it happens again, report the details."];
}
