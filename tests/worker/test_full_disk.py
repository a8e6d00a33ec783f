"""Full disks: trainings pause with a checkpoint, other jobs leave nothing, and workers outlive a Redis that is full."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_support import fill_disk, is_read_only
from PIL import Image
from redis_support import serve_redis

from models.info import Preprocessing
from training.checkpoints import list_checkpoints
from training.config import config_to_json
from training.presets import resolve
from worker.dataset_job import request_pack
from worker.jobs.connections import check_writable, connect
from worker.jobs.records import Job
from worker.runtime import Runtime, open_runtime
from worker.stores.settings import Settings
from worker.tasks import work_on

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def services(tmp_path: Path, redis_server: str) -> Iterator[Runtime]:
    """The runtime of a worker, with a data set `squares`."""
    services = open_runtime(Settings(home=tmp_path / "home", redis_url=redis_server, device="cpu", min_free_bytes=0))
    services.datasets.add_path("squares", pictures(tmp_path / "pictures"))
    yield services
    services.jobs.redis.close()


def pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def create(services: Runtime, **settings: Any) -> Job:
    defaults = {"image_size": 32, "latent_dim": 2, "batch_size": 4, "log_steps": 1, "preview_steps": 0}
    config = config_to_json(resolve(None, {**defaults, "validation_fraction": 0.0, **settings}))
    request: dict[str, Any] = {"dataset": "squares", "preset": None, "config": config, "from": None, "evaluate": []}
    return services.jobs.create("train", request, name="Squares")


def eventually(condition: Callable[[], Any]) -> Any:
    """Returns the condition's first true value, and fails if there is none in two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("not within 120 s")


def test_a_training_on_a_full_disk_pauses_with_a_checkpoint_and_goes_on_later(
    services: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.train_job.ROOM_SECONDS", 0.0)
    job = create(services, num_steps=40)
    commit = services.jobs.commit_claim

    def fill_at_step_5(claim: Any, event_type: str, data: Any, step: int | None, fields: Any) -> str:
        if claim.id == job.id and step is not None and step >= 5:
            services.room.max_bytes = 1
        return commit(claim, event_type, data, step, fields)

    monkeypatch.setattr(services.jobs, "commit_claim", fill_at_step_5)
    monkeypatch.setattr("worker.train_job.REPORT_SECONDS", 0.0)
    work_on(services, job.id)
    paused = services.jobs.get(job.id)
    assert paused.status == "paused"
    assert any("the disk is full" in text for text in paused.warnings)
    checkpoint = list_checkpoints(services.settings.home / "jobs" / job.id / "checkpoints")[-1]
    assert 5 <= int(checkpoint.name.split("-")[0]) < 40
    services.room.max_bytes = None
    monkeypatch.setattr(services.jobs, "commit_claim", commit)
    services.jobs.resume(job.id)
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert done.resumed_from_step == int(checkpoint.name.split("-")[0])


def test_a_training_whose_files_find_no_space_pauses(services: Runtime, small_disk: Path) -> None:
    """The folder of the run is on a disk that is really full."""
    job = create(services, num_steps=10_000)
    shutil.copytree(services.settings.home / "jobs" / job.id, small_disk, dirs_exist_ok=True)
    shutil.rmtree(services.settings.home / "jobs" / job.id)
    (services.settings.home / "jobs" / job.id).symlink_to(small_disk)
    fill_disk(small_disk / "filler")
    work_on(services, job.id)
    assert services.jobs.get(job.id).status == "paused"
    assert not list(small_disk.glob("checkpoints/.*"))


def test_a_packing_without_room_fails_with_a_code_and_leaves_nothing(services: Runtime) -> None:
    job = request_pack(services.jobs, "squares", Preprocessing(image_size=32, num_channels=1))
    services.room.max_bytes = 1
    work_on(services, job.id)
    failed = services.jobs.get(job.id)
    assert failed.error is not None
    assert failed.error["code"] == "storage_full"
    assert "Delete" in failed.error["message"]
    folder = services.settings.home / "datasets" / "squares"
    eventually(lambda: [path.name for path in folder.iterdir()] == ["source.json"])


def test_a_redis_that_cannot_write_its_file_counts_as_away(small_disk: Path) -> None:
    with serve_redis(small_disk, append=True) as url:
        client = connect(url)
        check_writable(client)
        fill_disk(small_disk / "filler")
        eventually(lambda: is_read_only(client))
        (small_disk / "filler").unlink()
        eventually(lambda: not is_read_only(client))
        client.close()


@pytest.mark.slow
def test_a_real_worker_outlives_a_redis_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    with serve_redis(small_disk, append=True) as url:
        settings = Settings(home=tmp_path / "home", redis_url=url, device="cpu")
        services = open_runtime(settings)
        services.datasets.add_path("squares", pictures(tmp_path / "pictures"))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BETAVAE_")}
        environment |= {"BETAVAE_HOME": str(settings.home), "BETAVAE_REDIS_URL": url}
        workers = [
            subprocess.Popen([sys.executable, "-m", "worker", queue], cwd=ROOT, env=environment, start_new_session=True)
            for queue in ("train", "render")
        ]
        try:
            job = create(services, num_steps=10**6)
            services.jobs.send(job)
            metrics = settings.home / "jobs" / job.id / "metrics.jsonl"
            eventually(lambda: services.jobs.get(job.id).progress.get("step", 0) > 5)
            fill_disk(small_disk / "filler")
            eventually(lambda: is_read_only(services.jobs.redis))
            lines = len(metrics.read_text().splitlines())
            # The training goes on, and both workers stay, although neither can fetch or record anything.
            eventually(lambda: len(metrics.read_text().splitlines()) > lines + 20)
            eventually(lambda: [worker.poll() for worker in workers] == [None, None])
            step = services.jobs.get(job.id).progress["step"]
            (small_disk / "filler").unlink()
            eventually(lambda: services.jobs.get(job.id).progress["step"] > step)
            services.jobs.cancel(job.id)
            eventually(lambda: services.jobs.get(job.id).status == "cancelled")
            assert services.jobs.get(job.id).attempts == 1
            pack = request_pack(services.jobs, "squares", Preprocessing(image_size=16, num_channels=1))
            services.jobs.send(pack)
            eventually(lambda: services.jobs.get(pack.id).status == "succeeded")
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            services.jobs.redis.close()
