"""Makes the README's pictures of the web page: `python -m docs.page_pictures [URL]`.

A service must run there (`betavae serve`), with /usr/bin/chromium and the packages for development on this machine.
The command uploads drawn chairs, trains on them for some minutes, takes `docs/explore.png` and `docs/train.png`, and
deletes what it made.
"""

import argparse
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.page import CHROMIUM, FLAGS
from benchmarks.service_speed import Client
from training.data.chairs import FACTOR_SIZES, render
from worker.rendering.encoders import encode_png

FOLDER = Path(__file__).resolve().parent
NUM_CHAIRS = 2000
CONFIG = {"num_steps": 3000, "preview_steps": 200, "latent_dim": 8, "log_steps": 20, "image_size": 32}
SCREEN = (1280, 860)
"""Width and height of the window, in pixels."""
PAGE_PICTURES = ("explore.png", "train.png")
COLOURS = 128
"""Colours of a picture, which make it a third as large."""


def chairs() -> bytes:
    """Returns a zip of chairs that are drawn from random factors."""
    random = np.random.default_rng(0)
    classes = np.stack([random.integers(0, size, NUM_CHAIRS) for size in FACTOR_SIZES], axis=1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for number, pixels in enumerate(render(classes, 64)):
            files.writestr(f"{number:04d}.png", encode_png(pixels))
    return archive.getvalue()


def train(client: Client) -> tuple[str, str]:
    """Trains on drawn chairs until the model is there, and returns the ids of the data set and of the job."""
    uploaded = client.send("POST", "/datasets?name=drawn%20chairs", chairs(), Content_Type="application/zip")
    dataset = json.loads(uploaded)["id"]
    body = {"name": "my chairs", "dataset": dataset, "config": CONFIG}
    job = json.loads(client.post_json("/train-jobs", body))["id"]
    while (found := json.loads(client.send("GET", f"/train-jobs/{job}")))["finished_at"] is None:
        time.sleep(1)
    if found["status"] != "succeeded":
        raise SystemExit(f"The training {found['status']}: {found['error']}")
    return dataset, job


def take_pictures(url: str, job: str, folder: Path) -> list[Path]:
    """Takes both pictures.

    Args:
        url: Address of the service.
        job: Id of a finished training.
        folder: Folder of the pictures.
    """
    from playwright.sync_api import sync_playwright

    paths = [folder / name for name in PAGE_PICTURES]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": SCREEN[0], "height": SCREEN[1]}, reduced_motion="reduce")
        page.goto(f"{url}/#/explore?model=chairs")
        page.wait_for_selector('body[data-ready="true"]')
        page.wait_for_selector(".latent canvas")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=paths[0])
        page.goto(f"{url}/#/train?job={job}")
        page.wait_for_selector(".play-now canvas")
        page.wait_for_selector(".chart svg")
        page.wait_for_load_state("networkidle")
        page.set_viewport_size({"width": SCREEN[0], "height": 2 * SCREEN[1]})  # The scrubber sticks to its lower edge.
        page.screenshot(path=paths[1], clip={"x": 0, "y": 0, "width": SCREEN[0], "height": 1.7 * SCREEN[1]})
        browser.close()
    for path in paths:
        Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return paths


def main() -> None:
    """Reads the command line, makes the pictures, deletes what they needed, and prints each file with its size."""
    parser = argparse.ArgumentParser(description="Make the README's pictures of the web page.")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000", help="address of a running service")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the pictures (default: docs)")
    arguments = parser.parse_args()
    client = Client(arguments.url)
    dataset, job = train(client)
    for path in take_pictures(arguments.url.rstrip("/"), job, arguments.output):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    model = json.loads(client.send("GET", f"/train-jobs/{job}"))["model"]
    for made in (f"/train-jobs/{job}", f"/models/{model}", f"/datasets/{dataset}"):
        client.send("DELETE", made)


if __name__ == "__main__":
    main()
