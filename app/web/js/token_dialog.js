// Asks for a token where the service wants one, and keeps it in a cookie that scripts cannot read.

import { onTokenRequired, request } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";

/** It opens at once, and again whenever the service refuses. */
export function TokenDialog() {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [refusal, setRefusal] = useState("");
  useEffect(() => {
    const open = () => dialog.current?.open || dialog.current?.showModal();
    open();
    return onTokenRequired(open);
  }, []);
  /** @param {SubmitEvent & {currentTarget: HTMLFormElement}} event */
  const onSubmit = async (event) => {
    event.preventDefault();
    const token = String(new FormData(event.currentTarget).get("token")).trim();
    try {
      await request("POST", "session", { headers: { Authorization: `Bearer ${token}` } });
      location.reload(); // What was refused so far is asked for again.
    } catch (problem) {
      setRefusal(/** @type {Error} */ (problem).message);
    }
  };
  return html`
    <dialog ref=${dialog} class="token" aria-labelledby="token-title">
      <form onSubmit=${onSubmit}>
        <h2 id="token-title">This service asks for a token</h2>
        <p class="hint">Whoever runs it makes one: <code>betavae tokens add NAME</code>. This browser keeps it for 30 days.</p>
        <label for="token">Token</label>
        <input id="token" name="token" type="password" required autocomplete="current-password" aria-invalid=${refusal ? "true" : null}
          aria-describedby="token-refusal" />
        <p id="token-refusal" class="field-error" role="alert">${refusal}</p>
        <button class="primary">Continue</button>
      </form>
    </dialog>
  `;
}
