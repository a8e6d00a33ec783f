"""Measures the response times of a running service over HTTP, as a client sees them.

    betavae serve                        # or docker compose up
    python -m benchmarks.service_speed [URL]

The benchmark uploads a model with random weights (64×64 RGB, 32 dimensions). It requests new traversals of 32 × 30
frames, one at a time and eight at once, then the same traversal again, encode and decode. Finally it deletes the model.
It needs no more packages than the service itself.
"""

import io
import json
import statistics
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.traversal_speed import random_model
from models.bundles import write_bundle
from models.files import save_model

CLIENTS = 8
REPEATS = 20


def model_bundle() -> bytes:
    """Returns a bundle of a model with random weights, for `POST /models`."""
    model = random_model()
    bundle = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), model.network, model.info)
        write_bundle(Path(folder), bundle)
    return bundle.getvalue()


def picture() -> bytes:
    """Returns a PNG of random pixels, which differ at every call."""
    data = io.BytesIO()
    pixels = np.random.default_rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


class Client:
    """A client of the service; a request that fails raises urllib.error.HTTPError."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """Sends a request, and returns the body of the response.

        Args:
            method: The HTTP method.
            path: The path below the service's URL.
            body: The body of the request.
            headers: Headers by name, with _ for each hyphen.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            answer: bytes = response.read()
        return answer

    def post_form(self, path: str, fields: dict[str, str], files: dict[str, bytes], **headers: str) -> bytes:
        """Posts a multipart form, and returns the body of the response."""
        boundary = uuid.uuid4().hex
        parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
        parts += [(f'name="{name}"; filename="{name}"', content) for name, content in files.items()]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
            for head, content in parts
        )
        kind = f"multipart/form-data; boundary={boundary}"
        return self.send("POST", path, body + f"--{boundary}--\r\n".encode(), Content_Type=kind, **headers)

    def post_json(self, path: str, value: Any) -> bytes:
        """Posts a JSON body, and returns the body of the response."""
        return self.send("POST", path, json.dumps(value).encode(), Content_Type="application/json")


def seconds(call: Callable[[], bytes]) -> float:
    """Returns the duration of one request, in seconds."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Runs all requests, and prints their times."""
    client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
    model = json.loads(client.post_form("/models", {"name": "speed"}, {"file": model_bundle()}))["id"]

    def traverse(image: bytes) -> float:
        fields = {"model": model, "steps": "30", "scale": "1"}
        headers = {"Accept": "application/zip", "Prefer": "wait=60"}
        return seconds(lambda: client.post_form("/traversals", fields, {"image": image}, **headers))

    traverse(picture())  # The worker loads the model.
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
        seconds(lambda: client.post_form(f"/models/{model}/encode", {}, {"image": image})) for _ in range(REPEATS)
    ]
    z = {"z": [[0.0] * 32]}
    decode = [seconds(lambda: client.post_json(f"/models/{model}/decode", z)) for _ in range(REPEATS)]
    print(f"encode: median {1e3 * statistics.median(encode):.0f} ms")
    print(f"decode: median {1e3 * statistics.median(decode):.0f} ms")
    client.send("DELETE", f"/models/{model}")


if __name__ == "__main__":
    main()
