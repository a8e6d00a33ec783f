// Starts the page that other sites frame.

import { EmbedView } from "./explore/embed_view.js";
import { html, render } from "./html.js";

const page = /** @type {HTMLElement} */ (document.getElementById("page"));
page.textContent = "";
render(html`<${EmbedView} params=${new URLSearchParams(location.search)} />`, page);
