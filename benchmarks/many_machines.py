"""Measures what a training on many machines costs, and computes how throughput grows with their number.

    python -m benchmarks.many_machines [--steps 4000] [--workers 1 2 4 10] [--measure 2]

It starts a Redis, an S3-compatible server in memory (moto's), an API and training workers, each in an empty folder of
its own, and trains on 1 000 colour pictures of 64 px. The first table has the requests, bytes and seconds of trainings.
The second one is a model: a worker alone takes t seconds per job, for r of which Redis works. N workers keep Redis, one
process, busy for the share ρ = N·r / t, and its answers take 1 / (1 − ρ) times as long, so that each worker takes
t − r + r / (1 − ρ) seconds per job. The model leaves out the network, the limits of a real store, and what workers on
one machine share. Small numbers of workers are measured as well, on this machine, with one thread each.
"""

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import redis
from PIL import Image

from app.serve.broker import command, find_server
from benchmarks.object_store import ObjectStore, Traffic, serve_objects

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT_SECONDS = 5.0
START_SECONDS = 240.0
IDLE_SECONDS = 20.0
CONFIG = {"batch_size": 16, "log_steps": 50, "preview_steps": 1000, "validation_steps": 1000}


class Machines:
    """Processes of one service, each in an empty folder of its own and with its own log."""

    def __init__(self, folder: Path, redis_url: str, store: ObjectStore, **settings: object) -> None:
        """Takes what the processes share.

        Args:
            folder: Where their folders and logs are made.
            redis_url: Address of their Redis.
            store: The object store with their storage.
            **settings: Other settings of the service, in lower case.
        """
        self.folder, self.redis_url, self.store = folder, redis_url, store
        self.settings = {f"BETAVAE_{name.upper()}": str(value) for name, value in settings.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.api = httpx.Client(timeout=90)

    def start(self, name: str, *module: str, **options: Any) -> None:
        """Starts a Python module as another machine would run it; options are those of Popen."""
        home = self.folder / name
        home.mkdir()
        own = {key: value for key, value in os.environ.items() if not key.startswith(("BETAVAE_", "AWS_", "FSSPEC_"))}
        shared = {"BETAVAE_REDIS_URL": self.redis_url, "BETAVAE_STORAGE_URL": self.store.url, "PYTHONPATH": str(ROOT)}
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", *module],
                cwd=home,
                env=own | self.store.environment | shared | self.settings,
                stdout=log,
                stderr=log,
                **options,
            )

    def start_api(self) -> None:
        """Starts the API on a free port."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.api.base_url = httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
            self.start("api", "app.server", "--fd", str(listener.fileno()), pass_fds=[listener.fileno()])

    def log(self, name: str) -> Path:
        """Returns the path of a process' log."""
        return self.folder / f"{name}.log"

    def stop(self) -> None:
        """Ends all processes, as somebody who stops the machines would."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)
        self.api.close()


@dataclass(frozen=True)
class Measured:
    """What some time of the service took."""

    seconds: float
    redis_seconds: float
    """Time that Redis spent on commands."""
    redis_commands: int
    traffic: Traffic


class Meter:
    """Counts what the service asks of Redis and of the object store."""

    def __init__(self, client: Any, store: ObjectStore) -> None:
        self._client, self._store = client, store
        self._before = self._now()

    def _now(self) -> Measured:
        stats = self._client.info("commandstats").values()
        return Measured(
            time.perf_counter(),
            sum(stat["usec"] for stat in stats) / 1e6,
            sum(stat["calls"] for stat in stats),
            self._store.count(),
        )

    def lap(self) -> Measured:
        """Returns what happened since the last call, or since the start."""
        before, now = self._before, self._now()
        self._before = now
        return Measured(
            now.seconds - before.seconds,
            now.redis_seconds - before.redis_seconds,
            now.redis_commands - before.redis_commands,
            now.traffic.since(before.traffic),
        )


def pictures(count: int = 1000) -> bytes:
    """Returns a zip of pictures of a rectangle in some colour and place, 64 px."""
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            pixels = np.zeros((64, 64, 3), np.uint8)
            (x, y), (width, height) = rng.integers(0, 40, 2), rng.integers(8, 24, 2)
            pixels[y : y + height, x : x + width] = rng.integers(60, 256, 3)
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG")
            archive.writestr(f"{number:04d}.png", png.getvalue())
    return buffer.getvalue()


def throughput(workers: int, seconds: float, shared_seconds: float) -> float:
    """Returns the jobs per second of several workers by the model of this module; 0 where Redis cannot keep up.

    Args:
        workers: Number of workers.
        seconds: Time of a job with one worker.
        shared_seconds: Time in it that the shared part works, for one worker at a time.
    """
    busy = workers * shared_seconds / seconds
    if busy >= 1:
        return 0.0
    return workers / (seconds + shared_seconds / (1 - busy) - shared_seconds)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    path = folder / "redis.sock"
    with subprocess.Popen(command(find_server(), folder, path)) as process:
        try:
            while not path.exists():
                time.sleep(0.05)
            yield f"unix://{path}?db=0"
        finally:
            process.kill()


def _train(machines: Machines, num_steps: int, num_jobs: int = 1) -> list[dict[str, Any]]:
    """Trains jobs of equal lengths, and returns them when all have succeeded."""
    begun = []
    for seed in range(num_jobs):
        body = {"dataset": "rectangles", "config": {**CONFIG, "num_steps": num_steps, "seed": seed}}
        begun.append(machines.api.post("/train-jobs", json=body).raise_for_status().json()["links"]["self"])
    jobs = []
    for url in begun:
        with machines.api.stream("GET", f"{url}/events", timeout=None) as events:
            for line in events.iter_lines():
                if line in ("event: succeeded", "event: failed"):
                    break
        jobs.append(machines.api.get(url).raise_for_status().json())
        if jobs[-1]["status"] != "succeeded":
            raise RuntimeError(f"{jobs[-1]['status']}: {jobs[-1]['error']}")
    return jobs


def _wait_for_workers(machines: Machines, count: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        answer = machines.api.get("/metrics").text
        if f'betavae_workers{{queue="train"}} {count}.0' in answer:
            return
        time.sleep(0.2)
    raise TimeoutError(f"{count} training workers were not ready after {START_SECONDS:.0f} s")


def _row(name: str, measured: Measured) -> None:
    requests = measured.traffic.requests
    counted = " + ".join(f"{count} {kind}" for kind, count in sorted(requests.items()))
    print(
        f"| {name} | {measured.seconds:.1f} s | {requests.total()} ({counted}) | {measured.traffic.bytes_in / 1e6:.1f} "
        f"MB | {measured.traffic.bytes_out / 1e6:.1f} MB | {measured.redis_commands} | "
        f"{1000 * measured.redis_seconds:.0f} ms |",
        flush=True,
    )


def measure(machines: Machines, meter: Meter, num_steps: int) -> Measured:
    """Prints the table of costs, and returns those of a training on a machine that has the set."""
    print("| what | time | requests to the store | bytes to it | bytes from it | Redis commands | Redis works |")
    print("|---|---|---|---|---|---|---|")
    upload = machines.api.post("/datasets", data={"name": "rectangles"}, files={"file": ("a.zip", pictures())})
    upload.raise_for_status()
    meter.lap()
    for name, steps in (
        ("a training that packs the set", num_steps // 4),
        ("a training", num_steps),
        ("a training of three times the steps", 3 * num_steps),
    ):
        _train(machines, steps)
        found = meter.lap()
        _row(name, found)
        if steps == num_steps:
            single = found
    time.sleep(IDLE_SECONDS)
    _row("nothing: one API, one worker", meter.lap())
    return single


def model_table(single: Measured, workers: Sequence[int], measured: dict[int, float]) -> None:
    """Prints the throughput by the model, beside what was measured (jobs per hour by number of workers)."""
    rate = single.traffic.requests.total() / single.seconds
    megabytes = (single.traffic.bytes_in + single.traffic.bytes_out) / 1e6 / single.seconds
    alone = throughput(1, single.seconds, single.redis_seconds)
    print("\n| workers | jobs an hour, by the model | against one | measured | Redis busy | requests | traffic |")
    print("|---|---|---|---|---|---|---|")
    for count in workers:
        jobs = throughput(count, single.seconds, single.redis_seconds)
        seen = f"{measured[count]:.0f}" if count in measured else "–"
        busy = 100 * count * single.redis_seconds / single.seconds
        print(
            f"| {count} | {3600 * jobs:.0f} | {jobs / alone:.2f} | {seen} | {busy:.2f} % | {count * rate:.1f}/s | "
            f"{count * megabytes:.2f} MB/s |"
        )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000, help="steps of a training (default: 4000)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 10], help="rows of the model")
    parser.add_argument("--measure", type=int, default=2, help="largest number of workers that is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bv-") as temporary, serve_objects() as store:
        folder = Path(temporary)
        with _redis(folder) as url:
            machines = Machines(
                folder, url, store, device="cpu", log_level="WARNING", checkpoint_seconds=CHECKPOINT_SECONDS
            )
            os.environ["OMP_NUM_THREADS"] = "1"
            try:
                machines.start_api()
                machines.start("worker-1", "worker", "train")
                _wait_for_workers(machines, 1)
                with redis.Redis.from_url(url, protocol=2) as client:
                    single = measure(machines, Meter(client, store), arguments.steps)
                seen = {}
                for count in range(1, arguments.measure + 1):
                    if count > 1:
                        machines.start(f"worker-{count}", "worker", "train")
                        _wait_for_workers(machines, count)
                        _train(machines, arguments.steps // 4, 2 * count)  # They fetch the set.
                    began = time.perf_counter()
                    _train(machines, arguments.steps, 2 * count)
                    seen[count] = 3600 * 2 * count / (time.perf_counter() - began)
                model_table(single, arguments.workers, seen)
            finally:
                machines.stop()


if __name__ == "__main__":
    main()
