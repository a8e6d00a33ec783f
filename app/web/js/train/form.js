// The form that starts a training: pictures, a name, how long. Everything else is folded.

import { Problem, getAllPages, getJson, request } from "../api.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { announceJobs } from "../jobs/polling.js";
import { ProblemBanner } from "../problems/banner.js";
import { linkTo } from "../router.js";
import { EstimateLine } from "./estimate.js";
import { LengthField, requestOf } from "./lengths.js";
import { formLike } from "./like.js";
import { Pictures, uploadPictures } from "./pictures.js";
import { Settings } from "./settings.js";
import { ONE_RUN, SweepFields, gridOf, numRuns } from "./sweep_fields.js";
import { useWorkers } from "./workers.js";

/** @typedef {import("./pictures.js").Choice} Choice */

/** @param {{params: URLSearchParams}} props */
export function TrainForm({ params }) {
  const [datasets, setDatasets] = useState(/** @type {any[] | null} */ (null));
  const [schema, setSchema] = useState(/** @type {any} */ (null));
  const [choice, setChoice] = useState(/** @type {Choice} */ ({ dataset: params.get("dataset") ?? "", files: null }));
  const [name, setName] = useState("");
  const [length, setLength] = useState(/** @type {import("./lengths.js").Length} */ ({ kind: "minutes", minutes: 5 }));
  const [settings, setSettings] = useState(/** @type {Record<string, any>} */ ({}));
  const [runs, setRuns] = useState(ONE_RUN);
  const [stage, setStage] = useState("");
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const workers = useWorkers();
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const key = useRef(newKey());
  const busy = useRef(false);
  const reading = useRef(/** @type {Promise<any>} */ (/** @type {any} */ (null)));
  reading.current ??= getJson("openapi.json").then((api) => api.components.schemas);
  const refused = (/** @type {any} */ error) => {
    if (!(error instanceof Problem)) throw error;
    setProblem(error);
  };
  const readSets = () =>
    getAllPages("datasets").then((datasets) => {
      setDatasets(datasets);
      setChoice((before) => ({ ...before, dataset: before.dataset || datasets[0]?.id || "" }));
    }, refused);
  const fill = (/** @type {Awaited<ReturnType<typeof formLike>>} */ like) => {
    setChoice({ dataset: like.dataset, files: null });
    setName(like.name);
    setSettings(like.settings);
    if (like.length) setLength(like.length);
  };
  useEffect(() => {
    readSets();
    reading.current.then(setSchema, refused);
    const like = params.get("like");
    if (like) reading.current.then((schema) => formLike(like, schema)).then(fill, refused);
  }, []);
  // The banner focuses the field that is wrong, which may be folded.
  useLayoutEffect(() => {
    for (const { field } of problem?.errors ?? []) {
      const fold = form.current?.querySelector(`[name="${CSS.escape(field)}"]`)?.closest("details");
      if (fold) fold.open = true;
    }
  }, [problem]);

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy.current) return;
    busy.current = true;
    setProblem(null);
    const start = "Starting the training…";
    setStage(start);
    try {
      let { dataset } = choice;
      const schemas = await reading.current;
      const grid = gridOf(runs, schemas);
      if (choice.files) {
        const title = name || choice.files.name;
        dataset = await uploadPictures(choice.files, title, setStage);
        setChoice({ dataset, files: null });
        await readSets();
        setStage(start);
      }
      const body = { name: name || null, dataset, ...requestOf(length, settings, schemas), ...(grid && { grid }) };
      const headers = { "Idempotency-Key": key.current };
      const made = await (await request("POST", grid ? "sweeps" : "train-jobs", { json: body, headers })).json();
      announceJobs();
      location.hash = linkTo("train", { [grid ? "sweep" : "job"]: made.id });
    } catch (error) {
      key.current = newKey();
      refused(error);
      setStage("");
    } finally {
      busy.current = false;
    }
  };
  const errors = Object.fromEntries((problem?.errors ?? []).map(({ field, message }) => [field, message]));
  const count = schema ? numRuns(runs, schema) : 1;
  return html`
    <form class="card train-form" ref=${form} onSubmit=${submit} noValidate>
      <h1>Train a model on your pictures</h1>
      <p class="muted">It learns to describe each picture by a few numbers, without labels. While it learns, you see what each number does.</p>
      <${Pictures} datasets=${datasets} choice=${choice} onChoose=${setChoice} error=${errors.dataset ?? errors.file} />
      <div class="field">
        <label for="job-name">Name <span class="hint">optional</span></label>
        <input id="job-name" name="name" value=${name} maxlength="80" aria-invalid=${Boolean(errors.name)}
          aria-describedby=${errors.name ? "name-error" : null} onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
        ${errors.name && html`<p class="field-error" id="name-error">${errors.name}</p>`}
      </div>
      <${LengthField} ownSteps=${settings.num_steps ?? settings.num_epochs} schema=${schema} dataset=${choice.files ? null : choice.dataset} length=${length} onChange=${setLength} error=${errors.minutes ?? errors.preset} />
      <${EstimateLine} body=${schema && choice.dataset && !choice.files ? { dataset: choice.dataset, ...requestOf(length, settings, schema) } : null} />
      <${Settings} schema=${schema} settings=${settings} onChange=${setSettings} errors=${errors} />
      <${SweepFields} schema=${schema} runs=${runs} onChange=${setRuns} errors=${errors} />
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
      ${
        workers === false &&
        html`
        <div class="banner warn" role="status"><p>No worker is there that could train. You can start the training all the same: it waits until one comes (<code>betavae serve</code> brings one).</p></div>`
      }
      <div class="submit">
        <button class="primary" type="submit" disabled=${stage !== "" || (!choice.files && !choice.dataset)}>${count > 1 ? `Train ${count} models` : "Train"}</button>
        <span role="status">${stage}</span>
      </div>
    </form>
  `;
}

/** Returns a new Idempotency-Key, with which a repeated click or a lost answer starts one training only. */
function newKey() {
  return `page-${Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("")}`;
}
