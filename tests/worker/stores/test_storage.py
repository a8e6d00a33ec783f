"""Storage: one suite over the local folder and an object store; files are whole or absent."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from worker.stores.storage import LocalStorage, NotStored, RemoteStorage, Storage, open_storage


@pytest.fixture(params=["folder", "memory", "file system"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield open_storage(tmp_path / "home")
    elif request.param == "memory":
        root = f"memory://{secrets.token_hex(4)}"
        yield open_storage(f"{root}/base", cache_folder=tmp_path / "cache")
        fsspec.filesystem("memory").store.clear()
    else:  # Local files through fsspec are a remote storage without an object store.
        yield RemoteStorage(f"local://{tmp_path / 'remote'}", tmp_path / "cache")


def test_a_written_file_can_be_read(any_storage: Storage) -> None:
    any_storage.write_bytes("a/b.bin", b"123")
    any_storage.write_json("a/c/d.json", {"x": [1, "ü"]})
    assert any_storage.read_bytes("a/b.bin") == b"123"
    assert any_storage.read_json("a/c/d.json") == {"x": [1, "ü"]}
    assert any_storage.exists("a/b.bin")
    assert any_storage.exists("a/c")
    assert any_storage.list("a") == ["b.bin", "c"]
    any_storage.write_bytes("a/b.bin", b"4")
    assert any_storage.read_bytes("a/b.bin") == b"4"


def test_a_missing_file_is_not_stored(any_storage: Storage) -> None:
    any_storage.write_bytes("a/b", b"")
    for key in ("x", "a/x", "x/y/z", "a/b/c"):
        assert not any_storage.exists(key)
        assert any_storage.list(key) == []
        any_storage.delete(key)
        for method in ("read_bytes", "read_json", "local_file", "local_folder"):
            with pytest.raises(NotStored):
                getattr(any_storage, method)(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.b", "a\\b", "a\0"])
def test_no_key_leaves_the_storage(any_storage: Storage, key: str) -> None:
    for call in (any_storage.read_bytes, any_storage.exists, any_storage.list, any_storage.delete):
        with pytest.raises(ValueError, match="not a storage key"):
            call(key)
    with pytest.raises(ValueError, match="not a storage key"):
        any_storage.write_bytes(key, b"")


def test_deleting_a_prefix_removes_everything_below(any_storage: Storage) -> None:
    for key in ("m/1/model.json", "m/1/w/x.bin", "m/2/model.json"):
        any_storage.write_bytes(key, b"1")
    any_storage.delete("m/1")
    assert any_storage.list("m") == ["2"]
    any_storage.delete("m/2/model.json")
    assert not any_storage.exists("m/2/model.json")


def test_versions_change_with_the_files(any_storage: Storage) -> None:
    assert any_storage.versions("m", "model.json") == {}
    for key in (
        "m/b/model.json",
        "m/a/model.json",
        "m/a/w.bin",
        "m/c/deep/model.json",
        "m/model.json",
        "n/d/model.json",
    ):
        any_storage.write_bytes(key, b"1")
    before = any_storage.versions("m", "model.json")
    assert list(before) == ["a", "b"]
    any_storage.write_bytes("m/a/w.bin", b"22")
    assert any_storage.versions("m", "model.json") == before
    any_storage.write_bytes("m/a/model.json", b"22")
    after = any_storage.versions("m", "model.json")
    assert (after["a"] != before["a"], after["b"] == before["b"]) == (True, True)
    any_storage.delete("m/b")
    assert any_storage.versions("m", "model.json") == {"a": after["a"]}


def test_a_folder_is_put_with_its_description_last(
    any_storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    for name in ("a.json", "weights.bin", "deep/z.json", ".temporary"):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).write_text(name)
    order: list[str] = []
    put_file = type(any_storage).put_file

    def note(self: Storage, key: str, path: Path) -> None:
        order.append(key)
        put_file(self, key, path)

    monkeypatch.setattr(type(any_storage), "put_file", note)
    any_storage.put_folder("models/x", source)
    assert order[-1] == "models/x/a.json"
    assert any_storage.list("models/x") == ["a.json", "deep", "weights.bin"]
    folder = any_storage.local_folder("models/x")
    assert (folder / "deep/z.json").read_text() == "deep/z.json"
    assert any_storage.local_file("models/x/weights.bin").read_text() == "weights.bin"


def test_a_local_copy_follows_the_storage(any_storage: Storage) -> None:
    any_storage.write_bytes("p/a.bin", b"old")
    any_storage.write_bytes("p/b.bin", b"b")
    any_storage.local_folder("p")
    any_storage.write_bytes("p/a.bin", b"newer")
    any_storage.delete("p/b.bin")
    folder = any_storage.local_folder("p")
    assert (folder / "a.bin").read_bytes() == b"newer"
    assert not (folder / "b.bin").exists()


def test_moving_leaves_nothing_behind(any_storage: Storage, tmp_path: Path) -> None:
    upload = tmp_path / "upload.tmp"
    upload.write_bytes(b"zip")
    any_storage.move_file("datasets/x/upload.zip", upload)
    assert not upload.exists()
    assert any_storage.read_bytes("datasets/x/upload.zip") == b"zip"


def test_a_write_that_fails_leaves_the_old_file(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes("a/b", b"old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        storage.write_bytes("a/b", b"new")
    assert storage.read_bytes("a/b") == b"old"
    assert [path.name for path in (storage.root / "a").iterdir()] == ["b"]


def test_an_unknown_url_is_reported_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^storage nosuch://… cannot be opened: "):
        open_storage("nosuch://bucket/x")
