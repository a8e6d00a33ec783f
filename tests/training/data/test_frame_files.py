"""Files of many pictures: videos, animations, Cars3D and SmallNORB, as published."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from datasets_support import Files, Make, as_folder, as_tar, both, code_of, packed, picture
from numpy.typing import NDArray
from PIL import Image

from training.data.datasets import ImageFolder, ZipFile, file_source, num_channels_of
from training.data.images import Preprocessing
from training.data.packs import read_rejected
from training.data.picture_files import check_zip
from training.data.sources import DatasetError, Limits

EXACT = Preprocessing(image_size=16, num_channels=3)


def film(root: Path, count: int = 10, suffix: str = ".mp4") -> bytes:
    """Returns a video whose frame i has the grey value 20·i."""
    imageio = pytest.importorskip("imageio.v3")
    pytest.importorskip("imageio_ffmpeg")
    frames = np.full((count, 32, 32, 3), 0, np.uint8) + (20 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    path = root / f"made{suffix}"
    imageio.imwrite(path, frames, plugin="FFMPEG", fps=10)
    data = path.read_bytes()
    path.unlink()
    return data


@both
def test_videos_are_their_frames(tmp_path: Path, make: Make) -> None:
    files = {
        "a.mp4": film(tmp_path),
        "b.avi": film(tmp_path, 4, ".avi"),
        "notes.txt": b"?",
        "cut.mp4": b"\0\0\0\x20ftypisom",
    }
    source = make(tmp_path, files)
    pack = packed(source, tmp_path, EXACT)
    assert (pack.info.kind, pack.info.num_images, pack.info.num_identities) == ("frames", 14, 2)
    assert np.abs(pack.images[:10].mean(axis=(1, 2, 3)) - 20 * np.arange(10)).max() < 4
    assert pack.sequences is not None
    assert pack.sequences.tolist() == [[0, k] for k in range(10)] + [[1, k] for k in range(4)]
    assert {r.file: r.code for r in read_rejected(pack.folder)} == {"notes.txt": "no_label", "cut.mp4": "not_an_image"}
    assert num_channels_of(source) == 3


def test_every_so_many_frames_are_used(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(film(tmp_path))
    check_zip(path, Limits())
    source = file_source(path, stride=4)
    assert isinstance(source, ZipFile) and source.layout == "frames"
    pack = packed(source, tmp_path, EXACT)
    assert np.abs(pack.images.mean(axis=(1, 2, 3)) - [0, 80, 160]).max() < 4
    assert packed(file_source(path), tmp_path, EXACT).info.source_fingerprint != pack.info.source_fingerprint
    for stride in (0, -1, 10**9):
        with pytest.raises(DatasetError, match="stride"):
            ZipFile(path, stride=stride)


def test_a_playlist_with_a_video_s_name_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(film(tmp_path))
    for name in ("list.avi", "list.mp4"):
        folder = as_folder(tmp_path / name, {name: f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.mp4\n".encode()})
        assert code_of(folder, tmp_path) == "no_images"


def test_frames_larger_than_the_limit_are_refused(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.mp4": film(tmp_path)})
    assert code_of(folder, tmp_path, limits=Limits(max_pixels=1000)) == "no_images"
    assert code_of(folder, tmp_path, limits=Limits(max_files=3)) == "too_many_files"


def animation(*colours: tuple[int, int, int]) -> bytes:
    first, *others = (Image.new("RGB", (16, 16), colour) for colour in colours)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


def test_gifs_are_frames_where_that_is_asked_for(tmp_path: Path) -> None:
    files = {"a.gif": animation((255, 0, 0), (0, 255, 0), (0, 0, 255)), "b.gif": animation((9, 9, 9), (200, 0, 0))}
    folder = as_folder(tmp_path, files).path
    assert packed(ImageFolder(folder), tmp_path).info.num_images == 2
    pack = packed(ImageFolder(folder, layout="frames", split="identity"), tmp_path)
    assert pack.images[:, 0, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9], [200, 0, 0]]
    assert pack.identities is not None
    assert pack.identities.tolist() == [0, 0, 0, 1, 1]
    alone = packed(file_source(folder / "a.gif", stride=2), tmp_path)
    assert alone.images[:, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert alone.sequences is not None
    assert alone.sequences.tolist() == [[0, 0], [0, 1]]
    damaged = as_folder(tmp_path / "damaged", {"a.gif": files["a.gif"][:-40], "b.gif": files["b.gif"]})
    assert packed(ImageFolder(damaged.path, layout="frames"), tmp_path).info.num_images >= 2


def car(seed: int) -> NDArray[np.uint8]:
    """Returns the pictures of a car as its file has them, (H, W, 3, azimuth, elevation)."""
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3, 24, 4), dtype=np.uint8)


def mat(array: NDArray[Any], name: str = "im", *, compressed: bool = True) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"version": np.array([1.0]), name: array}, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
def test_cars3d(tmp_path: Path, compressed: bool) -> None:
    files: Files = {f"data/cars/car_{i:03}_mesh.mat": mat(car(i), compressed=compressed) for i in range(3)}
    source = as_tar(
        tmp_path, files | {"data/cars/list.txt": b"car", "data/cars/broken.mat": b"MATLAB 5.0"}, suffix=".tar.gz"
    )
    check_zip(source.path, Limits())
    pack = packed(source, tmp_path, EXACT)
    assert (pack.info.kind, pack.info.num_images, pack.info.num_identities) == ("cars3d", 288, 3)
    assert (pack.info.factor_names, pack.info.factor_sizes) == (("elevation", "azimuth", "object"), (4, 24, 3))
    assert pack.factors is not None
    for row in (0, 1, 5, 100, 287):
        elevation, azimuth, number = pack.factors[row]
        assert np.array_equal(pack.images[row], car(int(number))[:, :, :, azimuth, elevation])
    assert pack.factors[:6].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert {r.file: r.code for r in read_rejected(pack.folder)} == {
        "data/cars/list.txt": "no_label", "data/cars/broken.mat": "not_an_image",
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        mat(np.arange(4.0)),
        mat(np.zeros((4, 4, 3), np.uint8)),
        mat(np.zeros((2, 2, 2, 2, 2), np.uint8)),
        mat(car(0))[:900],
    ],
)
def test_other_mat_files_are_no_cars(tmp_path: Path, data: bytes) -> None:
    assert code_of(as_folder(tmp_path, {"cars/a.mat": data}), tmp_path) == "no_images"


def matrix(array: NDArray[Any], signature: int) -> bytes:
    sizes = [*array.shape, *[1] * (3 - array.ndim)]
    return struct.pack(f"<2I{len(sizes)}i", signature, array.ndim, *sizes) + array.tobytes()


def norb(part: str, count: int, seed: int, suffix: str = "") -> tuple[Files, NDArray[np.uint8], NDArray[np.int32]]:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 2, 16, 16), dtype=np.uint8)
    labels = np.stack([random.integers(0, n, count) for n in (5, 10, 9, 18, 6)], axis=1).astype(np.int32)
    labels[:, 3] *= 2
    stem = f"smallnorb-5x01235x9x18x6x2x96x96-{part}"
    files = {
        f"{stem}-dat.mat{suffix}": matrix(pixels, 0x1E3D4C55),
        f"{stem}-cat.mat{suffix}": matrix(labels[:, 0].copy(), 0x1E3D4C54),
        f"{stem}-info.mat{suffix}": matrix(labels[:, 1:].copy(), 0x1E3D4C54),
    }
    return {n: gzip.compress(d) if suffix else d for n, d in files.items()}, pixels, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_smallnorb(tmp_path: Path, suffix: str) -> None:
    test, test_pixels, test_labels = norb("testing", 200, 0, suffix)
    train, train_pixels, train_labels = norb("training", 300, 1, suffix)
    source = as_folder(tmp_path, test | train)
    assert num_channels_of(source) == 1
    pack = packed(source, tmp_path, Preprocessing(image_size=16, num_channels=1))
    assert (pack.info.kind, pack.info.num_rejected) == ("smallnorb", 0)
    assert pack.info.factor_names == ("category", "instance", "elevation", "azimuth", "lighting")
    assert pack.info.factor_sizes == (5, 10, 9, 18, 6)
    assert pack.info.split_sizes == {"train": 270, "validation": 30, "test": 200}
    assert np.array_equal(pack.images[:, :, :, 0], np.concatenate([test_pixels, train_pixels])[:, 0])
    assert pack.factors is not None
    labels = np.concatenate([test_labels, train_labels])
    labels[:, 3] //= 2
    assert np.array_equal(pack.factors, labels)


def test_smallnorb_without_good_labels_is_packed_without_factors(tmp_path: Path) -> None:
    files, _, _ = norb("training", 8, 0)
    name = next(name for name in files if "info" in name)
    pack = packed(as_folder(tmp_path, files | {name: files[name][:30]}), tmp_path)
    assert (pack.info.num_images, pack.factors) == (8, None)
    assert [(r.file, r.code) for r in read_rejected(pack.folder)] == [(name, "bad_labels")]
    dat = next(name for name in files if "dat" in name)
    for data in (files[dat][:50], b"", b"?" * 99, struct.pack("<6I", 0x1E3D4C55, 4, 2**30, 2, 2**14, 2**14)):
        assert code_of(as_folder(tmp_path, files | {dat: data}), tmp_path) == "no_images"


def test_pictures_beside_videos_stay_pictures(tmp_path: Path) -> None:
    pack = packed(as_folder(tmp_path, {"a.png": picture(1), "b.mp4": b"?"}), tmp_path)
    assert (pack.info.kind, pack.info.num_images, pack.info.num_rejected) == ("images", 1, 1)
