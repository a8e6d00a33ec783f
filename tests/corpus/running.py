"""The whole service, as `betavae serve` starts it, with its memory, its processes and its files under observation."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from api_support import ROOT, add_model

from app.serve import reaper
from worker.stores.storage import LocalStorage

START_SECONDS = 240
STOP_SECONDS = 60
SAMPLE_SECONDS = 0.02
GONE_SECONDS = 5
LIVE = re.compile(r"(redis|cache)/|lock$|.*\.log$")
"""Files that change while the service runs, whatever is sent."""
MAX_MIB_ABOVE_IDLE = {"api": 300, "render": 512}
"""Bounds on the processes that take what clients send, whatever it is (docs/operations.md)."""
MAX_FAMILY_MIB = {"api": 1024, "render": 4096}
"""Bounds on each with its children: the limits of the containers in docker-compose.yml."""


class Running:
    """A running service with two small models, tiny (grey) and tiny-rgb."""

    def __init__(self, home: Path, process: "subprocess.Popen[bytes]", log: Path, port: int) -> None:
        self.home = home
        self.log = log
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self._process = process
        self.pids = self._children()
        self.idle_mib = {name: resident_mib(self.pids[name]) for name in MAX_MIB_ABOVE_IDLE}
        self.peaks: Counter[str] = Counter()
        """The most memory of each process above idle, and of each with its children, in MiB."""

    def _children(self) -> dict[str, int]:
        """Returns the process ids of the launcher's children by their names."""
        found = {}
        for pid in children_of(self._process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
            for word, name in (("app.server", "api"), ("worker render", "render"), ("worker train", "train"),
                               ("broker.sock", "broker")):  # fmt: skip
                if word in command:
                    found[name] = pid
        return found

    def report(self) -> str:
        """Returns the peaks of memory so far in words."""
        return ", ".join(f"{name}: {peak} MiB" for name, peak in sorted(self.peaks.items()))

    def assert_alive(self) -> None:
        """Checks that the service answers, and that none of its processes was replaced."""
        assert self.client.get("/healthz").status_code == 200
        assert self._children() == self.pids, self.log.read_text("utf-8")[-4000:]

    def files(self) -> set[str]:
        """Returns the files of the data folder that a request may leave behind."""
        names = {str(path.relative_to(self.home)) for path in self.home.rglob("*") if not path.is_dir()}
        return {name for name in names if not LIVE.match(name)}

    def assert_no_new_files(self, before: set[str]) -> None:
        """Waits until the data folder has no other files than before; a worker may still be removing some."""
        deadline = time.monotonic() + GONE_SECONDS
        while (new := self.files() - before) and time.monotonic() < deadline:
            time.sleep(SAMPLE_SECONDS)
        assert not new, sorted(new)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measures the memory of the API, of the render worker and of their children while the block runs.

        Raises:
            AssertionError: One of them took more than its bound.
        """
        memory = Memory({name: self.pids[name] for name in self.idle_mib})
        memory.start()
        try:
            yield
        finally:
            memory.stop()
        for name, bound in MAX_MIB_ABOVE_IDLE.items():
            above, family = memory.peak_mib[name] - self.idle_mib[name], memory.family_mib[name]
            self.peaks[f"{name} above idle"] = max(self.peaks[f"{name} above idle"], round(above))
            self.peaks[f"{name} and its children"] = max(self.peaks[f"{name} and its children"], round(family))
            assert above < bound, f"{name}: {above:.0f} MiB above idle"
            assert family < MAX_FAMILY_MIB[name], f"{name} and its children: {family:.0f} MiB"


class Memory(threading.Thread):
    """The peak memory of some processes, exactly, and of each with its children, from samples."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        super().__init__(daemon=True)
        self._pids = pids
        self._done = threading.Event()
        self.family_mib = dict.fromkeys(pids, 0.0)
        self.peak_mib = dict.fromkeys(pids, 0.0)
        for pid in pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # This resets the peak.

    def run(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        for name, pid in self._pids.items():
            family = [pid, *children_of(pid)]
            self.family_mib[name] = max(self.family_mib[name], sum(resident_mib(one) for one in family))

    def stop(self) -> None:
        self._done.set()
        self.join()
        self._sample()
        self.peak_mib = {name: resident_mib(pid, "VmHWM") for name, pid in self._pids.items()}


def children_of(pid: int) -> list[int]:
    """Returns the ids of a process' children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def resident_mib(pid: int, name: str = "VmRSS") -> float:
    """Returns the resident memory of a process in MiB, or by VmHWM its peak; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


@contextmanager
def running_service(folder: Path, **settings: str) -> Iterator[Running]:
    """Runs `betavae serve` on a new data folder.

    Args:
        folder: An empty folder, for the data and the log.
        settings: Environment variables without their prefix, such as `max_waiting_jobs="20"`.
    """
    home, log = folder / "home", folder / "log"
    add_model(LocalStorage(home), "tiny")
    add_model(LocalStorage(home), "tiny-rgb", num_channels=3)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BETAVAE_")}
    environment |= {f"BETAVAE_{name.upper()}": value for name, value in settings.items()}
    environment |= {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--home", str(home), "--device", "cpu"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=environment)
    try:
        running = Running(home, process, log, _port(process, log))
        with running.client:
            yield running
    finally:
        children = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            for pid in children:
                reaper.signal_group(pid, signal.SIGKILL)


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Waits until the service is ready, and returns its port."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        text = log.read_text("utf-8")
        if found := re.search(r"ready on http://127\.0\.0\.1:(\d+)", text):
            return int(found[1])
        assert process.poll() is None and time.monotonic() < deadline, text
        time.sleep(0.05)
