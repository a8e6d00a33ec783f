// Why a request was refused; stays until it is dismissed.

import { html } from "../html.js";

/** @param {{problem: import("../api.js").Problem, onDismiss: () => void, onRetry?: () => void}} props */
export function ProblemBanner({ problem, onDismiss, onRetry }) {
  return html`
    <div class="banner bad" role="alert">
      <div>${problem.message}</div>
      ${onRetry && html`<button onClick=${onRetry}>Try again</button>`}
      <button aria-label="Dismiss" onClick=${onDismiss}>×</button>
    </div>
  `;
}
