"""A pack is whole or absent, and a changed one is noticed."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from packs_support import write_pack

from training.data import pack_writer
from training.data.images import Preprocessing
from training.data.pack_writer import PackWriter
from training.data.packs import (
    Pack,
    PackError,
    PackInfo,
    keep_pack,
    kept_pack,
    left_out_text,
    open_pack,
    read_pack_info,
    read_rejected,
    release_pack,
)

SMALL = Preprocessing(image_size=8, num_channels=3)


def pixels(n: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def written(folder: Path, n: int = 10, **more: Any) -> PackInfo:
    description: dict[str, Any] = {"name": "noise", "kind": "array", "source": "noise.npy", **more}
    return write_pack(folder, iter(np.array_split(pixels(n), 3)), preprocessing=SMALL, **description)


def test_an_opened_pack_equals_the_written_one(tmp_path: Path) -> None:
    factors = np.arange(20, dtype=np.uint16).reshape(10, 2) % 5
    split = np.array([0] * 6 + [1, 1, 2, 2], np.uint8)
    identities = np.arange(10, dtype=np.int32) // 2
    info = written(
        tmp_path / "set",
        factors=factors,
        factor_names=("a", "b"),
        factor_sizes=(5, 5),
        split=split,
        identities=identities,
    )
    pack = open_pack(tmp_path / "set", preprocessing=SMALL, verify=True)
    assert pack.info == info == read_pack_info(tmp_path / "set")
    assert isinstance(pack.images, np.memmap)
    assert np.array_equal(pack.images, pixels())
    assert pack.factors is not None
    assert np.array_equal(pack.factors, factors)
    assert pack.identities is not None
    assert np.array_equal(pack.identities, identities)
    assert pack.indices("validation").tolist() == [6, 7]
    assert info.split_sizes == {"train": 6, "validation": 2, "test": 2}
    assert (info.num_images, info.num_identities, info.image_size, info.num_channels) == (10, 5, 8, 3)


def test_a_set_without_labels_has_none(tmp_path: Path) -> None:
    written(tmp_path / "set")
    pack = open_pack(tmp_path / "set")
    assert (pack.factors, pack.split, pack.identities, pack.info.split_sizes) == (None, None, None, None)
    assert pack.indices("train").tolist() == list(range(10))


def test_the_images_cannot_be_written_through_the_map(tmp_path: Path) -> None:
    written(tmp_path / "set")
    with pytest.raises(ValueError, match="read-only"):
        open_pack(tmp_path / "set").images[0] = 0


def test_the_digest_depends_only_on_the_content(tmp_path: Path) -> None:
    first = written(tmp_path / "one").digest
    again = write_pack(tmp_path / "two", [pixels()], preprocessing=SMALL, name="other", kind="array", source="x").digest
    labelled = written(tmp_path / "three", factors=np.zeros((10, 1), np.uint16)).digest
    assert first == again
    assert labelled != first


def damage_pixel(folder: Path) -> None:
    with (folder / "images.npy").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    later = (folder / "images.npy").stat().st_mtime_ns + 10**9
    os.utime(folder / "images.npy", ns=(later, later))


def truncate(folder: Path) -> None:
    os.truncate(folder / "images.npy", 500)


def remove_factors(folder: Path) -> None:
    (folder / "factors.npy").unlink()


def shorten_factors(folder: Path) -> None:
    np.save(folder / "factors.npy", np.zeros((9, 1), np.uint16))


def change_factors(folder: Path) -> None:
    np.save(folder / "factors.npy", np.ones((10, 1), np.uint16))


def break_json(folder: Path) -> None:
    (folder / "dataset.json").write_text("{")


def drop_a_key(folder: Path) -> None:
    data = json.loads((folder / "dataset.json").read_text())
    del data["digest"]
    (folder / "dataset.json").write_text(json.dumps(data))


def other_version(folder: Path) -> None:
    data = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(data | {"format_version": 99}))


def no_object(folder: Path) -> None:
    (folder / "dataset.json").write_text("[]")


@pytest.mark.parametrize(
    "harm",
    [
        damage_pixel,
        truncate,
        remove_factors,
        shorten_factors,
        change_factors,
        break_json,
        drop_a_key,
        other_version,
        no_object,
    ],
)
def test_damage_is_noticed_at_the_next_opening(tmp_path: Path, harm: Any) -> None:
    written(tmp_path / "set", factors=np.zeros((10, 1), np.uint16))
    open_pack(tmp_path / "set")
    harm(tmp_path / "set")
    with pytest.raises(PackError):
        open_pack(tmp_path / "set")


def test_damage_that_keeps_the_time_is_noticed_by_verify(tmp_path: Path) -> None:
    written(tmp_path / "set")
    before = (tmp_path / "set" / "images.npy").stat().st_mtime_ns
    damage_pixel(tmp_path / "set")
    os.utime(tmp_path / "set" / "images.npy", ns=(before, before))
    with pytest.raises(PackError, match="damaged"):
        open_pack(tmp_path / "set", verify=True)


def test_a_copy_is_verified_once_and_then_trusted(tmp_path: Path) -> None:
    info = written(tmp_path / "set")
    for file in (tmp_path / "set").iterdir():
        os.utime(file, (1, 1))
    assert open_pack(tmp_path / "set").info == info
    stamp = json.loads((tmp_path / "set" / ".verified.json").read_text())
    assert stamp["files"]["images"][1] == 10**9


def test_a_missing_pack_is_a_pack_error(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no pack"):
        open_pack(tmp_path / "nowhere")


def test_a_pack_for_another_preprocessing_or_source_is_stale(tmp_path: Path) -> None:
    written(tmp_path / "set", source_fingerprint="before")
    assert isinstance(open_pack(tmp_path / "set", source_fingerprint="before"), Pack)
    with pytest.raises(PackError, match="stale"):
        open_pack(tmp_path / "set", source_fingerprint="after")
    with pytest.raises(PackError, match="stale"):
        open_pack(tmp_path / "set", preprocessing=SMALL.replace(crop="none"))


def test_packing_that_fails_leaves_the_old_pack_and_nothing_else(tmp_path: Path) -> None:
    def fail() -> Iterator[NDArray[np.uint8]]:
        yield pixels()
        raise ZeroDivisionError

    before = written(tmp_path / "set")
    with pytest.raises(ZeroDivisionError):
        write_pack(tmp_path / "set", fail(), preprocessing=SMALL, name="n", kind="array", source="s")
    assert os.listdir(tmp_path) == ["set"]
    assert open_pack(tmp_path / "set").info == before


def test_packing_again_replaces_the_pack_under_an_open_map(tmp_path: Path) -> None:
    written(tmp_path / "set", 10)
    old = open_pack(tmp_path / "set")
    written(tmp_path / "set", 4)
    assert np.array_equal(old.images, pixels(10))
    assert np.array_equal(open_pack(tmp_path / "set").images, pixels(4))
    assert os.listdir(tmp_path) == ["set"]


def test_a_full_disk_leaves_nothing_of_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = PackWriter(tmp_path / "set", SMALL)
    full = OSError(errno.ENOSPC, "No space left on device")
    # Closing the file cannot write the buffer either.
    monkeypatch.setattr(writer, "_file", Mock(write=Mock(side_effect=full), close=Mock(side_effect=full)))
    with pytest.raises(OSError, match="No space left"), writer:
        writer.add(pixels())
    assert list(tmp_path.iterdir()) == []


def test_a_pack_that_another_process_makes_meanwhile_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lets another pack appear between the search for an older pack and the move into its place."""
    moves: list[Path] = []
    replace = os.replace

    def race(source: Path, target: Path) -> None:
        moves.append(target)
        if target == tmp_path / "set" and moves.count(target) == 1:
            shutil.copytree(tmp_path / "other", target)
        replace(source, target)

    written(tmp_path / "other", 4)
    monkeypatch.setattr("training.data.pack_writer.os.replace", race)
    written(tmp_path / "set", 10)
    assert moves.count(tmp_path / "set") == 2
    assert open_pack(tmp_path / "set").info.num_images == 10
    assert sorted(os.listdir(tmp_path)) == ["other", "set"]


def test_wrong_blocks_labels_and_empty_packs_are_refused(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "set", SMALL) as writer:
        for wrong in (pixels()[..., :1], pixels()[:, :4]):
            with pytest.raises(PackError):
                writer.add(wrong)
        with pytest.raises(PackError, match="at least one"):
            writer.finish(name="n", kind="array", source="s")
        writer.add(pixels())
        with pytest.raises(PackError, match="factors"):
            writer.finish(name="n", kind="array", source="s", factors=np.zeros((3, 1), np.uint16))
    assert os.listdir(tmp_path) == []


def test_a_bounded_part_of_rejected_files_and_of_foreign_names_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON writes a control character as six bytes, so that names alone could fill the API's memory."""
    monkeypatch.setattr(pack_writer, "MOST_REJECTED", 3)
    names = ("\x01" * 130_000, "\x01" * 200_000, "age", "x" * 101, "y\x7f" * 10)
    with PackWriter(tmp_path / "set", SMALL) as writer:
        writer.add(pixels())
        for number in range(5):
            writer.reject("\x01" * 4000 + f"{number}.png", "not_an_image", "\n" * 4000)
        factors = np.zeros((len(pixels()), len(names)), np.uint16)
        info = writer.finish(
            name="n", kind="labels", source="s", factors=factors, factor_names=names, factor_sizes=(1,) * len(names)
        )
    assert info.num_rejected == 5
    assert len(read_rejected(tmp_path / "set")) == 3
    assert (tmp_path / "set" / "rejected.jsonl").stat().st_size < 3 * 2500
    assert info.factor_names[2] == "age"
    assert info.factor_names[3:] == ("x" * 100 + "…", "y\ufffd" * 10)
    assert len(set(info.factor_names)) == len(names)
    assert all(len(name) < 110 and "\x01" not in name for name in info.factor_names)


def test_rejected_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "set", SMALL) as writer:
        writer.add(pixels())
        writer.reject("a/bäd.png", "not_an_image", "the file is empty")
        info = writer.finish(name="n", kind="images", source="s")
    assert info.num_rejected == 1
    (rejected,) = read_rejected(tmp_path / "set")
    assert (rejected.file, rejected.code, rejected.reason) == ("a/bäd.png", "not_an_image", "the file is empty")
    assert read_rejected(tmp_path / "set", limit=0) == []


def test_any_numpy_opens_the_images(tmp_path: Path) -> None:
    written(tmp_path / "set")
    assert np.array_equal(np.load(tmp_path / "set" / "images.npy"), pixels())


def test_leftovers_of_a_killed_packer_are_removed_and_a_running_packer_is_left_alone(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "set", SMALL) as writer:
        writer.add(pixels())
        (at_work,) = tmp_path.iterdir()
        dead = tmp_path / ".set.packing-dead"
        dead.mkdir()
        (dead / "images.npy").write_bytes(b"half")
        for path in (dead / "images.npy", dead, at_work / "images.npy", at_work):
            os.utime(path, (1, 1))
        written(tmp_path / "set", 4)
        assert set(tmp_path.iterdir()) == {at_work, tmp_path / "set"}
        assert writer.finish(name="n", kind="array", source="s").num_images == 10
    assert os.listdir(tmp_path) == ["set"]


def test_a_pack_that_cannot_be_moved_into_place_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, replace = written(tmp_path / "set"), os.replace

    def fails_at_the_end(source: Path, target: Path) -> None:
        if target == tmp_path / "set" and not source.name == "old":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_at_the_end)
    with pytest.raises(OSError, match="Input/output"):
        written(tmp_path / "set", 4)
    assert open_pack(tmp_path / "set", verify=True).info == info
    assert os.listdir(tmp_path) == ["set"]


def test_leftovers_from_the_time_of_a_packing_are_removed_at_its_end(tmp_path: Path) -> None:
    dead = tmp_path / ".set.packing-dead"
    with PackWriter(tmp_path / "set", SMALL) as writer:
        dead.mkdir()
        (dead / "images.npy").write_bytes(b"half")
        for path in (dead / "images.npy", dead):
            os.utime(path, (1e9, 1e9))
        writer.add(pixels())
        writer.finish(name="noise", kind="array", source="")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_run_keeps_its_pack_when_another_takes_its_place(tmp_path: Path) -> None:
    written(tmp_path / "set")
    first, run = open_pack(tmp_path / "set"), tmp_path / "run"
    assert kept_pack(run, SMALL) is None
    keep_pack(first, run)
    assert (run / ".pack" / "images.npy").samefile(tmp_path / "set" / "images.npy")
    info = written(tmp_path / "set", 4)
    kept = kept_pack(run, SMALL)
    assert kept is not None
    assert kept.info == first.info != info
    assert np.array_equal(kept.images, pixels())
    assert kept_pack(run, SMALL.replace(crop="none")) is None

    keep_pack(open_pack(tmp_path / "set"), run)
    assert (kept := kept_pack(run, SMALL)) is not None
    assert kept.info == info
    release_pack(run)
    assert kept_pack(run, SMALL) is None
    assert open_pack(tmp_path / "set", verify=True).info == info


def test_without_hard_links_no_pack_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    written(tmp_path / "set")
    monkeypatch.setattr(os, "link", link)
    keep_pack(open_pack(tmp_path / "set"), tmp_path / "run")
    assert kept_pack(tmp_path / "run", SMALL) is None


def test_what_was_left_out_is_told_with_an_example_for_each_reason(tmp_path: Path) -> None:
    assert left_out_text(tmp_path) is None
    rejected = [("a.png", "not_an_image"), ("b.png", "not_an_image"), ("list.csv", "bad_labels"), ("c.png", "no_label")]
    lines = [json.dumps({"file": file, "code": code, "reason": f"why {file}"}) for file, code in rejected]
    (tmp_path / "rejected.jsonl").write_text("\n".join(lines))
    assert left_out_text(tmp_path) == (
        "3 files were left out: 2 not_an_image (a.png: why a.png), 1 no_label (c.png: why c.png)"
    )
