"""A run's files in a remote storage: each is copied once, and again when it has changed."""

from pathlib import Path

import pytest

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
