"""The supervisor, on small real processes: restarts, the order of stopping, and no orphans."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.serve import launcher, reaper
from app.serve.supervisor import restart_delay
from worker.stores.settings import Settings

ROOT = Path(__file__).resolve().parents[3]

CHILD = """
import os, signal, sys, time
name, log, stubborn = sys.argv[1:]
def stop(number, frame):
    with open(log, "a") as file:
        file.write(f"stopped {name}\\n")
    if not int(stubborn):
        os._exit(0)
signal.signal(signal.SIGTERM, stop)
with open(log, "a") as file:
    file.write(f"started {name} {os.getpid()}\\n")
while True:
    time.sleep(60)
"""

SUPERVISOR = """
import json, os, sys
from app.serve.supervisor import Child, Supervisor
log, child, children = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
supervisor = Supervisor(os.environ, lambda text: print(text, flush=True), ())
for name, rank, stubborn in children:
    command = [sys.executable, "-c", child, name, log, str(stubborn)]
    supervisor.add(Child(name, command, rank=rank, stop_seconds=0.5 if stubborn else 10.0))
while not supervisor.stop_requested:
    supervisor.restart_crashed()
    supervisor.wait(0.05)
supervisor.stop()
print("stopped cleanly", flush=True)
"""


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Returns the condition's first true value, and fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


class Run:
    """A supervisor in a process of its own, and the log that its children write."""

    def __init__(self, folder: Path, children: list[tuple[str, int, int]]) -> None:
        self.log = folder / "log"
        self.log.touch()
        command = [sys.executable, "-c", SUPERVISOR, str(self.log), CHILD, json.dumps(children)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        eventually(lambda: len(self.pids()) == len(children))

    def lines(self, word: str) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.log.read_text().splitlines() if line.startswith(word)]

    def pids(self) -> dict[str, int]:
        """Returns the newest process of each child."""
        return {name: int(pid) for name, pid in (line.split() for line in self.lines("started"))}

    def finish(self) -> str:
        output, _ = self.process.communicate(timeout=30)
        return output


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*children: tuple[str, int, int]) -> Run:
        runs.append(Run(tmp_path, list(children)))
        return runs[-1]

    yield start
    for each in runs:
        each.process.kill()
        each.process.communicate()
        for pid in each.pids().values():
            reaper.signal_group(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_stops_the_lowest_rank_first(run: Callable[..., Run], number: int) -> None:
    started = run(("broker", 2, 0), ("api", 0, 0), ("worker", 1, 0))
    started.process.send_signal(number)
    assert started.finish() == "stopped cleanly\n"
    assert started.process.returncode == 0
    assert started.lines("stopped") == ["api", "worker", "broker"]


def test_a_crashed_child_is_restarted_and_the_others_go_on(run: Callable[..., Run]) -> None:
    started = run(("worker", 1, 0), ("api", 0, 0))
    before = started.pids()
    os.kill(before["worker"], signal.SIGKILL)
    eventually(lambda: started.pids()["worker"] != before["worker"])
    assert started.pids()["api"] == before["api"]
    started.process.terminate()
    assert "worker was killed by SIGKILL; starting it again in 0.5 s" in started.finish()


def test_a_child_that_does_not_stop_is_killed(run: Callable[..., Run]) -> None:
    started = run(("worker", 1, 1), ("broker", 2, 0))
    started.process.terminate()
    assert "killing it" in started.finish()
    assert not reaper.group_alive(started.pids()["worker"])


def test_a_second_ctrl_c_kills_at_once(run: Callable[..., Run]) -> None:
    started = run(("worker", 1, 0), ("broker", 2, 0))
    os.kill(started.pids()["worker"], signal.SIGSTOP)

    def ended_after_another_ctrl_c() -> bool:
        started.process.send_signal(signal.SIGINT)
        return started.process.poll() is not None

    eventually(ended_after_another_ctrl_c, seconds=8.0)
    assert not reaper.group_alive(started.pids()["worker"])


def test_kill_9_of_the_supervisor_leaves_no_child(run: Callable[..., Run]) -> None:
    started = run(("worker", 1, 0), ("api", 0, 0), ("broker", 2, 0))
    pids = started.pids()
    started.process.kill()
    started.finish()
    eventually(lambda: not any(reaper.group_alive(pid) for pid in pids.values()))
    assert started.lines("stopped") == ["api", "worker", "broker"]


def test_restart_delays_grow_to_half_a_minute() -> None:
    delays = [restart_delay(n) for n in range(1, 20)]
    assert delays[0] == 0.5
    assert delays == sorted(delays)
    assert delays[-1] == 30.0


def test_a_taken_port_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(launcher.LaunchError, match=rf"^Port {port} on 127\.0\.0\.1 can't be had .*BETAVAE_PORT"):
            launcher.bind("127.0.0.1", port)


def test_a_taken_port_leaves_no_data_folder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(home=tmp_path / "home", port=taken.getsockname()[1])
        with pytest.raises(launcher.LaunchError, match=r"^Port \d+"):
            launcher.serve(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_second_start_reports_the_first_one_and_not_its_port(tmp_path: Path) -> None:
    descriptor = launcher._lock(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(home=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(launcher.LaunchError, match="already serves from the data folder"):
            launcher.serve(settings)
    os.close(descriptor)


def test_an_unknown_host_is_reported_in_one_sentence() -> None:
    with pytest.raises(launcher.LaunchError, match="BETAVAE_HOST"):
        launcher.bind("no.such.host.invalid", 0)


def test_a_bound_socket_listens_before_the_service_answers() -> None:
    with launcher.bind("localhost", 0) as listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
        pass


def test_a_data_folder_is_locked_once(tmp_path: Path) -> None:
    """The lock belongs to the open file, so a second one in this process is refused like one in another process."""
    descriptor = launcher._lock(tmp_path)
    with pytest.raises(launcher.LaunchError, match=f"process {os.getpid()}.*already serves.*BETAVAE_HOME"):
        launcher._lock(tmp_path)
    os.close(descriptor)
    os.close(launcher._lock(tmp_path))


def test_a_data_folder_that_cannot_be_written_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(launcher.LaunchError, match="BETAVAE_HOME"):
        launcher._data_folder(tmp_path / "file" / "home")


class FakeSupervisor:
    """A supervisor that nobody asks to stop."""

    stop_requested = False

    def wait(self, seconds: float) -> None:
        pass


class FakeBroker:
    """A broker that runs."""

    running = True


def test_a_broker_that_never_answers_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "BROKER_SECONDS", 0.3)
    monkeypatch.setattr(launcher, "STILL_WAITING_SECONDS", 0.1)
    address = f"unix://{tmp_path}/none.sock"
    with pytest.raises(launcher.LaunchError, match="does not answer at its socket"):
        launcher._wait_for_broker(FakeSupervisor(), FakeBroker(), address)  # type: ignore[arg-type]
    assert "waiting for the broker: " in capsys.readouterr().err


def test_a_service_with_another_storage_is_refused(tmp_path: Path, redis_server: str) -> None:
    for home in ("one", "one"):
        launcher._claim_database(Settings(home=tmp_path / home, redis_url=redis_server))
    with pytest.raises(launcher.LaunchError, match="belongs to another storage"):
        launcher._claim_database(Settings(home=tmp_path / "two", redis_url=redis_server))
