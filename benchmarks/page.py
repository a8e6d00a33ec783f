"""Measures the page of a running service in Chromium: how soon it shows a picture, and how well it follows a hand.

    betavae serve
    python -m benchmarks.page [URL]

It needs /usr/bin/chromium and the packages for development (`pip install -e '.[dev]'`). It trains a small model, which
it deletes in the end. Each line names what was measured, its number, and the goal.
"""

import io
import json
import statistics
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.service_speed import Client

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
REPEATS = 5
MOVES = 300
SLOWER = 4
"""Throttle of the processor, as of a phone."""

WATCH = """
  window.marks = {};
  const note = (name) => { window.marks[name] ??= performance.now(); };
  new MutationObserver(() => {
    if (document.body?.dataset.ready) note("ready");
    if (document.querySelector(".comparison")) note("own");
    if (document.querySelector(".chart svg")) note("charts");
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-ready"] });
"""
DECODE = """async () => {
  const main = document.querySelector("script[type=module]").src;
  const { loadDecoder } = await import(new URL("decoder/decoder.js", main).href);
  const decoder = await loadDecoder("models/chairs/web");
  const z = new Float32Array(decoder.network.latent_dim);
  const times = [];
  for (let turn = 0; turn < 300; turn++) {
    z[0] = Math.sin(turn);
    const began = performance.now();
    decoder.decode(z);
    times.push(performance.now() - began);
  }
  return times.slice(50);
}"""
CHOICE = """() => {
  delete window.marks.own;
  const note = () => { window.marks.chosen = performance.now(); };
  document.querySelector("#own-picture").addEventListener("change", note, { once: true, capture: true });
}"""
SHOWS_STEP = """step => {
  const text = document.querySelector(".play-now .reading").textContent.split(".")[0];
  return Number(text.replace(/[^0-9]/g, "")) >= step;
}"""
FOLLOW = """() => {
  const slider = document.querySelector("input[data-latent]");
  window.followed = [];
  window.frames = [];
  window.strips = 0;
  slider.addEventListener("input", (event) => {
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.followed.push(performance.now() - event.timeStamp);
      port2.postMessage(null);
    });
  }, true);
  const put = CanvasRenderingContext2D.prototype.putImageData;
  const first = document.querySelector(".latent canvas");
  CanvasRenderingContext2D.prototype.putImageData = function (pixels, x, y) {
    if (this.canvas === first && x === 0) window.strips += 1;
    return put.call(this, pixels, x, y);
  };
  const step = (now) => { window.frames.push(now); requestAnimationFrame(step); };
  requestAnimationFrame(step);
}"""


def report(what: str, number: str, goal: str) -> None:
    """Prints one row of a Markdown table."""
    print(f"| {what} | {number} | {goal} |", flush=True)


def p95(times: list[float]) -> float:
    """Returns the 95th percentile."""
    return sorted(times)[round(0.95 * len(times)) - 1]


class Tabs:
    """Opens tabs with an empty cache, slower by a factor."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser, self.url = browser, url

    @contextmanager
    def tab(self, rate: float = 1) -> Iterator[Any]:
        """Yields an empty tab of a new profile."""
        context = self.browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
        page = context.new_page()
        page.add_init_script(WATCH)
        session = context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": rate})
        yield page
        context.close()

    def explore(self, page: Any) -> None:
        """Opens the first screen and waits for its picture."""
        page.goto(f"{self.url}/#/explore?model=chairs")
        page.wait_for_selector('body[data-ready="true"]')
        page.wait_for_selector("input[data-latent]")


def first_picture(tabs: Tabs) -> None:
    """Measures goals 1 and 2: the time to the first decoded picture, and what was loaded for it."""
    for rate, goal in ((1, "≤ 1000 ms"), (SLOWER, "≤ 2000 ms")):
        times = []
        for _ in range(REPEATS):
            with tabs.tab(rate) as page:
                tabs.explore(page)
                times.append(page.evaluate("window.marks.ready"))
        report(f"first picture, {rate}× slower" if rate > 1 else "first picture", _ms(statistics.median(times)), goal)
    sizes: dict[str, int] = {}
    with tabs.tab() as page:
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")

        def on_response(event: dict[str, Any]) -> None:
            kind, headers = _kind(event), event["response"]["headers"]
            length = next((value for name, value in headers.items() if name.lower() == "content-length"), "0")
            sizes[kind] = sizes.get(kind, 0) + int(length)

        session.on("Network.responseReceived", on_response)
        tabs.explore(page)
        page.wait_for_load_state("networkidle")
    report("HTML, CSS and JavaScript, as sent", f"{sizes['code'] / 1000:.0f} KB", "≤ 60 KB")
    report("weights of a 64 px model", f"{sizes['weights'] / 1e6:.2f} MB", "≤ 0.6 MB")
    report("requests to other hosts", str(sizes.get("foreign", 0)), "0")


def _kind(event: dict[str, Any]) -> str:
    url, mime = event["response"]["url"], event["response"]["mimeType"]
    if not url.startswith(("http://127.0.0.1", "http://localhost", "data:", "blob:")):
        return "foreign"
    if url.endswith("/web"):
        return "weights"
    return "code" if mime in ("text/html", "text/css", "text/javascript") else "other"


def decoding(tabs: Tabs) -> None:
    """Measures goal 4: one decoded picture."""
    for rate, goal in ((1, "≤ 1 ms"), (SLOWER, "≤ 4 ms")):
        with tabs.tab(rate) as page:
            tabs.explore(page)
            times = page.evaluate(DECODE)
        name = "decode 64×64×3" + (f", {rate}× slower" if rate > 1 else "")
        report(name, f"{statistics.median(times):.2f} ms", goal)


def dragging(tabs: Tabs) -> None:
    """Measures goals 5 and 6: from a move of the pointer to its frame, and the filmstrips meanwhile."""
    with tabs.tab() as page:
        tabs.explore(page)
        page.evaluate(FOLLOW)
        box = page.locator("input[data-latent]").first.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 8, middle)
        page.mouse.down()
        page.evaluate("() => { window.frames = []; window.strips = 0; }")
        began = time.perf_counter()
        for move in range(MOVES):
            share = 0.5 - 0.5 * np.cos(move / MOVES * 6 * np.pi)
            page.mouse.move(box["x"] + 8 + share * (box["width"] - 16), middle)
        seconds = time.perf_counter() - began
        followed, frames, strips = page.evaluate("() => [window.followed, window.frames, window.strips]")
        page.mouse.up()
    gaps = np.diff(frames)
    report(f"input to paint, p95 of {len(followed)} moves", f"{p95(followed):.1f} ms", "≤ 16.7 ms")
    report("filmstrips drawn while dragging", f"{strips / seconds:.0f} a second", "≥ 10 a second")
    report("frames while dragging, median gap", f"{float(np.median(gaps)):.1f} ms", "16.7 ms (60 a second)")


def own_picture(tabs: Tabs) -> None:
    """Measures goal 8: from the choice of a picture to original, crop, reconstruction and error."""
    times = []
    with tabs.tab() as page:
        tabs.explore(page)
        for turn in range(REPEATS + 1):
            picture = {"name": "own.png", "mimeType": "image/png", "buffer": _picture(turn, 256)}
            remove = page.get_by_role("button", name="Remove")
            if remove.count():
                remove.click()
                page.wait_for_selector(".comparison", state="detached")
            page.evaluate(CHOICE)
            page.set_input_files("#own-picture", picture)
            page.wait_for_selector(".comparison")
            times.append(page.evaluate("window.marks.own - window.marks.chosen"))
    report("own picture, four pictures side by side", _ms(statistics.median(times[1:])), "≤ 300 ms")


def training(tabs: Tabs, client: Client) -> None:
    """Measures goals 10 and 12: from a preview to its decoder on the page, and the history after a reload."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for number in range(64):
            files.writestr(f"{number}.png", _picture(number, 64))
    uploaded = client.send("POST", "/datasets?name=page%20speed", archive.getvalue(), Content_Type="application/zip")
    dataset = json.loads(uploaded)["id"]
    config = {"num_steps": 1_000_000, "preview_steps": 100, "batch_size": 8, "log_steps": 10, "latent_dim": 5}
    body = {"name": "page speed", "dataset": dataset, "config": config}
    job = json.loads(client.post_json("/train-jobs", body))
    path = f"/train-jobs/{job['id']}"
    try:
        with tabs.tab() as page:
            page.goto(f"{tabs.url}/#/train?job={job['id']}")
            page.wait_for_selector(".play-now canvas", timeout=300_000)
            report(
                "preview to its decoder on the page", _ms(statistics.median(_delays(page, client, path))), "≤ 2000 ms"
            )
        times = []
        for _ in range(REPEATS):
            with tabs.tab() as page:
                page.goto(f"{tabs.url}/#/train?job={job['id']}")
                page.wait_for_selector(".chart svg")
                times.append(page.evaluate("window.marks.charts"))
        report("history of a running training after a reload", _ms(statistics.median(times)), "≤ 1000 ms")
    finally:
        client.send("POST", f"{path}/cancel")
        _until_finished(client, path)
        client.send("DELETE", path)
        client.send("DELETE", f"/datasets/{dataset}")


def _delays(page: Any, client: Client, path: str) -> list[float]:
    """Returns, for a few previews, the milliseconds from its appearance in the API to its decoder on the page."""
    delays: list[float] = []
    known = len(json.loads(client.send("GET", f"{path}/previews"))["previews"])
    while len(delays) < REPEATS:
        previews = json.loads(client.send("GET", f"{path}/previews"))["previews"]
        if len(previews) == known:
            time.sleep(0.01)
            continue
        began, known = time.perf_counter(), len(previews)
        step = int(previews[-1].rsplit("/", 1)[1].split(".")[0])
        shown = (
            "step => Number(document.querySelector('.play-now .reading').textContent.replace(/[^0-9]/g, '')) >= step"
        )
        page.wait_for_function(shown, arg=step)
        delays.append(1000 * (time.perf_counter() - began))
    return delays


def _until_finished(client: Client, path: str) -> None:
    while json.loads(client.send("GET", path))["finished_at"] is None:
        time.sleep(0.2)


def _picture(seed: int, size: int) -> bytes:
    """Returns a PNG of a coloured disc."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    inside = (x - random.uniform(0.3, 0.7)) ** 2 + (y - random.uniform(0.3, 0.7)) ** 2 < 0.05
    pixels = np.where(inside[..., None], random.integers(0, 255, 3), 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms"


def main() -> None:
    """Measures everything and prints a table."""
    from playwright.sync_api import sync_playwright

    url = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000").rstrip("/")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tabs = Tabs(browser, url)
        print("| what | measured | goal |\n|---|---|---|")
        first_picture(tabs)
        decoding(tabs)
        dragging(tabs)
        own_picture(tabs)
        training(tabs, Client(url))
        browser.close()


if __name__ == "__main__":
    main()
