// The training that runs now: at the right of the top bar, in the title and as a ring around the page's icon.

import { getJson } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { linkTo } from "../router.js";
import { whileVisible } from "./polling.js";
import { durationText, percentText } from "./amounts.js";

const TITLE = document.title;

export function RunningJob() {
  const [job, setJob] = useState(/** @type {any} */ (null));
  useEffect(
    () =>
      whileVisible(async () => {
        const { jobs } = await getJson("train-jobs?status=running&limit=1");
        setJob(jobs[0] ?? null);
      }, 5),
    [],
  );
  const { phase, phase_fraction: part, eta_seconds: left } = job?.progress ?? {};
  const fraction = phase === "packing" ? null : (job?.progress.fraction ?? null);
  const percent = job && fraction !== null ? percentText(fraction) : "";
  useEffect(() => {
    document.title = job ? `${percent || "Starting"} ${job.name} · ${TITLE}` : TITLE;
    drawIcon(fraction);
  }, [job?.name, percent]);
  if (!job) return null;
  const time =
    phase === "packing"
      ? `reading pictures, ${percentText(part)}`
      : left && phase === "training"
        ? durationText(left)
        : "";
  return html`
    <a class="running" href=${linkTo("train", { job: job.id })}>
      <span class="running-dot" aria-hidden="true"></span>
      <span class="running-name">${job.name}</span>
      <span class="number">${[percent, time].filter(Boolean).join(", ")}</span>
    </a>
  `;
}

/** @type {string | null} */
let ownIcon = null;

/** @param {number | null} fraction What is done of the running training; null where none runs. */
function drawIcon(fraction) {
  const link = /** @type {HTMLLinkElement | null} */ (document.querySelector('link[rel="icon"]'));
  if (!link) return;
  ownIcon ??= link.href;
  if (fraction === null) {
    if (link.href !== ownIcon) link.href = ownIcon;
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.lineWidth = 6;
  for (const [colour, end] of /** @type {[string, number][]} */ ([
    ["#c3c9ee", 1],
    ["#3d4fc4", fraction],
  ])) {
    context.strokeStyle = colour;
    context.beginPath();
    context.arc(16, 16, 12, -Math.PI / 2, (2 * end - 0.5) * Math.PI);
    context.stroke();
  }
  link.href = canvas.toDataURL();
}
