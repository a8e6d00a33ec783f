// Imports a model from a file.

import { html, useState } from "../html.js";
import { percentText } from "../jobs/amounts.js";
import { ProblemBanner } from "../problems/banner.js";
import { upload } from "../upload.js";
import { DropZone } from "./drop_zone.js";

const WEIGHTS = ".zip,.safetensors,.pt,.pth,.ckpt";
const HINT =
  "An exported bundle, model.safetensors with its model.json, or a checkpoint of disentangling-vae (with its specs.json) or 1Konny/Beta-VAE.";

/** @param {{isAlone: boolean, onImported: (id: string) => Promise<void>}} props */
export function ImportCard({ isAlone, onImported }) {
  const [stage, setStage] = useState("");
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  /** @param {File[]} files */
  const take = async (files) => {
    const spec = files.find(({ name }) => name.endsWith(".json"));
    const file = files.find((one) => one !== spec);
    if (!file) return;
    const form = new FormData();
    form.append("file", file);
    if (spec) form.append("spec", spec);
    setProblem(null);
    setStage("Sending the model…");
    try {
      const model = await upload("POST", "models", form, (fraction) => {
        setStage(
          fraction < 1
            ? `Sending the model, ${percentText(fraction)}…`
            : "A worker checks it and looks at what each latent does…",
        );
      });
      await onImported(model.id);
    } catch (failure) {
      setProblem(/** @type {import("../api.js").Problem} */ (failure));
    }
    setStage("");
  };
  return html`
    <li class="card add-card">
      ${isAlone && html`<p>These models ship with the service. <a href="#/train">Train your own</a> on your pictures, or import one.</p>`}
      ${problem && html`<${ProblemBanner} problem=${problem} onDismiss=${() => setProblem(null)} />`}
      <${DropZone} id="import-model" title="Drop a model here" hint=${HINT} button="Choose files" accept="${WEIGHTS},.json" multiple=${true}
        onDrop=${(/** @type {DataTransfer} */ dropped) => take([...dropped.files])} onPick=${take} />
      <p role="status">${stage}</p>
    </li>
  `;
}
