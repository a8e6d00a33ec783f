"""A real service for tests: an HTTP server, Redis, and workers in processes of their own."""

import io
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image, ImageDraw

from app.deadlines import IDLE_SECONDS, MAX_HEADER_BYTES, DeadlineProtocol
from app.main import create_app
from models.config import NetworkConfig
from models.files import save_model
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from worker.jobs.connections import connect
from worker.render_calls import CallConsumer
from worker.runtime import Runtime, open_runtime
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage

ROOT = Path(__file__).parent.parent
LATENT_DIM = 4
READY_SECONDS = 240


@contextmanager
def http_server(settings: Settings) -> Iterator[str]:
    """Serves the application on a free port of this machine, and yields its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)  # A client that connects before the server's thread is up waits instead of being refused.
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_level="error",
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=1,
        http=DeadlineProtocol,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def worker(queue: str, settings: Settings) -> Iterator[None]:
    """Runs a worker process on one queue."""
    assert settings.redis_url is not None
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BETAVAE_")},
        "BETAVAE_HOME": str(settings.home),
        "BETAVAE_REDIS_URL": settings.redis_url,
        "BETAVAE_DEVICE": settings.device,
        "BETAVAE_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "worker", queue], cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def worker_here(settings: Settings) -> Iterator[Runtime]:
    """Opens the runtime of a worker in this process, which works when `work_on` is called."""
    runtime = open_runtime(settings)
    try:
        yield runtime
    finally:
        runtime.jobs.redis.close()


@contextmanager
def answering_calls(settings: Settings) -> Iterator[None]:
    """Answers calls of models in threads of this process, as a render worker does."""
    calls = CallConsumer(open_runtime(settings))
    calls.start()
    try:
        yield
    finally:
        calls.stop()


@dataclass
class Service:
    """A running service with its client and its parts."""

    client: httpx.Client
    url: str
    settings: Settings


@contextmanager
def service(home: Path, redis_url: str, queues: tuple[str, ...] = (), **options: Any) -> Iterator[Service]:
    """Runs the service on a data folder with two small untrained models, and yields it when all workers consume."""
    settings = Settings(home=home, redis_url=redis_url, **options)
    add_model(LocalStorage(home), "tiny")
    add_model(LocalStorage(home), "tiny-rgb", num_channels=3)
    client = connect(redis_url)
    client.flushall()
    client.close()
    with ExitStack() as stack:
        url = stack.enter_context(http_server(settings))
        for queue in queues:
            stack.enter_context(worker(queue, settings))
        api = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        if queues:
            wait_until_ready(api, queues)
        yield Service(api, url, settings)


def wait_until_ready(api: httpx.Client, queues: tuple[str, ...]) -> None:
    """Waits until /readyz reports that every worker consumes."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        answer = api.get("/readyz")
        missing = [queue for queue in queues if answer.status_code != 200 and queue in answer.json()["detail"]]
        if not missing:
            return
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def add_model(
    storage: LocalStorage,
    model_id: str,
    num_channels: int = 1,
    *,
    latent_dim: int = LATENT_DIM,
    num_categories: int | None = None,
) -> None:
    """Adds a small network with seeded weights to the registry."""
    network = NetworkConfig(
        image_size=32, num_channels=num_channels, latent_dim=latent_dim, num_categories=num_categories
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        vae = VAE(network).eval()
    info = ModelInfo(
        name=model_id,
        network=network,
        preprocessing=Preprocessing(image_size=32, num_channels=num_channels),
        kl_per_dimension=[2.0, 0.0, 1.0, 0.5, 0.2][:latent_dim],
        aggregate_mean=[0.0] * latent_dim,
        aggregate_std=[1.0] * latent_dim,
    )
    save_model(storage.path(f"models/{model_id}"), vae, info)


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> bytes:
    """Returns a PNG of a disc and a square."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", size, "black")
    x, y = (int(v) for v in generator.integers(2, min(size) // 2, 2))
    draw = ImageDraw.Draw(image)
    draw.ellipse((x, y, x + 15, y + 15), fill="white")
    draw.rectangle((y, x, y + 8, x + 5), fill=(200, 40, 90))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def zip_of_pictures(num: int = 40, *, broken: int = 0) -> bytes:
    """Returns a zip of pictures and of files that are not pictures."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(num):
            archive.writestr(f"shapes/{i:03d}.png", picture(i))
        for i in range(broken):
            archive.writestr(f"shapes/broken-{i}.png", b"this is not a picture")
    return buffer.getvalue()


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Checks that an answer is a problem, and returns its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "code", "instance", "request_id"}
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["type"] == f"/problems/{code}"
    assert body["instance"] == answer.request.url.path
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    for error in body.get("errors", ()):
        assert set(error) == {"field", "message"}
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) > 0
    return body
