"""Packing in a child process gives the same pack and the same errors, and can be stopped at any time."""

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.info import Preprocessing
from training.data.datasets import ArrayFile, BuiltIn, DatasetError, ImageFolder, Limits, Source, ZipFile, pack_dataset
from training.data.packs import open_pack
from worker.dataset_job import request_pack, wait_for_pack
from worker.jobs.records import TransitionRefused
from worker.runtime import Runtime, open_runtime
from worker.stores import packing
from worker.stores.dataset_records import pack_job_id
from worker.stores.packing import PackingDied, pack_in_child
from worker.stores.settings import Settings
from worker.tasks import work_on

GREY = Preprocessing(image_size=32, num_channels=1)
LONG = BuiltIn("dsprites")
"""A set that takes minutes: whoever packs it has to be stopped."""


class Enough(Exception):
    """An exception that a test raises to stop a packing."""


def nothing() -> None:
    """Lets the packing go on."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (40, 36), np.uint8)).save(folder / f"{i}.png")
    (folder / "broken-\udcff.png").write_bytes(b"no picture")
    return folder


def sources(pictures: Path) -> list[Source]:
    """A source of each kind."""
    archive, array = pictures.parent / "a.zip", pictures.parent / "a.npz"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(pictures.glob("?.png")):
            file.write(path, path.name)
    np.savez(array, images=np.zeros((5, 32, 32), np.uint8))
    return [ImageFolder(pictures, "images", "none"), ZipFile(archive), ArrayFile(array), BuiltIn("chairs", 6)]


def test_the_child_makes_the_pack_that_this_process_makes(pictures: Path, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    for i, source in enumerate(sources(pictures)):
        ours = pack_dataset(source, tmp_path / f"ours-{i}", GREY, name="set")
        pack_in_child(
            source, tmp_path / f"its-{i}", GREY, name="set", on_progress=lambda *c: counts.append(c), check=nothing
        )
        its = open_pack(tmp_path / f"its-{i}", preprocessing=GREY, verify=True).info
        assert (its.digest, its.name, its.num_rejected) == (ours.digest, "set", ours.num_rejected)
        assert its.source_fingerprint == ours.source_fingerprint
        assert counts[-1][0] == counts[-1][1]


def test_the_limits_reach_the_child(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="pixels, the limit is 1"):
        pack_in_child(
            ImageFolder(pictures, "images", "none"),
            tmp_path / "pack",
            GREY,
            name="",
            on_progress=lambda *_: None,
            check=nothing,
            limits=Limits(max_pixels=1),
        )


def test_a_failure_in_the_child_is_raised_in_the_parent(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError) as here:
        pack_dataset(ImageFolder(empty), tmp_path / "pack", GREY)
    with pytest.raises(DatasetError) as there:
        pack_in_child(ImageFolder(empty), tmp_path / "pack", GREY, name="", on_progress=lambda *_: None, check=nothing)
    assert (there.value.code, there.value.message) == (here.value.code, here.value.message)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file") as error:
        pack_in_child(
            BuiltIn("chairs", 4), tmp_path / "file" / "pack", GREY, name="", on_progress=lambda *_: None, check=nothing
        )
    assert error.value.errno


@pytest.mark.parametrize("where", ["progress", "check"])
def test_any_exception_stops_the_child_and_leaves_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = record_children(monkeypatch)
    seen = threading.Event()

    def on_progress(done: int, total: int) -> None:
        seen.set()
        if where == "progress":
            raise Enough

    def check() -> None:
        if where == "check" and seen.is_set():
            raise Enough

    with pytest.raises(Enough):
        pack_in_child(LONG, tmp_path / "packs" / "p", GREY, name="", on_progress=on_progress, check=check)
    children[0].wait(30)
    assert list((tmp_path / "packs").iterdir()) == []


def record_children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Returns a list that gets every process that is started from now on."""
    children: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def record(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        children.append(start(*arguments, **options))  # type: ignore[call-overload]
        return children[-1]

    monkeypatch.setattr(packing.subprocess, "Popen", record)  # type: ignore[attr-defined]
    return children


def test_a_killed_child_is_distinguished_from_a_bad_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = record_children(monkeypatch)
    with pytest.raises(PackingDied, match="killed by SIGKILL: out of memory"):
        pack_in_child(LONG, tmp_path / "p", GREY, name="", on_progress=lambda *_: children[0].kill(), check=nothing)


def test_a_damaged_hdf5_kills_the_child_alone(tmp_path: Path) -> None:
    path = Path(os.environ.get("TEST_DATA", "/nowhere")) / "field-cases" / "damaged.h5"
    if not path.is_file():
        pytest.skip("TEST_DATA has no field-cases/damaged.h5")
    with pytest.raises(PackingDied, match="SIGSEGV"):
        pack_in_child(ArrayFile(path), tmp_path / "p", GREY, name="", on_progress=lambda *_: None, check=nothing)


def test_a_child_that_is_silent_for_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = record_children(monkeypatch)
    monkeypatch.setattr(packing, "KILL_SECONDS", 0.1)

    def freeze(done: int, total: int) -> None:
        children[0].send_signal(signal.SIGSTOP)
        monkeypatch.setattr(packing, "SILENT_SECONDS", 1.0)

    with pytest.raises(PackingDied, match="nothing was packed for 1 s"):
        pack_in_child(LONG, tmp_path / "p", GREY, name="", on_progress=freeze, check=nothing)
    assert children[0].wait(30) == -signal.SIGKILL


def test_a_packing_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PACK_SECONDS", 0.0)
    with pytest.raises(PackingDied, match="more than 0 h"):
        pack_in_child(LONG, tmp_path / "p", GREY, name="", on_progress=lambda *_: None, check=nothing)


def test_the_memory_of_a_child_is_bounded(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MEMORY_BYTES", 2**20)
    with pytest.raises((DatasetError, PackingDied)):
        pack_in_child(sources(pictures)[0], tmp_path / "p", GREY, name="", on_progress=lambda *_: None, check=nothing)


def test_a_child_outlives_its_parent_by_no_more_than_a_block(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from models.info import Preprocessing
from training.data.datasets import BuiltIn
from worker.stores.packing import pack_in_child
def die(done, total):
    os.kill(os.getpid(), 9)
pack_in_child(BuiltIn("dsprites"), Path(sys.argv[1]), Preprocessing(image_size=32, num_channels=1), name="",
    on_progress=die, check=lambda: None)
"""
    folder = tmp_path / "packs"
    # The pipe to this process closes when the last child has ended.
    parent = subprocess.run(
        [sys.executable, "-c", program, str(folder / "p")], stderr=subprocess.PIPE, timeout=120, check=False
    )
    assert parent.returncode == -signal.SIGKILL
    assert parent.stderr == b""
    assert list(folder.iterdir()) == []


def test_the_child_has_a_lower_priority_and_ignores_signals_to_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = record_children(monkeypatch)
    calls = []

    def on_progress(done: int, total: int) -> None:
        calls.append(os.getpriority(os.PRIO_PROCESS, children[0].pid))
        children[0].terminate()
        children[0].send_signal(signal.SIGINT)
        if len(calls) == 3:
            raise Enough

    with pytest.raises(Enough):
        pack_in_child(LONG, tmp_path / "p", GREY, name="", on_progress=on_progress, check=nothing)
    assert min(calls) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + packing.NICENESS)


# As a job


@pytest.fixture
def services(tmp_path: Path, redis_server: str) -> Runtime:
    return open_runtime(Settings(home=tmp_path / "home", redis_url=redis_server, device="cpu", lease_seconds=2.0))


def while_packing(services: Runtime, then: Callable[[str], object]) -> tuple[str, float]:
    """Works on a long packing in a thread, and does something once it is under way.

    Returns: the job's id, and the seconds from then to the end of the work.
    """
    job = request_pack(services.jobs, "dsprites", GREY)
    thread = threading.Thread(target=work_on, args=(services, job.id))
    thread.start()
    position = None
    while thread.is_alive():
        events = services.jobs.wait_events(job.id, position, 1.0)
        position = events[-1].id if events else position
        if any(event.type == "progress" for event in events):
            break
    began = time.monotonic()
    then(job.id)
    thread.join(60)
    assert not thread.is_alive()
    return job.id, time.monotonic() - began


def test_a_packing_is_cancelled_at_once(services: Runtime) -> None:
    job_id, seconds = while_packing(services, lambda job_id: services.jobs.cancel(job_id))
    assert services.jobs.get(job_id).status == "cancelled"
    assert seconds < 10  # It takes a second on an idle machine.
    assert services.datasets.packs("dsprites") == []


def test_who_waits_for_a_packing_that_is_cancelled_does_not_start_it_anew(services: Runtime) -> None:
    def cancel(done: int, total: int) -> None:
        if done:
            with suppress(TransitionRefused):
                services.jobs.cancel(pack_job_id("dsprites", GREY))

    with pytest.raises(DatasetError) as refused:
        wait_for_pack(services, "dsprites", GREY, cancel)
    assert refused.value.code == "packing_cancelled"
    assert services.jobs.get(pack_job_id("dsprites", GREY)).status == "cancelled"


def test_a_worker_that_stops_hands_a_packing_back(services: Runtime) -> None:
    job_id, _ = while_packing(services, lambda _: services.stopping.set())
    job = services.jobs.get(job_id)
    assert (job.status, job.error) == ("queued", None)


def test_a_packing_reports_its_progress(services: Runtime) -> None:
    seen = []

    def look(job_id: str) -> None:
        seen.append(services.jobs.get(job_id).to_json()["progress"])
        services.jobs.cancel(job_id)

    while_packing(services, look)
    assert (seen[0]["phase"], seen[0]["num_steps"]) == ("packing", 737_280)
