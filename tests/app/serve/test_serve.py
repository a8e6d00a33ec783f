"""`betavae serve` as a whole: the real broker, workers and API on one data folder."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_launcher import eventually

from app.serve import reaper

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


class Service:
    """A running `betavae serve`."""

    def __init__(self, home: Path, log: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BETAVAE_")}
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app", "serve", "--port", "0", "--home", str(home), "--device", "cpu"],
                cwd=home.parent,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text("utf-8")

    def port(self) -> int:
        """Waits until the service is ready, and returns its port."""

        def ready_line() -> re.Match[str] | None:
            assert self.process.poll() is None, self.text()
            return re.search(r"ready on http://127\.0\.0\.1:(\d+)", self.text())

        found: re.Match[str] = eventually(ready_line, 180)
        return int(found[1])

    def children(self) -> dict[str, int]:
        """Returns the process ids of the launcher's children by their names."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                command = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue
            if int(parent) == self.process.pid:
                word = re.search(r"worker \w+|app\.[\w.]+|broker\.sock", command)
                found[word[0] if word else command] = int(folder.name)
        return found


def status(port: int, path: str) -> int:
    """Returns the status of a GET, or 0 if there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    """A function that starts the service on one data folder, any number of times."""
    started: list[Service] = []

    def start() -> Service:
        started.append(Service(tmp_path / "home", tmp_path / f"log{len(started)}"))
        return started[-1]

    yield start
    for service in started:
        children = service.children()
        service.process.kill()
        service.process.wait()
        for pid in children.values():
            reaper.signal_group(pid, signal.SIGKILL)


def test_one_command_serves_survives_a_worker_and_leaves_nothing_behind(
    serve: Callable[[], Service], tmp_path: Path
) -> None:
    upload = tmp_path / "home" / "tmp" / "upload-abc"  # Its API process was killed yesterday.
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"PK")
    os.utime(upload, (time.time() - 86_400,) * 2)
    first = serve()
    port = first.port()
    assert status(port, "/readyz") == 200
    assert not upload.exists()
    children = first.children()
    assert {"worker train", "worker render", "app.server", "app.serve.reaper", "broker.sock"} == children.keys()

    # A second one on the same folder is refused in one line.
    second = serve()
    assert second.process.wait(60) == 1
    assert second.text().count("\n") == 1
    assert f"(process {first.process.pid}) already serves from the data folder" in second.text()

    # When a worker and the API are killed, others take their places on the same port.
    os.kill(children["worker train"], signal.SIGKILL)
    os.kill(children["app.server"], signal.SIGKILL)
    eventually(lambda: first.children().get("worker train", 0) not in (0, children["worker train"]), 60)
    eventually(lambda: status(port, "/readyz") == 200, 120)

    # When the launcher itself is killed, no process that serves or trains is left.
    children = first.children()
    first.process.kill()
    first.process.wait()
    eventually(lambda: not any(reaper.group_alive(pid) for pid in children.values()), 60)

    # The folder can be served again, and a stop releases it.
    third = serve()
    third.port()
    children = third.children()
    third.process.send_signal(signal.SIGTERM)
    assert third.process.wait(90) == 0
    assert third.text().endswith("betavae: stopped\n")
    assert not any(reaper.group_alive(pid) for pid in children.values())
