"""Any set of images becomes a pack; a source has a kind, a number of channels and a fingerprint."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from datasets_support import Make, as_folder, as_zip, both, code_of, packed, picture
from PIL import Image

from training.data.datasets import (
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    ZipFile,
    fingerprint,
    num_channels_of,
    source_for,
)
from training.data.packs import PackError, open_pack


def grey(value: int, format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16), value).convert(mode).save(file, format)
    return file.getvalue()


@both
def test_colours_are_found_in_a_sample_from_the_whole_set(tmp_path: Path, make: Make) -> None:
    files = {f"{i:03}.jpg": grey(5 * i, "JPEG") for i in range(48)}
    files |= {"broken.png": b"none", "notes.txt": b"none", "a.png": grey(9, "PNG", "LA")}
    assert num_channels_of(make(tmp_path, files)) == 1
    (tmp_path / "more").mkdir()
    assert num_channels_of(make(tmp_path / "more", files | {f"{i:03}.jpg": picture(i) for i in range(24, 36)})) == 3
    (tmp_path / "none").mkdir()
    assert num_channels_of(make(tmp_path / "none", {"broken.png": b"none"})) == 1


def test_colours_are_found_in_the_pictures_as_packing_reads_them(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a.png": picture(1)})
    assert num_channels_of(source, Limits(max_pixels=100)) == 1
    with pytest.raises(DatasetError, match="no such folder"):
        num_channels_of(ImageFolder(tmp_path / "nowhere"))


@pytest.mark.parametrize("scale", [1, 255, 65535])
@pytest.mark.parametrize("channels_first", [False, True])
def test_colours_are_found_in_an_array(tmp_path: Path, scale: int, channels_first: bool) -> None:
    pixels = np.random.default_rng(0).random((6, 16, 16, 3))
    same = np.repeat(pixels[..., :1], 3, axis=3)
    of = {}
    for name, values in {"colour": pixels, "same": same, "grey": pixels[..., 0], "one": pixels[..., :1]}.items():
        values = values * scale if scale == 1 else (values * scale).astype(np.uint8 if scale == 255 else np.uint16)
        if channels_first and values.ndim == 4:
            values = values.transpose(0, 3, 1, 2)
        np.save(tmp_path / f"{name}.npy", np.ascontiguousarray(values))
        of[name] = num_channels_of(source_for(tmp_path / f"{name}.npy"))
    assert of == {"colour": 3, "same": 1, "grey": 1, "one": 1}


@pytest.mark.parametrize(("name", "num_channels"), [("dsprites", 1), ("dsprites_color", 3), ("chairs", 3)])
def test_built_in_sets_say_whether_they_have_colours(tmp_path: Path, name: str, num_channels: int) -> None:
    source = BuiltIn(name, max_images=20)
    assert num_channels_of(source) == num_channels
    pixels = packed(source, tmp_path).images
    assert bool(np.ptp(pixels.astype(int), axis=3).max()) == (num_channels == 3)


def test_a_missing_source_is_not_found(tmp_path: Path) -> None:
    for source in (ImageFolder(tmp_path / "x"), ZipFile(tmp_path / "x.zip"), ArrayFile(tmp_path / "x.npy")):
        assert code_of(source, tmp_path) == "not_found"


def test_a_callback_that_raises_stops_the_packing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        packed(as_folder(tmp_path, {"a.png": picture(1)}), tmp_path, on_progress=stop)
    assert os.listdir(tmp_path) == ["pictures"]


def test_a_changed_folder_makes_its_pack_stale(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a.png": picture(1)})
    packed(source, tmp_path)
    (source.path / "b.png").write_bytes(picture(2))
    with pytest.raises(PackError, match="stale"):
        open_pack(tmp_path / "pack", source_fingerprint=fingerprint(source))


def test_a_full_disk_is_reported_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(10**8))
    assert code_of(BuiltIn("dsprites"), tmp_path) == "no_space"


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_the_kind_of_a_source_follows_from_its_path(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.png": picture(1)}).path
    archive = as_zip(tmp_path, {"a.png": picture(1)}).path
    array = tmp_path / "x.npz"
    array.write_bytes(b"")
    assert source_for(folder) == ImageFolder(folder)
    assert source_for(archive, layout="images") == ZipFile(archive, "images")
    assert source_for(array) == ArrayFile(array)
    for path in (tmp_path / "nothing", folder / "a.png"):
        with pytest.raises(DatasetError):
            source_for(path)


def test_the_description_is_json(tmp_path: Path) -> None:
    packed(as_folder(tmp_path, {"a.png": picture(1)}), tmp_path, name="My set")
    data = json.loads((tmp_path / "pack" / "dataset.json").read_text())
    assert (data["name"], data["num_images"], data["image_size"], data["num_channels"]) == ("My set", 1, 16, 3)
    assert data["preprocessing"] == {"image_size": 16, "num_channels": 3, "crop": "center", "crop_size": None}
