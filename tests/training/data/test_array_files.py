"""Arrays as people save them: the range of their values, their colours, and the cost of packing."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from arrays_support import h5_of, noise, npy_of, npz_of, packed
from numpy.typing import NDArray
from PIL import Image

from training.data.datasets import ArrayFile, DatasetError, num_channels_of
from training.data.images import ImageError, Preprocessing, load_image


def ramp(low: float, high: float, dtype: Any) -> NDArray[Any]:
    return np.linspace(low, high, 512).reshape(2, 16, 16).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1.0000001), (-1e-7, 1), (-0.04, 1.01), (0, 1.5), (0, 0.3)])
def test_floats_that_overshoot_one_a_little_range_to_one(tmp_path: Path, dtype: Any, low: float, high: float) -> None:
    values = ramp(low, high, dtype)
    expected = np.round(np.clip(values.astype(np.float64), 0, 1) * 255)
    assert np.array_equal(packed(npy_of(tmp_path, values)).images[..., 0], expected)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-3, 260), (0, 40)])
def test_floats_up_to_255_may_overshoot_a_little(tmp_path: Path, low: float, high: float) -> None:
    values = ramp(low, high, np.float32)
    expected = np.round(np.clip(values, 0, 255))
    assert np.array_equal(packed(npy_of(tmp_path, values)).images[..., 0], expected)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-1, 1, np.float32),
        (-0.06, 1, np.float32),
        (0, 1.6, np.float32),
        (0, 16, np.float64),
        (0, 300, np.float32),
        (-20, 255, np.float32),
        (0, 65535, np.float32),
        (0, 256, np.int32),
        (0, 300, np.uint16),
        (0, 4095, np.uint16),
        (0, 65536, np.int64),
        (-1, 255, np.int16),
    ],
)
def test_values_outside_every_known_range_are_refused(tmp_path: Path, low: float, high: float, dtype: Any) -> None:
    with pytest.raises(DatasetError, match=f"from {low:g} to {high:g}; scale them") as caught:
        packed(npy_of(tmp_path, ramp(low, high, dtype)))
    assert caught.value.code == "unsupported_array"


@pytest.mark.parametrize("high", [10_000, 65535])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bit_pixels_keep_their_range(tmp_path: Path, high: int, dtype: Any) -> None:
    values = ramp(0, high, dtype)
    assert np.array_equal(packed(npy_of(tmp_path, values)).images[..., 0], np.round(values / 257))


def float_tiff(root: Path, values: NDArray[Any]) -> bytes:
    Image.fromarray(values.astype(np.float32).reshape(32, 16)).save(root / "a.tif")
    return (root / "a.tif").read_bytes()


def test_a_float_picture_has_the_same_range_as_an_array(tmp_path: Path) -> None:
    as_it_is = Preprocessing(image_size=16, num_channels=1, crop="center")
    for low, high, white in [(0, 1.0000001, 1), (-0.04, 1.4, 1), (-3, 260, 255), (0, 40, 255)]:
        values = ramp(low, high, np.float32)
        expected = np.round(np.clip(values / white, 0, 1) * 255).reshape(32, 16)[8:24]
        assert np.array_equal(load_image(float_tiff(tmp_path, values), as_it_is)[..., 0], expected)
    for low, high in [(-1, 1), (0, 1.6), (0, 16), (0, 300), (-20, 255)]:
        with pytest.raises(ImageError, match="scale it") as caught:
            load_image(float_tiff(tmp_path, ramp(low, high, np.float32)), as_it_is)
        assert caught.value.code == "unsupported_image"


def test_a_colour_is_found_anywhere_in_an_array(tmp_path: Path) -> None:
    pictures = np.repeat(noise(3000, 48, 48, 1), 3, axis=3)  # 20 MB
    for path in (npy_of(tmp_path, pictures), npz_of(tmp_path, images=pictures)):
        assert num_channels_of(ArrayFile(path)) == 1
    pictures[2500:] = noise(500, 48, 48, 3)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("images", data=pictures, chunks=(100, 48, 48, 3))
    for path in (npy_of(tmp_path, pictures), npz_of(tmp_path, images=pictures), tmp_path / "set.h5"):
        assert num_channels_of(ArrayFile(path)) == 3


def peak_of(call: Callable[[], Any]) -> int:
    """Returns the peak memory of a call, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_search_for_colours_reads_few_rows(tmp_path: Path) -> None:
    path = h5_of(tmp_path, (480_000, 64, 64, 3), (15_000, 4, 4, 1))  # as h5py itself chunks Shapes3D
    assert peak_of(lambda: num_channels_of(ArrayFile(path))) < 2**22
    with h5py.File(path, "a") as file:
        file["labels"] = np.zeros((480_000, 30))
    assert peak_of(lambda: num_channels_of(ArrayFile(path))) < 2**22


def test_small_pictures_that_are_enlarged_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    path = npy_of(tmp_path, noise(4000, 8, 8))
    large = Preprocessing(image_size=128, num_channels=3)  # 49 kB each, 200 MB in all
    assert peak_of(lambda: packed(path, large)) < 2**26


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 16, 16, 3), [("a", "u1")]),
        np.full((4, 16, 16, 3), "a"),
        np.full((4, 16, 16, 3), b"a"),
        np.zeros((4, 16, 16, 3), "M8[s]"),
        np.zeros((4, 16, 16, 3), "V3"),
        np.zeros((4, 16, 16, 3), np.complex64),
        np.zeros((4, 16, 16, 3), np.longdouble),
    ],
    ids=lambda values: str(values.dtype),
)
def test_pixels_that_are_not_numbers_are_refused_at_once(tmp_path: Path, values: NDArray[Any]) -> None:
    path = npy_of(tmp_path, values)
    for read in (lambda: num_channels_of(ArrayFile(path)), lambda: packed(path)):
        with pytest.raises(DatasetError, match="save them as uint8") as caught:
            read()
        assert caught.value.code == "unsupported_array"


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float16, ">u2", ">f4"])
def test_pixels_of_other_types_are_read_without_a_warning(tmp_path: Path, dtype: Any) -> None:
    values = np.zeros((4, 16, 16, 3), dtype)
    assert num_channels_of(ArrayFile(npy_of(tmp_path, values))) == 1
    values[2, ..., 0] = 1
    assert num_channels_of(ArrayFile(npy_of(tmp_path, values))) == 3
    if np.dtype(dtype).kind == "f":
        values[2, ..., 0] = 258  # 255, and an overshoot
        assert num_channels_of(ArrayFile(npy_of(tmp_path, values))) == 3
        for value in (np.nan, np.inf):
            num_channels_of(ArrayFile(npy_of(tmp_path, np.full((4, 16, 16, 3), value, dtype))))
