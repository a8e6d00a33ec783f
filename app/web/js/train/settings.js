// All settings of a training, folded and searchable. Texts, bounds and defaults are those of the service's own schema.

import { html, useState } from "../html.js";

/** @typedef {Record<string, any>} Values */

/** @param {{schema: any, settings: Values, onChange: (settings: Values) => void, errors: Record<string, string>}} props */
export function Settings({ schema, settings, onChange, errors }) {
  const [query, setQuery] = useState("");
  const properties = schema?.TrainingConfig.properties ?? {};
  const objective = settings.objective ?? properties.objective?.["x-default"];
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const isShown = (/** @type {string} */ name) => {
    const { description, "x-objectives": readers } = properties[name];
    if (name in settings || errors[`config.${name}`]) return true;
    if (!words.length) return !readers || readers.includes(objective);
    return words.every((word) => `${name} ${description}`.toLowerCase().includes(word));
  };
  const set = (/** @type {string} */ name, /** @type {any} */ value) => {
    const { [name]: _, ...others } = settings;
    onChange(value === undefined ? others : { ...others, [name]: value });
  };
  const names = Object.keys(properties).filter(isShown);
  const changed = Object.keys(settings).length;
  return html`
    <details class="field all-settings">
      <summary>All settings ${changed > 0 && html`<span class="status">${changed} changed</span>`}</summary>
      ${!schema && html`<p class="muted">Loading…</p>`}
      <label class="visually-hidden" for="settings-query">Search the settings</label>
      <input id="settings-query" type="search" placeholder="Search, for example capacity" value=${query} onInput=${(/** @type {any} */ event) => setQuery(event.target.value)} />
      <p class="hint" role="status">${names.length} of ${Object.keys(properties).length} settings${words.length ? "" : ", those of the chosen objective"}. What you leave alone comes from the choice above.</p>
      ${names.map(
        (name) => html`
        <${Setting} key=${name} name=${name} schema=${properties[name]} value=${settings[name]} error=${errors[`config.${name}`]} onChange=${(/** @type {any} */ value) => set(name, value)} />`,
      )}
      <label class="setting check"><input type="checkbox" name="evaluate" checked=${Boolean(settings.evaluate)} onChange=${(/** @type {any} */ event) => set("evaluate", event.target.checked || undefined)} />
        <span>Compute scores at the end<span class="hint">MIG, SAP and others, for sets whose factors are known; takes minutes.</span></span></label>
    </details>
  `;
}

/** @param {{name: string, schema: any, value: any, error?: string, onChange: (value: any) => void}} props */
function Setting({ name, schema, value, error, onChange }) {
  const kind = schema.anyOf?.find((/** @type {any} */ one) => one.type !== "null") ?? schema;
  const id = `config.${name}`;
  const fallback = schema["x-default"];
  const shared = { id, name: id, "aria-invalid": Boolean(error), "aria-describedby": `${id}-text` };
  const read = (/** @type {any} */ event) => {
    const text = event.target.value;
    onChange(text === "" ? undefined : kind.type === "string" ? text : Number(text));
  };
  return html`
    <div class="setting ${value === undefined ? "" : "changed"}">
      <label for=${id}>${name}</label>
      ${
        kind.enum
          ? html`<select ...${shared} value=${value ?? ""} onChange=${read}><option value="">${defaultText(fallback)}</option>${kind.enum.map((/** @type {any} */ choice) => html`<option value=${choice}>${choice}</option>`)}</select>`
          : html`<input ...${shared} type="number" step=${kind.type === "integer" ? 1 : "any"} min=${kind.minimum ?? kind.exclusiveMinimum} max=${kind.maximum} placeholder=${defaultText(fallback)} value=${value ?? ""} onInput=${read} />`
      }
      <p class="hint" id="${id}-text">${schema.description}${boundsText(kind)}</p>
      ${error && html`<p class="field-error">${error}</p>`}
    </div>
  `;
}

/** @param {any} value */
function defaultText(value) {
  return value === undefined || value === null ? "automatic" : `${value} (default)`;
}

/** @param {any} kind */
function boundsText({ minimum, exclusiveMinimum, maximum }) {
  const least =
    minimum !== undefined ? `at least ${minimum}` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "";
  const most = maximum !== undefined ? `at most ${maximum}` : "";
  const bounds = [least, most].filter(Boolean).join(", ");
  return bounds ? ` ${bounds[0].toUpperCase()}${bounds.slice(1)}.` : "";
}
