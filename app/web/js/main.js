// Starts the page: the frame, and the view that the address names.

import { onTokenRequired } from "./api.js";
import { html, render, useEffect, useState } from "./html.js";
import { currentRoute, onRoute } from "./router.js";
import { TopBar } from "./topbar.js";
import { ExploreView } from "./explore/view.js";

/** @type {Record<string, () => Promise<any>>} Views other than the first screen are loaded when they are opened. */
const LATER = {
  train: () => Promise.all([import("./train/view.js"), loadStyle("train")]).then(([module]) => module.TrainView),
  models: () => Promise.all([import("./models/view.js"), loadStyle("models")]).then(([module]) => module.ModelsView),
};

/**
 * Loads the style sheet of a view.
 * @param {string} view
 * @returns {Promise<void>}
 */
function loadStyle(view) {
  return new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(`../css/${view}.css`, import.meta.url).href;
    link.onload = link.onerror = () => resolve();
    document.head.append(link);
  });
}

function Page() {
  const [route, setRoute] = useState(currentRoute());
  const [views, setViews] = useState(/** @type {Record<string, any>} */ ({ explore: ExploreView }));
  const [Dialog, setDialog] = useState(/** @type {any} */ (null));
  useEffect(() => onRoute(setRoute), []);
  useEffect(
    () => onTokenRequired(() => import("./token_dialog.js").then((module) => setDialog(() => module.TokenDialog))),
    [],
  );
  useEffect(() => {
    const load = LATER[route.view];
    if (load && !views[route.view]) load().then((view) => setViews((before) => ({ ...before, [route.view]: view })));
  }, [route.view]);
  const view = LATER[route.view] ? route.view : "explore";
  const View = views[view];
  return html`
    <${TopBar} view=${view} />
    <main id="main" tabindex="-1">${View ? html`<${View} params=${route.params} />` : html`<p class="boot">Loading…</p>`}</main>
    ${Dialog && html`<${Dialog} />`}
  `;
}

const page = /** @type {HTMLElement} */ (document.getElementById("page"));
page.textContent = "";
render(html`<${Page} />`, page);
