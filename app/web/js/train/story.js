// What happened to a job, in the order of time, and the settings it runs with.

import { html } from "../html.js";
import { linkTo } from "../router.js";
import { sentenceOfError } from "./failures.js";

/** @param {{feed: import("../jobs/feed.js").Feed}} props */
export function Story({ feed }) {
  const { job, history } = feed;
  const told = history.story.filter((chapter) => chapter.kind === "warning").map((chapter) => chapter.text);
  const warnings = job.warnings.filter((/** @type {string} */ text) => !told.includes(text));
  return html`
    <section class="card story" aria-labelledby="story-title">
      <h2 id="story-title">What happened</h2>
      <ol>
        ${warnings.map((/** @type {string} */ text) => html`<li class="warning"><span></span><span>${sentenceOfError({ message: text })}</span></li>`)}
        ${history.storyOf(job).map(
          (chapter) => html`
          <li class=${chapter.kind}><time class="muted number" datetime=${chapter.at}>${timeText(chapter.at)}</time><span>${sentenceOfError({ message: chapter.text })}</span></li>`,
        )}
      </ol>
      <details>
        <summary>Settings of this training</summary>
        <p><a class="button" href=${linkTo("train", { like: job.id })}>A new one like it</a></p>
        <dl class="settings-list">
          <dt>dataset</dt><dd>${job.dataset}</dd>
          ${job.preset && html`<dt>preset</dt><dd>${job.preset}</dd>`}
          ${Object.entries(job.config)
            .filter(([, value]) => value !== null)
            .map(([name, value]) => html`<dt>${name}</dt><dd>${String(value)}</dd>`)}
        </dl>
      </details>
    </section>
  `;
}

/** @param {string} at */
function timeText(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
