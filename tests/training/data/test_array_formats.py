"""Arrays of any type, shape and file format become a pack; broken and hostile files are refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from datasets_support import GREY, RGB, code_of, packed
from numpy.typing import NDArray

from training.data import dsprites
from training.data.datasets import ArrayFile, DatasetError
from training.data.images import Preprocessing


def dsprites_npz(path: Path, classes: NDArray[Any]) -> Path:
    images = dsprites.render(classes) // 255
    with_colour = np.concatenate([np.zeros((len(classes), 1), np.int64), classes], axis=1)
    metadata = np.array({"date": "april 2017"}, dtype=object)
    np.savez_compressed(
        path,
        metadata=metadata,
        imgs=images,
        latents_classes=with_colour,
        latents_values=with_colour.astype(float),
        allow_pickle=True,
    )
    return path


def test_the_original_dsprites_file_is_read_without_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = np.stack([np.arange(40) % n for n in dsprites.FACTOR_SIZES], axis=1)
    path = dsprites_npz(tmp_path / "dsprites.npz", classes)

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    pack = packed(ArrayFile(path), tmp_path, Preprocessing(image_size=64, num_channels=1))
    assert (pack.info.kind, pack.info.factor_names) == ("dsprites", dsprites.FACTOR_NAMES)
    assert pack.info.factor_sizes == dsprites.FACTOR_SIZES
    assert pack.factors is not None
    assert np.array_equal(pack.factors, classes)
    assert np.array_equal(pack.images[..., 0], dsprites.render(classes))


def shapes3d_h5(path: Path, n: int = 30) -> Path:
    grid = np.stack(np.unravel_index(np.arange(n) * 15999 % 480000, (10, 10, 10, 8, 4, 15)), axis=1)
    values = grid * [0.1, 0.1, 0.1, 0.07142857, 1, 4.2857142] + [0, 0, 0, 0.75, 0, -30]
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
        file.create_dataset("images", data=images, chunks=(7, 64, 64, 3), compression="gzip")
        file.create_dataset("labels", data=values)
    return path


def test_shapes3d(tmp_path: Path) -> None:
    path = shapes3d_h5(tmp_path / "3dshapes.h5")
    pack = packed(ArrayFile(path), tmp_path, Preprocessing(image_size=64, num_channels=3))
    assert pack.info.kind == "shapes3d"
    assert pack.info.factor_sizes == (10, 10, 10, 8, 4, 15)
    with h5py.File(path) as file:
        assert np.array_equal(pack.images, file["images"][...])
        assert pack.factors is not None
        for column, values in zip(pack.factors.T, file["labels"][...].T, strict=True):
            order = np.argsort(column, kind="stable")
            assert (np.diff(values[order]) >= 0).all()
            assert len(set(column.tolist())) == len(set(values.tolist()))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.uint8, 255), (np.float32, 1), (np.float64, 255), (np.uint16, 65535), (np.int64, 255)]
)
def test_pixels_of_any_type(tmp_path: Path, suffix: str, dtype: Any, scale: float) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    expected[0, 0, 0, 0] = 255
    values = (expected.astype(np.float64) * (scale / 255)).astype(dtype)
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        np.savez_compressed(path, images=values)
    assert np.array_equal(packed(ArrayFile(path), tmp_path).images, expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
def test_zeros_and_ones_are_black_and_white(tmp_path: Path, dtype: Any) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (9, 16, 16))
    np.save(tmp_path / "x.npy", mask.astype(dtype))
    assert np.array_equal(packed(ArrayFile(tmp_path / "x.npy"), tmp_path, GREY).images[..., 0], mask * 255)


@pytest.mark.parametrize(
    "shape", [(5, 16, 16), (5, 16, 16, 1), (5, 1, 16, 16), (5, 3, 20, 24), (5, 20, 24, 3), (5, 9, 9, 4)]
)
@pytest.mark.parametrize("preprocessing", [GREY, RGB], ids=["grey", "rgb"])
def test_pixels_of_any_shape(tmp_path: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> None:
    np.save(tmp_path / "x.npy", np.full(shape, 200, np.uint8))
    pack = packed(ArrayFile(tmp_path / "x.npy"), tmp_path, preprocessing)
    assert pack.images.shape == (5, 16, 16, preprocessing.num_channels)
    opaque = 4 not in shape
    assert (pack.images == (200 if opaque else 212)).all()


def test_labels_beside_the_pixels_become_factors(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=np.zeros((6, 16, 16), np.uint8), y_train=np.array([3, 0, 1, 2, 3, 3]))
    pack = packed(ArrayFile(tmp_path / "x.npz"), tmp_path, GREY)
    assert (pack.info.factor_names, pack.info.factor_sizes) == (("label",), (4,))
    assert pack.factors is not None
    assert pack.factors[:, 0].tolist() == [3, 0, 1, 2, 3, 3]


def _objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}] * 3, dtype=object), allow_pickle=True)


def _saved(values: NDArray[Any]) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def _cut(path: Path) -> None:
    np.save(path, np.zeros((50, 16, 16), np.uint8))
    os.truncate(path, 5000)


def _damaged_header(path: Path) -> None:
    np.save(path, np.zeros((2, 16, 16), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"}", b" "))


def _declares_too_much(path: Path) -> None:
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**5, 10**5)}
        np.lib.format.write_array_header_1_0(file, header)


def _declares_a_grid_that_is_too_large(path: Path) -> None:
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 1000, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(file, header)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (_objects, "unsupported_array"),
        (_saved(np.full((3, 16, 16), np.nan)), "unsupported_array"),
        (_saved(np.full((3, 16, 16), -1.0)), "unsupported_array"),
        (_saved(np.full((3, 16, 16), 1e9)), "unsupported_array"),
        (_saved(np.full((3, 16, 16), 1j)), "unsupported_array"),
        (_saved(np.array(["a", "b"])), "unsupported_array"),
        (_saved(np.asfortranarray(np.random.default_rng(0).random((3, 16, 16)))), "unsupported_array"),
        (_saved(np.zeros((3, 16, 16, 2))), "unsupported_array"),
        (_saved(np.zeros(7)), "unsupported_array"),
        (_saved(np.zeros((0, 16, 16))), "no_images"),
        (_cut, "not_an_archive"),
        (lambda path: path.write_bytes(b"hello"), "not_an_archive"),
        (_declares_too_much, "unsupported_array"),
        (_declares_a_grid_that_is_too_large, "too_many_files"),
        (_damaged_header, "not_an_archive"),
    ],
)
def test_arrays_that_are_not_pictures_are_refused(tmp_path: Path, write: Callable[[Path], Any], code: str) -> None:
    write(tmp_path / "x.npy")
    assert code_of(ArrayFile(tmp_path / "x.npy"), tmp_path) == code


def test_an_hdf5_file_whose_groups_hold_themselves_is_refused(tmp_path: Path) -> None:
    """A thousand names of one group have a million paths."""
    path = tmp_path / "links.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("g")
        for number in range(1000):
            group[f"{number}"] = group
    with pytest.raises(DatasetError, match="more than 10000 arrays") as caught:
        packed(ArrayFile(path), tmp_path, Preprocessing(image_size=32, num_channels=1))
    assert caught.value.code == "unsupported_array"


def test_an_hdf5_file_cannot_refer_to_other_files(tmp_path: Path) -> None:
    secret = shapes3d_h5(tmp_path / "secret.h5")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(3 * 16 * 16))
    for kind in ("external link", "soft link", "external storage"):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            if kind == "external link":
                file["images"] = h5py.ExternalLink(str(secret), "/images")
            elif kind == "soft link":
                file["images"] = h5py.SoftLink("/nowhere")
            else:
                file.create_dataset("images", (3, 16, 16), np.uint8, external=[(str(raw), 0, 3 * 16 * 16)])
        assert code_of(ArrayFile(path), tmp_path) == "unsupported_array"


def test_a_broken_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = shapes3d_h5(tmp_path / "x.h5")
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        path.write_bytes(broken)
        assert code_of(ArrayFile(path), tmp_path) == "not_an_archive"
