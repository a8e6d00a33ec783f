"""Backups: what they hold, their order while the folder changes, and files that are none."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.stores.backups import FIRST, LAST, NotABackup, back_up, restore

FILES = {
    "datasets/d/dataset.json": b"{}",
    "datasets/d/upload.zip": b"\x00" * 100,
    "jobs/j-1/checkpoints/00000010-1.json": b'{"step": 10}',
    "jobs/j-1/checkpoints/00000010-1.safetensors": b"t" * 40_000,
    "jobs/j-1/job.json": b"{}",
    "jobs/j-1/metrics.jsonl": b"{}\n",
    "jobs/j-1/previews/00000010.png": b"p",
    "jobs/j-1/state.json": b'{"step": 12}',
    "models/default.json": b"{}",
    "models/m/model.json": b"{}",
    "models/m/model.safetensors": b"w",
    "tokens/t.json": b"{}",
}
OF_THIS_MACHINE = ("cache/x", "lock", "redis/appendonly.aof", "storage.json", "tmp/y", "workers/w", "jobs/j-1/.a.tmp")


def _write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def _read(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder."""
    _write(tmp_path / "home", FILES | dict.fromkeys(OF_THIS_MACHINE, b"x"))
    return tmp_path / "home"


def _backup(home: Path, on_write: Callable[[], None] = lambda: None) -> bytes:
    class Target(io.BytesIO):
        def write(self, data: object, /) -> int:
            on_write()
            return super().write(data)  # type: ignore[arg-type]

    target = Target()
    back_up(home, target)
    return target.getvalue()


def test_what_is_restored_is_what_was_backed_up(home: Path, tmp_path: Path) -> None:
    data = _backup(home)
    assert restore(io.BytesIO(data), tmp_path / "new") == len(FILES)
    assert _read(tmp_path / "new") == FILES
    (tmp_path / "empty").mkdir()
    restore(io.BytesIO(data), tmp_path / "empty")
    assert _read(tmp_path / "empty") == FILES


def test_the_order_is_checkpoints_records_models(home: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_backup(home))) as tar:
        names = tar.getnames()
    assert (names[0], names[-1]) == (FIRST, LAST)
    expected = [
        "jobs/j-1/checkpoints/00000010-1.safetensors",
        "jobs/j-1/checkpoints/00000010-1.json",
        "jobs/j-1/metrics.jsonl",
        "jobs/j-1/state.json",
        "models/m/model.safetensors",
        "models/m/model.json",
    ]
    assert [name for name in names if name in expected] == expected


def test_a_checkpoint_that_is_replaced_meanwhile_comes_with_its_successor(home: Path, tmp_path: Path) -> None:
    """The first bytes leave when the large tensors are written; then the worker prunes what is being copied."""
    folder = home / "jobs/j-1/checkpoints"

    def replace() -> None:
        if (folder / "00000010-1.json").exists():
            _write(folder, {"00000020-1.safetensors": b"u" * 40_000, "00000020-1.json": b'{"step": 20}'})
            for path in folder.glob("00000010*"):
                path.unlink()

    restore(io.BytesIO(_backup(home, replace)), tmp_path / "new")
    copied = _read(tmp_path / "new" / "jobs/j-1/checkpoints")
    assert copied["00000020-1.json"] == b'{"step": 20}'
    assert copied["00000020-1.safetensors"] == b"u" * 40_000
    assert "00000010-1.json" not in copied


def test_a_job_that_ends_meanwhile_is_in_the_backup_with_its_model(home: Path, tmp_path: Path) -> None:
    def end() -> None:
        (home / "jobs/j-1/state.json").unlink(missing_ok=True)
        _write(home, {"jobs/j-1/result.json": b'{"model": "late"}', "models/late/model.json": b"{}"})

    restore(io.BytesIO(_backup(home, end)), tmp_path / "new")
    copied = _read(tmp_path / "new")
    assert "jobs/j-1/state.json" not in copied
    assert {"jobs/j-1/result.json", "models/late/model.json"} <= set(copied)


def test_a_folder_that_is_not_empty_is_left_alone(home: Path) -> None:
    before = _read(home)
    with pytest.raises(FileExistsError, match="not empty"):
        restore(io.BytesIO(_backup(home)), home)
    assert _read(home) == before


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_a_file_that_was_cut_off_leaves_nothing(home: Path, tmp_path: Path, share: float) -> None:
    data = _backup(home)
    with pytest.raises(NotABackup):
        restore(io.BytesIO(data[: int(share * len(data))]), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def _link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    "data",
    [
        b"no tar at all" * 100,
        _tar((tarfile.TarInfo("jobs/j-1/job.json"), b"{}")),
        _tar((tarfile.TarInfo(FIRST), b'{"format_version": 2}')),
        _tar((tarfile.TarInfo(FIRST), b"[]")),
        _tar((tarfile.TarInfo(FIRST), b'{"format_version": 1}'), (tarfile.TarInfo("../evil"), b"x")),
        _tar((tarfile.TarInfo(FIRST), b'{"format_version": 1}'), (tarfile.TarInfo("/tmp/evil"), b"x")),
        _tar((tarfile.TarInfo(FIRST), b'{"format_version": 1}'), (_link("jobs", "/etc"), b"")),
        _tar((tarfile.TarInfo(FIRST), b'{"format_version": 1}'), (tarfile.TarInfo(LAST), b'{"num_files": 3}')),
    ],
)
def test_what_is_no_backup_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(NotABackup):
        restore(io.BytesIO(data), tmp_path / "in" / "new")
    assert [path.name for path in (tmp_path / "in").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
