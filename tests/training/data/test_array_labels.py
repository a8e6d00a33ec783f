"""Labels of arrays as people save them: published sets, other factors, and unusable labels."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from arrays_support import GREY, RGB, noise, npy_of, npz_of, packed
from numpy.typing import NDArray

from training.data import dsprites
from training.data.array_labels import read_labels
from training.data.images import Preprocessing
from training.data.packs import read_rejected
from training.data.stored_arrays import ArrayContents, StoredArray


def some_classes(count: int = 40) -> NDArray[np.int64]:
    return np.stack([np.arange(count) % n for n in dsprites.FACTOR_SIZES], axis=1)


@pytest.mark.parametrize(
    "pictures", [noise(10, 64, 64), noise(10, 64, 64, top=2), noise(10, 16, 16), noise(10, 64, 64) / 255]
)
@pytest.mark.parametrize("colour", [0, 1])
def test_other_pictures_with_five_labels_are_not_taken_for_dsprites(
    tmp_path: Path, pictures: NDArray[Any], colour: int
) -> None:
    labels = np.concatenate([np.zeros((10, colour), int), noise(10, 5, top=2)], axis=1)
    pack = packed(npz_of(tmp_path, images=pictures, labels=labels), Preprocessing(image_size=64, num_channels=1))
    assert (pack.info.kind, pack.info.factor_names[0]) == ("array", "factor_1")
    assert pack.info.factor_sizes == (1,) * colour + (2,) * 5
    if pictures.shape[1] == 64:
        scale = 1 if pictures.max() > 1 and pictures.dtype == np.uint8 else 255
        assert np.array_equal(pack.images[..., 0], np.round(pictures * float(scale)))


@pytest.mark.parametrize("white", [1, 255, 1.0, True])
def test_dsprites_are_recognised_by_their_pixels(tmp_path: Path, white: float) -> None:
    classes = some_classes()
    drawn = dsprites.render(classes)
    pack = packed(npz_of(tmp_path, imgs=(drawn > 0) * white, classes=classes.astype(np.int16)), GREY)
    assert (pack.info.kind, pack.info.factor_names) == ("dsprites", dsprites.FACTOR_NAMES)
    assert pack.info.factor_sizes == dsprites.FACTOR_SIZES
    assert np.array_equal(pack.images[..., 0], drawn)
    shaded = np.where(drawn > 0, 255, noise(*drawn.shape, top=99))
    for others, labels in ((drawn[:, ::2, ::2], classes), (drawn, classes[::-1]), (shaded, classes)):
        assert packed(npz_of(tmp_path, imgs=others, classes=labels), GREY).info.kind == "array"


SHAPES3D = np.stack(np.unravel_index(np.arange(30) * 15999 % 480000, (10, 10, 10, 8, 4, 15)), axis=1)


SHAPES3D_LABELS = SHAPES3D * [0.1, 0.1, 0.1, 0.5 / 7, 1, 60 / 14] + [0, 0, 0, 0.75, 0, -30]


def test_shapes3d_are_recognised_by_their_values_and_keep_their_classes(tmp_path: Path) -> None:
    some = [4, 7, 20]  # of which no column has all its values
    pack = packed(npz_of(tmp_path, images=noise(3, 64, 64, 3), labels=SHAPES3D_LABELS[some]), RGB)
    assert (pack.info.kind, pack.info.factor_sizes) == ("shapes3d", (10, 10, 10, 8, 4, 15))
    assert pack.factors is not None
    assert np.array_equal(pack.factors, SHAPES3D[some])


@pytest.mark.parametrize(
    "labels", [np.zeros((30, 6)), noise(30, 6, top=2), SHAPES3D_LABELS + 0.02, SHAPES3D_LABELS[:, ::-1]]
)
def test_other_pictures_with_six_labels_are_not_taken_for_shapes3d(tmp_path: Path, labels: NDArray[Any]) -> None:
    pictures = noise(30, 64, 64, 3, top=2)
    pack = packed(npz_of(tmp_path, images=pictures, labels=labels), RGB)
    assert (pack.info.kind, pack.info.factor_names[0]) == ("array", "factor_1")
    assert np.array_equal(pack.images, pictures * 255)


def test_dsprites_are_recognised_by_the_name_of_their_labels_too(tmp_path: Path) -> None:
    labels = np.concatenate([np.zeros((40, 1), int), some_classes()], axis=1)
    for top, kind in ((2, "dsprites"), (256, "array")):
        path = npz_of(tmp_path, imgs=noise(40, 64, 64, top=top), latents_classes=labels)
        assert packed(path, GREY).info.kind == kind


@pytest.mark.parametrize("suffix", ["npz", "npy"])
@pytest.mark.parametrize(("sizes", "kind"), [((2, 1, 2, 3, 1, 2, 2), "mpi3d"), ((2, 1, 2, 3, 4, 2, 1), "array")])
def test_a_grid_of_seven_factors_is_mpi3d_or_keeps_its_own_names(
    tmp_path: Path, suffix: str, sizes: tuple[int, ...], kind: str
) -> None:
    images = noise(*sizes, 64, 64, 3)
    path = npz_of(tmp_path, images=images) if suffix == "npz" else npy_of(tmp_path, images)
    pack = packed(path, RGB)
    assert (pack.info.kind, pack.info.factor_sizes, pack.info.full_grid) == (kind, sizes, True)
    assert pack.info.factor_names[0] == ("object_color" if kind == "mpi3d" else "factor_1")
    assert pack.factors is not None
    for i in (0, 7, 47):
        assert np.array_equal(pack.images[i], images[tuple(pack.factors[i])])


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("sizes", [(6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40)])
@pytest.mark.parametrize("folded", [False, True])
def test_mpi3d_as_published_is_recognised_by_its_shape(sizes: tuple[int, ...], size: int, folded: bool) -> None:
    # The real file has 12 GB, but its header is enough to recognise it.
    shape = (int(np.prod(sizes)), size, size, 3)
    pictures = StoredArray(
        shape=shape, dtype=np.dtype(np.uint8), read=lambda ranges: iter(()), grid=() if folded else sizes
    )
    labels, unusable = read_labels(ArrayContents(pictures=pictures), Path("mpi3d.npz"))
    assert unusable == []
    assert labels.kind == ("mpi3d" if size == 64 else "array")
    if size == 64 or not folded:
        assert labels.factor_sizes == sizes
        assert labels.factor_names[0] == ("object_color" if size == 64 else "factor_1")
        assert labels.factors is not None
        assert labels.factors[-1].tolist() == [n - 1 for n in sizes]
        assert labels.factors[41].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_labels_in_fortran_order_are_read(tmp_path: Path) -> None:
    grid = np.stack(np.unravel_index(np.arange(12), (2, 3, 2)), axis=1)
    pack = packed(npz_of(tmp_path, images=noise(12, 16, 16), labels=np.asfortranarray(grid)))
    assert (pack.info.factor_sizes, pack.info.full_grid, pack.info.num_rejected) == ((2, 3, 2), True, 0)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.array(list("abcdefgh")), "type <U1; save them as whole numbers"),
        (np.array([1, "a", 3, 4, 5, 6, 7, 8], object), "type object"),
        (np.zeros(8, [("a", "i4")]), "type"),
        (np.zeros(8, complex), "type complex128"),
        (np.array(3), "shape"),
        (np.arange(7), "a row for each of 8 images"),
        (np.zeros((8, 0)), "256 columns"),
        (np.zeros((8, 300), int), "256 columns"),
        (np.array([0, 1, np.nan] + [2] * 5), "not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_labels_that_cannot_be_used_are_noted(
    tmp_path: Path, labels: NDArray[Any], reason: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = noise(8, 16, 16)
    path = npz_of(tmp_path, images=pictures, labels=labels)
    if suffix == "h5":
        if labels.dtype.kind in "OU":
            labels, reason = labels.astype(str).astype(h5py.string_dtype()), "type object"
        path = tmp_path / "set.h5"
        with h5py.File(path, "w") as file:
            file["images"] = pictures
            file["labels"] = labels
        reason = "not a plain array" if labels.shape == () else reason
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr("pickle.loads", lambda *_: pytest.fail("unpickled"))
    pack = packed(path)
    assert np.array_equal(pack.images[..., 0], pictures)
    assert (pack.factors, pack.info.factor_names, pack.info.num_rejected) == (None, (), 1)
    (note,) = read_rejected(pack.folder)
    assert (note.file, note.code) == ("labels", "bad_labels")
    assert reason in note.reason and "\n" not in note.reason


def test_a_label_of_too_many_values_is_noted(tmp_path: Path) -> None:
    targets = np.random.default_rng(0).random(70_000)
    pack = packed(npz_of(tmp_path, images=noise(70_000, 8, 8), y=targets), Preprocessing(image_size=8, num_channels=1))
    assert (pack.info.num_images, pack.factors) == (70_000, None)
    assert [(note.file, note.code) for note in read_rejected(pack.folder)] == [("y", "bad_labels")]


def test_a_link_is_not_used_as_labels(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["labels"] = np.arange(8)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = noise(8, 16, 16)
        file["labels"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/labels")
    pack = packed(tmp_path / "set.h5")
    assert pack.factors is None
    assert "is a link" in read_rejected(pack.folder)[0].reason


def test_the_first_usable_labels_are_used(tmp_path: Path) -> None:
    names = np.array(["cat", "dog"])
    pack = packed(npz_of(tmp_path, images=noise(8, 16, 16), classes=names, labels=np.arange(8) % 2))
    assert (pack.info.factor_names, pack.info.factor_sizes) == (("label",), (2,))
    assert [note.file for note in read_rejected(pack.folder)] == ["classes"]
