// The linked panes of a job: previews, losses, KL against C, and sliders. One scrubber moves them all.

import { html, useMemo } from "../html.js";
import { LineChart } from "../charts/line_chart.js";
import { latentColour, numberText } from "../charts/scale.js";
import { StackedChart, stackingOrder } from "../charts/stacked_chart.js";
import { ChartTable } from "../charts/table.js";
import { PlayNow } from "./play_now.js";
import { PreviewPane } from "./preview_pane.js";
import { Scrubber } from "./scrubber.js";

/**
 * @param {{
 *   feed: import("../jobs/feed.js").Feed, step: number | null, onStep: (step: number | null) => void,
 *   zText: string | null, onVector: (text: string) => void,
 * }} props `step` is the step that is shown; null follows the newest. `zText` is the latent vector of the address.
 */
export function Panes({ feed, step, onStep, zText, onVector }) {
  const { job, history, previews } = feed;
  const traces = useMemo(() => history.traces(), [history, history.version]);
  const numbers = useMemo(() => traces.filter((trace) => !trace.lost).flatMap((trace) => trace.points), [traces]);
  const newest = Math.max(job.progress.step ?? 0, numbers.at(-1)?.step ?? 0, previews.at(-1) ?? 0);
  if (!numbers.length && !previews.length) {
    return ["queued", "failed", "cancelled"].includes(job.status)
      ? null
      : html`<section class="card empty-panes"><p class="muted">The first picture comes with step 0, as soon as the pictures are read.</p></section>`;
  }
  const shown = Math.min(step ?? newest, newest);
  const steps = /** @type {[number, number]} */ ([0, Math.max(1, newest)]);
  const at = numbers.findLast((record) => record.step <= shown) ?? null;
  return html`
    <div class="panes">
      <div class="pane-column">
        <${PreviewPane} feed=${feed} step=${shown} />
        <${PlayNow} path=${feed.path} job=${job} kl=${numbers.at(-1)?.kl_per_dimension ?? []} newestPreview=${previews.at(-1) ?? null} zText=${zText} onVector=${onVector} />
      </div>
      ${
        numbers.length > 0 &&
        html`
      <div class="pane-column">
        <${LossPane} history=${history} traces=${traces} numbers=${numbers} at=${at} steps=${steps} step=${shown} onStep=${onStep} />
        <${KlPane} traces=${traces} numbers=${numbers} at=${at} steps=${steps} step=${shown} onStep=${onStep} />
      </div>`
      }
    </div>
    <${Scrubber} newest=${newest} stops=${previews} step=${step} onStep=${onStep} isLive=${!job.finished_at} />
  `;
}

/** @param {any[]} numbers */
const firstText = (numbers) =>
  numbers.length ? `the first numbers are those of step ${numberText(numbers[0].step)}` : "the first numbers come soon";

/** @param {any} props */
function LossPane({ history, traces, numbers, at, steps, step, onStep }) {
  const floor = numbers.at(-1)?.bernoulli_floor ?? null;
  const lines = [
    ...traces.map((/** @type {any} */ trace) => ({
      name: "reconstruction loss",
      kind: "reconstruction",
      faint: trace.lost,
      points: trace.points.map((/** @type {any} */ record) => [record.step, record.reconstruction_loss]),
    })),
    {
      name: "on validation images",
      kind: "validation",
      points: history.validations.map((/** @type {any} */ record) => [
        record.step,
        record.validation_reconstruction_loss,
      ]),
    },
  ];
  const rows = () =>
    numbers.map((/** @type {any} */ record) => [record.step, record.reconstruction_loss, record.kl, record.loss]);
  return html`
    <section class="card pane" aria-labelledby="loss-title">
      <h2 id="loss-title">Reconstruction loss</h2>
      <p class="reading"><span class="key reconstruction"></span>${at ? `${numberText(at.reconstruction_loss)} nats per image` : firstText(numbers)}
        ${history.validations.length > 0 && html` · <span class="key validation"></span>on images it does not learn from`}
        ${traces.some((/** @type {any} */ trace) => trace.lost) && html` · <span class="key faint"></span>done again after a restart`}</p>
      <${LineChart} lines=${lines} level=${floor === null ? null : { name: "lowest possible", value: floor }} steps=${steps} step=${step} onStep=${onStep}
        label=${`Reconstruction loss by step, ${numberText(at?.reconstruction_loss)} nats at step ${step}.`} />
      <${ChartTable} caption="Losses by step" columns=${["step", "reconstruction, nats", "KL, nats", "loss"]} rows=${rows} />
    </section>
  `;
}

/** @param {any} props */
function KlPane({ traces, numbers, at, steps, step, onStep }) {
  const stacked = useMemo(
    () =>
      traces
        .filter((/** @type {any} */ trace) => !trace.lost)
        .map((/** @type {any} */ trace) =>
          trace.points.map((/** @type {any} */ record) => ({
            step: record.step,
            parts: record.kl_per_dimension ?? [],
            target: record.capacity ?? null,
          })),
        ),
    [traces],
  );
  const parts = at?.kl_per_dimension ?? [];
  const target = at?.capacity ?? null;
  const columns = ["step", "C", "KL", ...parts.map((/** @type {number} */ _, /** @type {number} */ k) => `z${k}`)];
  const rows = () =>
    numbers.map((/** @type {any} */ record) => [
      record.step,
      record.capacity ?? null,
      record.kl,
      ...(record.kl_per_dimension ?? []),
    ]);
  return html`
    <section class="card pane" aria-labelledby="kl-title">
      <h2 id="kl-title">Information in each latent</h2>
      <p class="reading">${at ? `KL ${numberText(at.kl)} nats` : firstText(numbers)}${target !== null && html` · <span class="key target"></span>its target C ${numberText(target)}`}</p>
      <${StackedChart} traces=${stacked} steps=${steps} step=${step} onStep=${onStep}
        label=${`KL of each latent by step, stacked; together ${numberText(at?.kl)} nats at step ${step}.`} />
      <ul class="legend">
        ${stackingOrder(parts)
          .filter((index) => parts[index] >= 0.01)
          .slice(0, 12)
          .map(
            (index) => html`
          <li key=${index}><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="3" fill=${latentColour(index)} /></svg>z${index} <span class="number muted">${numberText(parts[index])}</span></li>`,
          )}
      </ul>
      <${ChartTable} caption="KL of each latent by step, in nats" columns=${columns} rows=${rows} />
    </section>
  `;
}
