"""Puts a mixed load on a service of its own, first idle and then while it trains, and prints times and memory.

    python -m benchmarks.load [--minutes 10] [--clients 16]

Each client sends one request after another, with a pause of up to one second in between: new and known traversals,
files of traversals that are made late, encode, polls of a job, and event streams of it. A quarter of the time passes
before the training begins. The benchmark fails (exit status 1) if a request fails, if a process takes more memory than
its bound, or if new traversals take more than three times as long (p95) while the service trains.
"""

import argparse
import math
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.service_speed import picture

MODEL = "dsprites"
KNOWN_SEEDS = range(8)
IDLE_SHARE = 0.25
"""Share of the time before the training begins."""
LONGEST_PAUSE_SECONDS = 1.0
STREAM_SECONDS = 5.0
START_SECONDS = 240.0
MOST_TIMES_IDLE = 3.0
API_BYTES = 300 * 2**20
"""Bound on the memory of the API above that when it is idle (docs/operations.md)."""
BOUNDS = {"broker": 512 * 2**20, "render worker": 4 * 2**30, "training worker": 8 * 2**30, "parsers": 2 * 2**30}
"""Bounds of the other processes, which are those of docker-compose.yml; the parsers count together."""
LABELS = {
    "app.server": "API",
    "worker render": "render worker",
    "worker train": "training worker",
    "worker.stores.parsing": "parsers",
    "valkey": "broker",
    "redis": "broker",
}
"""Part of a process' command line, and what the process is."""


@dataclass
class Results:
    """What the clients have seen."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Response times by kind of request and phase."""
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def p95(self, kind: str, phase: str) -> float:
        """Returns the 95th percentile of the response times, in seconds; NaN without any."""
        times = sorted(self.seconds[kind, phase])
        return times[max(0, round(0.95 * len(times)) - 1)] if times else float("nan")


class Load:
    """The clients, and what they know about the service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.results = Results()
        self.phase = "idle"
        self.job = ""
        self.stop = threading.Event()

    def run_client(self, number: int) -> None:
        """Sends requests until the load stops."""
        chance = random.Random(number)
        kinds: dict[str, tuple[int, Callable[[httpx.Client, random.Random], None]]] = {
            "new traversal": (4, self._new),
            "known traversal": (3, self._known),
            "late file": (1, self._late),
            "encode": (3, self._encode),
            "poll": (5, self._poll),
            "event stream": (1, self._stream),
        }
        weights = [weight for weight, _ in kinds.values()]
        with httpx.Client(base_url=self.url, timeout=90) as client:
            while not self.stop.wait(chance.uniform(0, LONGEST_PAUSE_SECONDS)):
                kind = chance.choices(list(kinds), weights)[0]
                if kind == "event stream" and not self.job:
                    continue
                phase, began = self.phase, time.perf_counter()
                failure = ""
                try:
                    kinds[kind][1](client, chance)
                except Exception as error:
                    failure = f"{kind}: {error!r}"[:300]
                spent = time.perf_counter() - began
                with self.results.lock:
                    self.results.seconds[kind, phase].append(spent)
                    self.results.failures += [failure] if failure else []

    def _traverse(self, client: httpx.Client, seed: int, accept: str = "application/zip") -> httpx.Response:
        fields = {"model": MODEL, "seed": str(seed)}
        answer = client.post("/traversals", data=fields, headers={"Accept": accept, "Prefer": "wait=60"})
        if answer.status_code not in (200, 201):
            raise RuntimeError(f"{answer.status_code} {answer.text[:200]}")
        return answer

    def _new(self, client: httpx.Client, chance: random.Random) -> None:
        self._traverse(client, chance.getrandbits(62))

    def _known(self, client: httpx.Client, chance: random.Random) -> None:
        self._traverse(client, chance.choice(KNOWN_SEEDS))

    def _late(self, client: httpx.Client, chance: random.Random) -> None:
        links = self._traverse(client, chance.choice(KNOWN_SEEDS), "application/json").json()["links"]
        client.get(chance.choice([link for link in links.values() if "." in link])).raise_for_status()

    def _encode(self, client: httpx.Client, chance: random.Random) -> None:
        client.post(f"/models/{MODEL}/encode", files={"image": ("a.png", picture())}).raise_for_status()

    def _poll(self, client: httpx.Client, chance: random.Random) -> None:
        client.get(f"/train-jobs/{self.job}" if self.job else "/train-jobs").raise_for_status()

    def _stream(self, client: httpx.Client, chance: random.Random) -> None:
        ends = time.monotonic() + STREAM_SECONDS
        with client.stream("GET", f"/train-jobs/{self.job}/events") as stream:
            stream.raise_for_status()
            for _ in stream.iter_lines():
                if time.monotonic() > ends or self.stop.is_set():
                    return


def processes_below(root: int) -> dict[int, str]:
    """Returns the command lines of all descendants of a process, by process id."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
        except OSError:  # The process has ended.
            continue
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        children = [pid for pid, parent in parents.items() if parent == waiting[0]]
        found |= {pid: commands[pid] for pid in children if pid in commands}
        waiting = waiting[1:] + children
    return found


def memory_below(root: int) -> dict[str, int]:
    """Returns the memory of the service's processes in bytes, by the names in LABELS."""
    memory: dict[str, int] = defaultdict(int)
    for pid, command in processes_below(root).items():
        label = next((label for part, label in LABELS.items() if part in command), None)
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
        if label is not None:
            memory[label] += pages * 4096
    return dict(memory)


def watch_memory(root: int, stop: threading.Event, peaks: dict[str, int]) -> None:
    """Keeps the largest memory of each kind of process until the event is set."""
    while not stop.wait(0.5):
        for label, num_bytes in memory_below(root).items():
            peaks[label] = max(peaks.get(label, 0), num_bytes)


@contextmanager
def service() -> Iterator[tuple[str, int]]:
    """Runs the service on a data folder of its own, and yields its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="load-") as home, open(Path(home) / "log", "wb") as log:
        command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--home", f"{home}/data"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(90)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit("The service did not start.")


def run(url: str, root: int, minutes: float, num_clients: int) -> tuple[Results, dict[str, int], dict[str, int]]:
    """Puts the load on a service.

    Args:
        url: Address of the service.
        root: Process id of the service's launcher.
        minutes: Duration.
        num_clients: Number of clients.

    Returns:
        What the clients saw, the memory of the processes before the load, and their largest memory, in bytes.
    """
    load, peaks = Load(url), dict[str, int]()
    with httpx.Client(base_url=url, timeout=90) as client:
        for seed in KNOWN_SEEDS:
            load._traverse(client, seed)
        load._encode(client, random.Random(0))
        before = memory_below(root)
        threads = [threading.Thread(target=load.run_client, args=(number,)) for number in range(num_clients)]
        threads.append(threading.Thread(target=watch_memory, args=(root, load.stop, peaks)))
        for thread in threads:
            thread.start()
        time.sleep(60 * minutes * IDLE_SHARE)
        body = {"dataset": "dsprites", "config": {"num_steps": 10_000_000}}
        load.job = client.post("/train-jobs", json=body).raise_for_status().json()["id"]
        while not client.get(f"/train-jobs/{load.job}").json()["progress"]["step"]:
            time.sleep(0.2)
        load.phase = "training"
        time.sleep(60 * minutes * (1 - IDLE_SHARE))
        load.stop.set()
        for thread in threads:
            thread.join()
        job = client.get(f"/train-jobs/{load.job}").json()
        if job["status"] != "running" or not job["progress"]["step"]:
            load.results.failures.append(f"training: {job['status']} at step {job['progress']['step']}")
        client.post(f"/train-jobs/{load.job}/cancel")
    return load.results, before, peaks


def report(results: Results, before: dict[str, int], peaks: dict[str, int]) -> bool:
    """Prints the tables, and returns whether everything is within its bounds."""
    kinds = list(dict.fromkeys(kind for kind, _ in results.seconds))
    print("| request | number | p95 idle | p95 while training |\n|---|---|---|---|")
    for kind in kinds:
        number = sum(len(results.seconds[kind, phase]) for phase in ("idle", "training"))
        times = [results.p95(kind, phase) for phase in ("idle", "training")]
        texts = ["" if math.isnan(seconds) else f"{1e3 * seconds:.0f} ms" for seconds in times]
        print(f"| {kind} | {number} | {texts[0]} | {texts[1]} |")
    print("\n| process | largest memory | bound |\n|---|---|---|")
    bounds = {**BOUNDS, "API": before["API"] + API_BYTES}
    for label, num_bytes in sorted(peaks.items()):
        print(f"| {label} | {num_bytes / 2**20:.0f} MiB | {bounds[label] / 2**20:.0f} MiB |")
    for failure in results.failures[:20]:
        print(f"failed: {failure}")
    ratio = results.p95("new traversal", "training") / results.p95("new traversal", "idle")
    print(f"\n{len(results.failures)} failed; new traversals take {ratio:.2f} times as long while a training runs")
    within = all(num_bytes <= bounds[label] for label, num_bytes in peaks.items())
    return not results.failures and within and ratio <= MOST_TIMES_IDLE


def main() -> int:
    """Runs the load and prints the tables. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Put a mixed load on a service while it trains.")
    parser.add_argument("--minutes", type=float, default=10.0, help="duration (default: 10)")
    parser.add_argument("--clients", type=int, default=16, help="number of clients (default: 16)")
    arguments = parser.parse_args()
    with service() as (url, root):
        found = run(url, root, arguments.minutes, arguments.clients)
    return 0 if report(*found) else 1


if __name__ == "__main__":
    sys.exit(main())
