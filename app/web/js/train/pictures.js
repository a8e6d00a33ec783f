// The choice of pictures: a data set of the service, or one's own files.

import { Problem } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { upload } from "../upload.js";
import { filesOf, isArchive, judge, judgeArchive } from "./verdicts.js";
import { zipOf } from "./zip.js";

/**
 * @typedef {import("./verdicts.js").Found} Found
 * @typedef {import("./verdicts.js").Verdict} Verdict
 * @typedef {{name: string, archive: File | null, pictures: Found[]}} Files What is to be sent.
 * @typedef {{dataset: string, files: Files | null}} Choice
 */

/** @param {{datasets: any[] | null, choice: Choice, onChoose: (choice: Choice) => void, error?: string}} props */
export function Pictures({ datasets, choice, onChoose, error }) {
  const [found, setFound] = useState(/** @type {Found[] | null} */ (null));
  const [over, setOver] = useState(false);
  const take = (/** @type {Found[]} */ files) =>
    files.length && setFound(files.sort((a, b) => (a.path < b.path ? -1 : 1)));
  const onDrop = async (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer) take(await filesOf(event.dataTransfer));
  };
  const onPick = (/** @type {any} */ event) => {
    take([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
    event.target.value = "";
  };
  const clear = () => (setFound(null), onChoose({ ...choice, files: null }));
  // Files that were sent are a data set now.
  useEffect(() => {
    if (found && choice.files === null && sent.current) setFound(null);
    sent.current = choice.files !== null;
  }, [choice.files]);
  const sent = useRef(false);
  return html`
    <fieldset class="field pictures" aria-describedby=${error ? "pictures-error" : null}>
      <legend>Pictures</legend>
      ${
        !found &&
        html`
        <label for="dataset">A data set that is here</label>
        <select id="dataset" name="dataset" value=${choice.dataset} aria-invalid=${Boolean(error)} onChange=${(/** @type {any} */ event) => onChoose({ dataset: event.target.value, files: null })}>
          ${datasets === null && html`<option value="">Loading…</option>`}
          ${datasets?.map((set) => html`<option value=${set.id}>${set.name}${set.num_images ? ` (${set.num_images} pictures)` : ""}</option>`)}
        </select>`
      }
      <div class="drop ${over ? "over" : ""}" onDragOver=${(/** @type {Event} */ event) => (event.preventDefault(), setOver(true))}
        onDragLeave=${() => setOver(false)} onDrop=${onDrop}>
        ${
          found
            ? html`<${Verdicts} found=${found} onReady=${(/** @type {Files | null} */ files) => onChoose({ ...choice, files })} onClear=${clear} />`
            : html`
            <p><strong>or your own: drop pictures, a folder or a zip here</strong></p>
            <p class="hint">Some hundred pictures of one kind of thing are a start; a few thousand are good.</p>
            <p class="pick">
              <label class="button">Choose files<input class="visually-hidden" type="file" id="own-pictures" multiple accept="image/*,.zip,.npz,.npy,.h5,.hdf5" onChange=${onPick} /></label>
              <label class="button">Choose a folder<input class="visually-hidden" type="file" id="own-folder" webkitdirectory onChange=${onPick} /></label>
            </p>`
        }
      </div>
      ${error && html`<p class="field-error" id="pictures-error">${error}</p>`}
    </fieldset>
  `;
}

/** @param {{found: Found[], onReady: (files: Files | null) => void, onClear: () => void}} props */
export function Verdicts({ found, onReady, onClear }) {
  const [verdicts, setVerdicts] = useState(/** @type {Verdict[]} */ ([]));
  useEffect(() => {
    const stop = new AbortController();
    look(found, (all) => !stop.signal.aborted && setVerdicts(all), stop.signal).then(
      (files) => !stop.signal.aborted && onReady(files),
    );
    return () => stop.abort();
  }, [found]);
  const bad = verdicts.filter((verdict) => !verdict.good);
  const good = verdicts.length - bad.length;
  const ends = verdicts.length === found.length;
  return html`
    <p role="status"><strong>${isArchive(found) ? found[0].path : `${good} of ${found.length} files can be used`}</strong>
      ${ends ? "" : ` · looking at them, ${verdicts.length} done`}</p>
    ${!ends && html`<progress max=${found.length} value=${verdicts.length} aria-label="Files looked at"></progress>`}
    <ul class="verdicts" tabindex="0" aria-label="Verdict of each file">
      ${[...bad, ...verdicts.filter((verdict) => verdict.good)].slice(0, 200).map(
        (verdict) => html`
        <li key=${verdict.path} class=${verdict.good ? "good" : "bad"}><span aria-hidden="true">${verdict.good ? "✓" : "✕"}</span><span class="path">${verdict.path}</span><span class="muted">${verdict.text}</span></li>`,
      )}
    </ul>
    ${ends && bad.length > 0 && good > 0 && html`<p class="hint">${bad.length === 1 ? "One file is" : `${bad.length} files are`} left out.</p>`}
    <button type="button" class="quiet" onClick=${onClear}>Choose others</button>
  `;
}

/**
 * Judges the files and returns what is to be sent, or null where nothing can be used.
 * @param {Found[]} found
 * @param {(verdicts: Verdict[]) => void} onVerdicts Called some ten times a second.
 * @param {AbortSignal} signal
 * @returns {Promise<Files | null>}
 */
async function look(found, onVerdicts, signal) {
  const name = nameOf(found);
  if (isArchive(found)) {
    const verdict = { ...found[0], ...(await judgeArchive(found[0].file)) };
    onVerdicts([verdict]);
    return verdict.good ? { name, archive: found[0].file, pictures: [] } : null;
  }
  /** @type {Verdict[]} */
  const verdicts = [];
  let shown = 0;
  await judge(
    found,
    (verdict) => {
      verdicts.push(verdict);
      if (performance.now() - shown > 100) {
        shown = performance.now();
        onVerdicts([...verdicts]);
      }
    },
    signal,
  );
  onVerdicts([...verdicts]);
  const pictures = verdicts.filter((verdict) => verdict.good);
  return pictures.length ? { name, archive: null, pictures } : null;
}

/** @param {Found[]} found @returns {string} The name of the common folder, or of the file, as the service allows names. */
function nameOf(found) {
  const [folder, rest] = found[0].path.split("/");
  const isShared = rest !== undefined && found.every(({ path }) => path.startsWith(`${folder}/`));
  const name = found.length === 1 ? folder.replace(/\.\w+$/, "") : isShared ? folder : "";
  const allowed = name
    .replace(/[^A-Za-z0-9 ._()-]+/g, " ")
    .replace(/^[^A-Za-z0-9]+/, "")
    .trim();
  return allowed || "my pictures";
}

/**
 * Sends files as a new data set.
 * @param {Files} files
 * @param {string} name
 * @param {(stage: string) => void} onStage Called with a sentence about what is done now.
 * @returns {Promise<string>} Id of the data set.
 */
export async function uploadPictures(files, name, onStage) {
  let body = files.archive;
  if (!body) {
    const { length } = files.pictures;
    const archive = await zipOf(
      files.pictures,
      (done) => done % 20 === 0 && onStage(`Packing the pictures, ${done} of ${length}…`),
    ).catch(() => {
      throw new Problem({
        code: "upload_too_large",
        detail: "These are too many pictures for one upload. Zip them, or let the service read their folder.",
      });
    });
    body = new File([archive], "pictures.zip");
  }
  const form = new FormData();
  form.append("name", name.slice(0, 80));
  form.append("file", body, body.name);
  onStage("Sending the pictures…");
  const dataset = await upload("POST", "datasets", form, (fraction) => {
    onStage(
      fraction < 1 ? `Sending the pictures, ${Math.floor(100 * fraction)} %…` : "The service looks at the pictures…",
    );
  });
  return dataset.id;
}
