"""Arrays as people have them: nested HDF5, values without classes, sets in parts, flat pictures."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from arrays_support import noise, npy_of, npz_of, packed
from numpy.typing import NDArray

from training.data import dsprites
from training.data.datasets import DatasetError
from training.data.packs import Pack, read_rejected


def sprites(count: int = 120) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]]:
    """Returns pictures of dSprites with their classes and values, which have a constant colour first."""
    random = np.random.default_rng(1)
    classes = np.stack([random.integers(0, size, count) for size in (1, *dsprites.FACTOR_SIZES)], axis=1)
    classes[: max(dsprites.FACTOR_SIZES), 1:] = np.stack(
        [np.arange(max(dsprites.FACTOR_SIZES)) % size for size in dsprites.FACTOR_SIZES], axis=1
    )
    return dsprites.render(classes[:, 1:]) // 255, classes, 1 + classes / 7


def reports(pack: Pack) -> dict[str, str]:
    return {r.file: r.code for r in read_rejected(pack.folder)}


def test_the_hdf5_of_dsprites_has_the_factors_of_its_npz(tmp_path: Path) -> None:
    images, classes, values = sprites()
    wanted = packed(npz_of(tmp_path, imgs=images, latents_classes=classes, latents_values=values))
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        file["imgs"] = images
        file["latents/classes"] = classes
        file["latents/values"] = values
    pack = packed(tmp_path / "set.hdf5")
    assert (pack.info.kind, pack.info.factor_names) == ("dsprites", dsprites.FACTOR_NAMES)
    assert (pack.info.digest, reports(pack)) == (wanted.info.digest, {})


@pytest.mark.parametrize("suffix", ["npz", "hdf5"])
def test_values_alone_are_numbered_in_order(tmp_path: Path, suffix: str) -> None:
    images, classes, values = sprites()
    path = npz_of(tmp_path, imgs=images, latents_values=values)
    if suffix == "hdf5":
        path = tmp_path / "set.hdf5"
        with h5py.File(path, "w") as file:
            file["imgs"] = images
            file["latents/values"] = values
    pack = packed(path)
    assert pack.factors is not None
    assert np.array_equal(pack.factors, classes[:, 1:])
    assert (pack.info.kind, reports(pack)) == ("dsprites", {})


def test_arrays_with_a_row_for_each_picture_that_are_not_used_are_named(tmp_path: Path) -> None:
    path = npz_of(
        tmp_path,
        images=noise(8, 16, 16),
        labels=np.arange(8) % 2,
        factors=np.arange(8),
        angle=np.zeros(8),
        mean=noise(4),
    )
    pack = packed(path)
    assert pack.info.factor_sizes == (8,)
    assert reports(pack) == {"labels": "not_used", "angle": "not_used"}


def test_groups_of_an_hdf5_file_are_searched_within_bounds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["data/train/pictures"] = noise(8, 16, 16)
        file["data/loop"] = file["data"]
        file["data/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert packed(tmp_path / "set.h5").info.num_images == 8


def medmnist(tmp_path: Path, labels: int = 1) -> Path:
    parts = {"train": 12, "val": 4, "test": 6}
    arrays = {f"{part}_images": noise(count, 28, 28) + i for i, (part, count) in enumerate(parts.items())}
    arrays |= {f"{part}_labels": noise(count, labels, top=2) for part, count in parts.items()}
    return npz_of(tmp_path, **arrays)


@pytest.mark.parametrize("num_labels", [1, 14])
def test_medmnist_has_three_parts(tmp_path: Path, num_labels: int) -> None:
    path = medmnist(tmp_path, num_labels)
    pack = packed(path)
    stored = np.load(path)
    assert pack.info.split_sizes == {"train": 12, "validation": 4, "test": 6}
    assert pack.factors is not None
    wanted = np.concatenate([stored[f"{part}_labels"] for part in ("train", "val", "test")])
    assert np.array_equal(pack.factors, wanted)
    assert pack.info.factor_names[0] == ("label" if num_labels == 1 else "factor_1")
    other = packed(
        npz_of(tmp_path, images=np.concatenate([stored[f"{part}_images"] for part in ("train", "val", "test")]))
    )
    assert np.array_equal(pack.images, other.images)


def test_the_arrays_of_keras_have_two_parts(tmp_path: Path) -> None:
    path = npz_of(
        tmp_path,
        x_train=noise(20, 28, 28),
        y_train=np.arange(20) % 10,
        x_test=noise(5, 28, 28),
        y_test=np.arange(5),
    )
    pack = packed(path)
    assert pack.info.split_sizes == {"train": 18, "validation": 2, "test": 5}
    assert pack.factors is not None
    assert pack.factors[20:, 0].tolist() == [0, 1, 2, 3, 4]


def test_parts_of_other_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="other shapes") as caught:
        packed(npz_of(tmp_path, train_images=noise(4, 28, 28), test_images=noise(4, 32, 32)))
    assert caught.value.code == "unsupported_array"


def test_parts_without_labels_for_each_are_packed_without_factors(tmp_path: Path) -> None:
    path = npz_of(tmp_path, train_images=noise(4, 28, 28), test_images=noise(4, 28, 28), train_labels=np.arange(4))
    pack = packed(path)
    assert (pack.info.num_images, pack.factors, reports(pack)) == (8, None, {"train_labels": "not_used"})


def test_the_flat_bitmaps_of_quickdraw_are_pictures(tmp_path: Path) -> None:
    pictures = noise(9, 28, 28)
    pack = packed(npy_of(tmp_path, pictures.reshape(9, 784)))
    wanted = packed(npy_of(tmp_path, pictures))
    assert np.array_equal(pack.images, wanted.images)
    assert np.array_equal(packed(npz_of(tmp_path, x=pictures.reshape(9, 784))).images, wanted.images)
    with pytest.raises(DatasetError):
        packed(npy_of(tmp_path, noise(9, 785)))
