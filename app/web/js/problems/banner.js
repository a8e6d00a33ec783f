// Why a request was refused, and what to do next. It stays until it is dismissed.

import { html, useEffect, useState } from "../html.js";
import { sentenceOf } from "./sentences.js";

/**
 * @param {{problem: import("../api.js").Problem, onDismiss: () => void, onRetry?: () => void}} props
 */
export function ProblemBanner({ problem, onDismiss, onRetry }) {
  const [sentence, next] = sentenceOf(problem);
  useEffect(() => focusField(problem), [problem]);
  return html`
    <div class="banner bad" role="alert" data-code=${problem.code}>
      <div>
        <p><strong>${sentence}</strong> ${next}</p>
        ${
          problem.errors.length > 0 &&
          html`<ul>
          ${problem.errors.map(({ field, message }) => html`<li><b>${field}</b> ${message}</li>`)}
        </ul>`
        }
        <${Details} problem=${problem} />
      </div>
      ${onRetry && html`<button type="button" onClick=${onRetry}>Try again</button>`}
      <button type="button" class="close" aria-label="Dismiss" onClick=${onDismiss}>×</button>
    </div>
  `;
}

/** @param {{problem: import("../api.js").Problem}} props */
function Details({ problem }) {
  const [copied, setCopied] = useState(false);
  const text = detailsOf(problem);
  const copy = () =>
    navigator.clipboard?.writeText(text).then(
      () => setCopied(true),
      () => setCopied(false),
    );
  return html`
    <details>
      <summary>Details</summary>
      <pre tabindex="0" aria-label="Details of the problem">${text}</pre>
      <button type="button" onClick=${copy}>Copy</button> <span role="status">${copied ? "Copied." : ""}</span>
    </details>
  `;
}

/**
 * Returns what a report of the problem needs.
 * @param {import("../api.js").Problem} problem
 * @returns {string}
 */
function detailsOf(problem) {
  const errors = problem.errors.map(({ field, message }) => `${field}: ${message}`);
  return [`${problem.code}${problem.status ? ` (HTTP ${problem.status})` : ""}`, problem.message, ...errors].join("\n");
}

/**
 * Moves the focus to the first field that a problem names, where the page shows it.
 * @param {import("../api.js").Problem} problem
 */
function focusField(problem) {
  for (const { field } of problem.errors) {
    const input = document.querySelector(`[name="${CSS.escape(field)}"]`);
    if (input instanceof HTMLElement) {
      input.focus();
      return;
    }
  }
}
