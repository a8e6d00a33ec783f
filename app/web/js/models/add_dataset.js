// Adds a data set: a zip or pictures are judged, sent, and packed, so that its counts are known at once.

import { sendJson } from "../api.js";
import { html, useState } from "../html.js";
import { ProblemBanner } from "../problems/banner.js";
import { Verdicts, uploadPictures } from "../train/pictures.js";
import { filesOf } from "../train/verdicts.js";
import { DropZone } from "./drop_zone.js";

const IMAGE_SIZE = 64;

/** @typedef {import("../train/pictures.js").Files} Files */

/** @param {{onAdded: (id: string) => Promise<void>}} props */
export function AddDataset({ onAdded }) {
  const [found, setFound] = useState(/** @type {import("../train/verdicts.js").Found[] | null} */ (null));
  const [files, setFiles] = useState(/** @type {Files | null} */ (null));
  const [name, setName] = useState("");
  const [stage, setStage] = useState("");
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  /** @param {import("../train/verdicts.js").Found[]} some */
  const take = (some) => some.length && setFound(some.sort((a, b) => (a.path < b.path ? -1 : 1)));
  const clear = () => (setFound(null), setFiles(null), setName(""));
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!files) return;
    setProblem(null);
    try {
      const id = await uploadPictures(files, name || files.name, setStage);
      await sendJson("POST", `datasets/${id}/packs`, { image_size: IMAGE_SIZE }).catch(() => undefined); // A training packs it too.
      clear();
      await onAdded(id);
    } catch (failure) {
      setProblem(/** @type {import("../api.js").Problem} */ (failure));
    }
    setStage("");
  };
  return html`
    <li class="card add-card">
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
      ${
        !found &&
        html`<${DropZone} id="add-pictures" title="Drop pictures, a folder or a zip here" hint="Also pixels in an .npz, .npy or .h5 file."
        button="Choose files" accept="image/*,.zip,.npz,.npy,.h5,.hdf5" multiple=${true}
        onDrop=${async (/** @type {DataTransfer} */ dropped) => take(await filesOf(dropped))}
        onPick=${(/** @type {File[]} */ some) => take(some.map((file) => ({ path: file.name, file })))} />`
      }
      ${
        found &&
        html`<form class="add-form" onSubmit=${onSubmit}>
        <${Verdicts} found=${found} onReady=${setFiles} onClear=${clear} />
        <label>Name <input name="name" value=${name} placeholder=${files?.name ?? ""} onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
        <button class="primary" disabled=${!files || stage !== ""}>Add data set</button>
      </form>`
      }
      <p role="status">${stage}</p>
    </li>
  `;
}
