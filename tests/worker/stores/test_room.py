"""Room on the disk: the mark of free space, the quota, the expiry of traversals, and disks that are really full."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from models.atomic import write_bytes
from worker.stores.room import NAME_FILE, Room, StorageFull, folder_size, remove_leftovers
from worker.stores.storage import LocalStorage

EVERY_BYTE = 2**62
"""More than any disk has."""


def traversal(root: Path, identity: str, *, size: int = 1000, age_seconds: float = 3600, name: str = "") -> Path:
    """Writes a finished traversal of a size and an age."""
    folder = root / "traversals" / identity
    write_bytes(folder / "sheet.gif", bytes(size))
    write_bytes(folder / "result.json", b"{}")
    if name:
        write_bytes(folder / NAME_FILE, name.encode())
    then = folder.stat().st_mtime - age_seconds
    os.utime(folder, (then, then))
    return folder


def left(root: Path) -> list[str]:
    return sorted(folder.name for folder in (root / "traversals").iterdir())


def test_a_file_over_the_quota_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, Room(tmp_path, max_bytes=10_000))
    storage.write_bytes("models/a/weights", bytes(6000))
    with pytest.raises(StorageFull, match=r"6\.0 kB of at most 10\.0 kB \(BETAVAE_MAX_STORAGE_BYTES\).*Delete"):
        storage.write_bytes("models/b/weights", bytes(6000))
    assert not storage.exists("models/b")
    storage.write_bytes("models/b/weights", bytes(3000))


def test_a_file_below_the_mark_of_free_space_is_refused_unless_it_may_use_the_reserve(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, Room(tmp_path, min_free_bytes=EVERY_BYTE))
    with pytest.raises(StorageFull, match="BETAVAE_MIN_FREE_BYTES") as refused:
        storage.write_bytes("jobs/a/job.json", b"{}")
    assert refused.value.errno == errno.ENOSPC
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises(StorageFull):
        storage.put_file("datasets/a/upload.zip", source)
    with pytest.raises(StorageFull):
        storage.move_file("datasets/a/upload.zip", source)
    assert not storage.exists("jobs")
    assert not storage.exists("datasets")
    storage.write_json("jobs/a/state.json", {}, reserve=True)
    storage.delete("jobs/a")
    assert not storage.exists("jobs/a")


def test_the_oldest_traversals_without_a_name_make_room(tmp_path: Path) -> None:
    for identity, age, name in [("a", 500, ""), ("b", 900, ""), ("c", 999, "kept"), ("d", 700, ""), ("e", 5, "")]:
        traversal(tmp_path, identity, age_seconds=age, name=name)
    (tmp_path / "traversals" / "f").mkdir()  # One that is being made has no result yet.
    size = folder_size(tmp_path)
    room = Room(tmp_path, max_bytes=size + 500)
    room.check(500)
    assert left(tmp_path) == ["a", "b", "c", "d", "e", "f"]
    room.check(2000)
    assert left(tmp_path) == ["a", "c", "e", "f"]
    with pytest.raises(StorageFull):
        room.check(size)
    assert left(tmp_path) == ["c", "e", "f"]


def temporary(root: Path, *, minutes: float) -> list[Path]:
    """Writes what a service keeps in its temporary folder, at an age."""
    folder = root / "tmp"
    paths = [folder / name for name in ("upload-a", "import-b", "tmpc", "torchinductor_root")]
    for path in paths:
        write_bytes(path if path.name == "upload-a" else path / "file", bytes(1000))
        then = path.stat().st_mtime - 60 * minutes
        os.utime(path, (then, then))
    return paths


def test_what_killed_processes_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    young = temporary(tmp_path / "a", minutes=55)
    old = temporary(tmp_path / "b", minutes=65)
    remove_leftovers(tmp_path / "a" / "tmp")
    remove_leftovers(tmp_path / "b" / "tmp")
    remove_leftovers(tmp_path / "none")
    assert all(path.exists() for path in young)
    assert [path.name for path in old if path.exists()] == ["torchinductor_root"]


def test_leftovers_make_room_before_traversals(tmp_path: Path) -> None:
    traversal(tmp_path, "a")
    temporary(tmp_path, minutes=65)
    Room(tmp_path, max_bytes=folder_size(tmp_path)).check(2000)
    assert left(tmp_path) == ["a"]
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["torchinductor_root"]


def test_what_was_written_since_the_size_was_measured_counts(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, Room(tmp_path, max_bytes=10_000))
    for i in range(10):
        storage.write_bytes(f"a/{i}", bytes(1000))
    with pytest.raises(StorageFull):
        storage.write_bytes("a/10", bytes(1000))
    assert folder_size(tmp_path) == 10_000
    storage.delete("a/0")
    storage.write_bytes("a/10", bytes(1000))


def test_hard_links_count_once_and_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_bytes(outside / "big", bytes(5000))
    root = tmp_path / "root"
    write_bytes(root / "pack" / "images", bytes(700))
    os.link(root / "pack" / "images", root / "kept")
    (root / "link").symlink_to(outside)
    assert folder_size(root) == 700 + len(str(outside))


def test_a_copied_folder_is_whole_or_absent(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bytes(tmp_path / "model" / name, bytes(600))
    storage = LocalStorage(tmp_path / "home", Room(tmp_path / "home", max_bytes=1000))
    with pytest.raises(StorageFull):
        storage.put_folder("models/a", tmp_path / "model")
    assert not storage.exists("models/a")


def test_a_disk_that_is_really_full_leaves_no_part_of_a_file(small_disk: Path) -> None:
    storage = LocalStorage(small_disk)
    storage.write_bytes("models/a/weights", b"old")
    for key in ("models/a/weights", "models/b/weights"):
        with pytest.raises(OSError, match="No space left") as full:
            storage.write_bytes(key, bytes(shutil.disk_usage(small_disk).total))
        assert full.value.errno == errno.ENOSPC
    assert storage.read_bytes("models/a/weights") == b"old"
    assert [str(path.relative_to(small_disk)) for path in small_disk.rglob("*")] == [
        "models", "models/a", "models/a/weights",
    ]  # fmt: skip


def test_the_mark_leaves_space_on_a_real_disk(small_disk: Path) -> None:
    total = shutil.disk_usage(small_disk).total
    storage = LocalStorage(small_disk, Room(small_disk, min_free_bytes=total // 2))
    for i in range(45):
        storage.write_bytes(f"a/{i}", bytes(total // 100))
    with pytest.raises(StorageFull):
        storage.write_bytes("a/big", bytes(total // 10))
    assert shutil.disk_usage(small_disk).free >= total // 2
