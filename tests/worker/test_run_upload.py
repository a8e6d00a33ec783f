"""A run's files in a remote storage: each is copied once, again when it has changed, and after what it needs."""

from pathlib import Path

import pytest
import torch

from training.checkpoints import Checkpoint, list_checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from worker.run_folder import RunUpload
from worker.stores.opened import open_stores
from worker.stores.settings import Settings
from worker.stores.storage import RemoteStorage


def test_only_what_is_new_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = open_stores(Settings(home=tmp_path / "home", storage_url=f"local://{tmp_path / 'remote'}"))
    run = tmp_path / "run"
    for name in ("metrics.jsonl", "previews/1.png", "checkpoints/1-1.json", "best/1-1.json", "tensorboard/events"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    copied: list[str] = []
    put_file = RemoteStorage.put_file

    def note(self: RemoteStorage, key: str, path: Path) -> None:
        copied.append(key.removeprefix("jobs/j-1/"))
        put_file(self, key, path)

    monkeypatch.setattr(RemoteStorage, "put_file", note)
    upload = RunUpload(stores, "j-1", run)
    upload()
    assert sorted(copied) == sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    assert copied[-1] == "checkpoints/1-1.json"  # A worker that dies before has copied what belongs to it.

    copied.clear()
    for folder in ("checkpoints", "best"):
        (run / folder / "1-1.json").rename(run / folder / "2-1.json")
    (run / "metrics.jsonl").write_text("more metrics")
    (run / "previews/2.png").write_text("2")
    upload()
    assert sorted(copied) == ["best/2-1.json", "checkpoints/2-1.json", "metrics.jsonl", "previews/2.png"]
    storage = stores.storage
    assert storage.list("jobs/j-1/checkpoints") == storage.list("jobs/j-1/best") == ["2-1.json"]
    assert storage.list("jobs/j-1/previews") == ["1.png", "2.png"]
    assert storage.read_bytes("jobs/j-1/metrics.jsonl") == b"more metrics"


def test_a_worker_may_die_after_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = open_stores(Settings(home=tmp_path / "home", storage_url=f"local://{tmp_path / 'remote'}"))
    run = tmp_path / "run"
    upload, stored = RunUpload(stores, "j-1", run), tmp_path / "remote/jobs/j-1"
    seen: list[int] = []
    put_file = RemoteStorage.put_file

    def look(self: RemoteStorage, key: str, path: Path) -> None:
        put_file(self, key, path)
        for folder in (stored / "checkpoints", stored / "best"):
            for description in list_checkpoints(folder):
                read_checkpoint(description)
        newest = newest_checkpoint(stored / "checkpoints")
        seen.append(newest.step if newest else 0)
        assert not newest or int((stored / "metrics.jsonl").read_text()) >= newest.step

    monkeypatch.setattr(RemoteStorage, "put_file", look)
    for step in (1, 2):
        for folder in ("best", "checkpoints"):
            write_checkpoint(run / folder, Checkpoint(step, {"weight": torch.full((3,), float(step))}, {}))
        (run / "metrics.jsonl").write_text(str(step))
        upload()
    assert seen == [0] * 4 + [1] + [1] * 4 + [2]
