"""Seconds that a running service takes over HTTP, as a client sees it.

    betavae serve                        # or docker compose up
    python -m benchmarks.service_speed [URL]

Uploads a model with random weights (64×64 RGB, 32 dimensions), asks for traversals of 32 × 30 frames that nobody asked
for before, one at a time and eight at once, then for the same again, for encode and for decode; deletes the model.
"""

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.traversal_speed import random_model
from models.bundles import write_bundle
from models.files import save_model

CLIENTS = 8
REPEATS = 20


def model_bundle() -> bytes:
    """A model with random weights, as `POST /models` takes it."""
    model = random_model()
    bundle = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), model.network, model.info)
        write_bundle(Path(folder), bundle)
    return bundle.getvalue()


def picture() -> bytes:
    """A PNG that nobody sent before."""
    data = io.BytesIO()
    pixels = np.random.default_rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def seconds(call: Callable[[], httpx.Response]) -> float:
    """Of one call, which must succeed."""
    began = time.perf_counter()
    response = call()
    took = time.perf_counter() - began
    assert response.status_code in (200, 201), response.text
    return took


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    with httpx.Client(base_url=url, timeout=120) as client:
        uploaded = client.post("/models", data={"name": "speed"}, files={"file": ("bundle.zip", model_bundle())})
        uploaded.raise_for_status()
        model = uploaded.json()["id"]

        def traverse(image: bytes) -> float:
            return seconds(
                lambda: client.post(
                    "/traversals",
                    data={"model": model, "steps": "30", "scale": "1"},
                    files={"image": image},
                    headers={"Accept": "application/zip", "Prefer": "wait=60"},
                )
            )

        traverse(picture())  # the worker loads the model
        one = [traverse(picture()) for _ in range(5)]
        print(f"32 dimensions × 30 frames, new: median {statistics.median(one):.2f} s")
        same = picture()
        traverse(same)
        again = [traverse(same) for _ in range(REPEATS)]
        print(f"the same again: median {1e3 * statistics.median(again):.0f} ms")
        with ThreadPoolExecutor(CLIENTS) as pool:
            many = sorted(pool.map(lambda _: traverse(picture()), range(3 * CLIENTS)))
        print(f"{CLIENTS} clients at once, new: p95 {many[round(0.95 * len(many)) - 1]:.2f} s, none failed")
        image = picture()
        encode = [
            seconds(lambda: client.post(f"/models/{model}/encode", files={"image": image})) for _ in range(REPEATS)
        ]
        z = {"z": [[0.0] * 32]}
        decode = [seconds(lambda: client.post(f"/models/{model}/decode", json=z)) for _ in range(REPEATS)]
        print(f"encode: median {1e3 * statistics.median(encode):.0f} ms")
        print(f"decode: median {1e3 * statistics.median(decode):.0f} ms")
        client.delete(f"/models/{model}").raise_for_status()


if __name__ == "__main__":
    main()
