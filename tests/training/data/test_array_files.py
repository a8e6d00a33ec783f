"""Arrays as people save them: what may be taken for a published set, for black, for labels, and for gigabytes."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data import dsprites
from training.data.array_labels import read_labels
from training.data.array_readers import ArrayContents, StoredArray, read_blocks, sample_rows
from training.data.datasets import ArrayFile, DatasetError, fingerprint, num_channels_of, pack_dataset
from training.data.images import ImageError, Preprocessing, load_image
from training.data.packs import Pack, open_pack, read_rejected

RGB = Preprocessing(image_size=64, num_channels=3)
GREY = Preprocessing(image_size=64, num_channels=1)
SMALL = Preprocessing(image_size=16, num_channels=1)

Arrays = dict[str, NDArray[Any]]


def packed(path: Path, preprocessing: Preprocessing = SMALL) -> Pack:
    source = ArrayFile(path)
    pack_dataset(source, path.parent / "pack", preprocessing, num_workers=1)
    return open_pack(path.parent / "pack", source_fingerprint=fingerprint(source))


def npz_of(root: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(root / "set.npz", **arrays)  # type: ignore[arg-type]
    return root / "set.npz"


def npy_of(root: Path, array: NDArray[Any]) -> Path:
    np.save(root / "set.npy", array)
    return root / "set.npy"


def h5_of(root: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Path:
    """Never written: some kB that claim to be any number of zeros."""
    with h5py.File(root / "set.h5", "w") as file:
        file.create_dataset("images", shape, np.uint8, chunks=chunks, compression="gzip")
    return root / "set.h5"


def noise(*shape: int, top: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, top, shape, dtype=np.uint8)


# Published sets


def some_classes(count: int = 40) -> NDArray[np.int64]:
    return np.stack([np.arange(count) % n for n in dsprites.FACTOR_SIZES], axis=1)


@pytest.mark.parametrize(
    "pictures", [noise(10, 64, 64), noise(10, 64, 64, top=2), noise(10, 16, 16), noise(10, 64, 64) / 255]
)
@pytest.mark.parametrize("colour", [0, 1])
def test_pictures_with_five_labels_are_no_dsprites(tmp_path: Path, pictures: NDArray[Any], colour: int) -> None:
    labels = np.concatenate([np.zeros((10, colour), int), noise(10, 5, top=2)], axis=1)
    pack = packed(npz_of(tmp_path, images=pictures, labels=labels), Preprocessing(image_size=64, num_channels=1))
    assert (pack.info.kind, pack.info.factor_names[0]) == ("array", "factor_1")
    assert pack.info.factor_sizes == (1,) * colour + (2,) * 5
    if pictures.shape[1] == 64:
        scale = 1 if pictures.max() > 1 and pictures.dtype == np.uint8 else 255
        assert np.array_equal(pack.images[..., 0], np.round(pictures * float(scale)))


@pytest.mark.parametrize("white", [1, 255, 1.0, True])
def test_dsprites_are_known_by_what_they_show(tmp_path: Path, white: float) -> None:
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


def test_shapes3d_are_known_by_their_values_and_keep_their_classes(tmp_path: Path) -> None:
    some = [4, 7, 20]  # of which no column has all its values
    pack = packed(npz_of(tmp_path, images=noise(3, 64, 64, 3), labels=SHAPES3D_LABELS[some]), RGB)
    assert (pack.info.kind, pack.info.factor_sizes) == ("shapes3d", (10, 10, 10, 8, 4, 15))
    assert pack.factors is not None
    assert np.array_equal(pack.factors, SHAPES3D[some])


@pytest.mark.parametrize(
    "labels", [np.zeros((30, 6)), noise(30, 6, top=2), SHAPES3D_LABELS + 0.02, SHAPES3D_LABELS[:, ::-1]]
)
def test_pictures_with_six_labels_are_no_shapes3d(tmp_path: Path, labels: NDArray[Any]) -> None:
    pictures = noise(30, 64, 64, 3, top=2)
    pack = packed(npz_of(tmp_path, images=pictures, labels=labels), RGB)
    assert (pack.info.kind, pack.info.factor_names[0]) == ("array", "factor_1")
    assert np.array_equal(pack.images, pictures * 255)


def test_dsprites_are_known_by_the_name_of_their_labels_too(tmp_path: Path) -> None:
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
def test_mpi3d_as_published_is_known_by_its_shape(sizes: tuple[int, ...], size: int, folded: bool) -> None:
    # The real file has 12 GB: only its header is needed to tell what it is.
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


# What values count to


def ramp(low: float, high: float, dtype: Any) -> NDArray[Any]:
    return np.linspace(low, high, 512).reshape(2, 16, 16).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1.0000001), (-1e-7, 1), (-0.04, 1.01), (0, 1.5), (0, 0.3)])
def test_floats_that_overshoot_one_a_little_count_to_one(tmp_path: Path, dtype: Any, low: float, high: float) -> None:
    values = ramp(low, high, dtype)
    expected = np.round(np.clip(values.astype(np.float64), 0, 1) * 255)
    assert np.array_equal(packed(npy_of(tmp_path, values)).images[..., 0], expected)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-3, 260), (0, 40)])
def test_floats_of_bytes_may_overshoot_a_little_too(tmp_path: Path, low: float, high: float) -> None:
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
def test_values_that_no_range_fits_are_refused_and_named(tmp_path: Path, low: float, high: float, dtype: Any) -> None:
    with pytest.raises(DatasetError, match=f"from {low:g} to {high:g}; scale them") as caught:
        packed(npy_of(tmp_path, ramp(low, high, dtype)))
    assert caught.value.code == "unsupported_array"


@pytest.mark.parametrize("high", [10_000, 65535])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, high: int, dtype: Any) -> None:
    values = ramp(0, high, dtype)
    assert np.array_equal(packed(npy_of(tmp_path, values)).images[..., 0], np.round(values / 257))


def float_tiff(root: Path, values: NDArray[Any]) -> bytes:
    Image.fromarray(values.astype(np.float32).reshape(32, 16)).save(root / "a.tif")
    return (root / "a.tif").read_bytes()


def test_a_float_picture_counts_as_an_array_of_them_does(tmp_path: Path) -> None:
    as_it_is = Preprocessing(image_size=16, num_channels=1, crop="center")
    for low, high, white in [(0, 1.0000001, 1), (-0.04, 1.4, 1), (-3, 260, 255), (0, 40, 255)]:
        values = ramp(low, high, np.float32)
        expected = np.round(np.clip(values / white, 0, 1) * 255).reshape(32, 16)[8:24]
        assert np.array_equal(load_image(float_tiff(tmp_path, values), as_it_is)[..., 0], expected)
    for low, high in [(-1, 1), (0, 1.6), (0, 16), (0, 300), (-20, 255)]:
        with pytest.raises(ImageError, match="scale it") as caught:
            load_image(float_tiff(tmp_path, ramp(low, high, np.float32)), as_it_is)
        assert caught.value.code == "unsupported_image"


# What reading costs


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
    """Bytes that a call takes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_look_for_colours_takes_a_few_rows(tmp_path: Path) -> None:
    path = h5_of(tmp_path, (480_000, 64, 64, 3), (15_000, 4, 4, 1))  # as h5py itself chunks Shapes3D
    assert peak_of(lambda: num_channels_of(ArrayFile(path))) < 2**22
    with h5py.File(path, "a") as file:
        file["labels"] = np.zeros((480_000, 30))
    assert peak_of(lambda: num_channels_of(ArrayFile(path))) < 2**22


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((200_000, 64, 64, 3), (100_000, 1, 1, 1)),  # one row of chunks holds 1.2 GB
        ((2, 5000, 5000), (1, 1, 1)),  # 25 million pieces a picture
    ],
)
def test_chunks_that_cost_gigabytes_are_refused(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    path = h5_of(tmp_path, shape, chunks)
    for read in (lambda: num_channels_of(ArrayFile(path)), lambda: packed(path)):
        with pytest.raises(DatasetError, match="chunks of whole pictures") as caught:
            read()
        assert caught.value.code == "unsupported_array"


@pytest.mark.parametrize(
    "chunks", [(), (500, 48, 48, 3), (1, 48, 48, 3), (7, 16, 16, 1), (3000, 6, 6, 1), (2999, 48, 48, 1)]
)
def test_blocks_are_small_and_whole_whatever_the_chunks(tmp_path: Path, chunks: tuple[int, ...]) -> None:
    pictures = noise(3000, 48, 48, 3)  # 20 MB
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("images", data=pictures, chunks=chunks or None)
        of_file = file["images"]
        array = StoredArray(
            shape=of_file.shape,
            dtype=of_file.dtype,
            read=lambda ranges: (of_file[rows.start : rows.stop] for rows in ranges),
            chunks=of_file.chunks or (),
        )
        blocks = list(read_blocks(array))
    assert np.array_equal(np.concatenate(blocks), pictures)
    assert max(block.nbytes for block in blocks) <= 2**24
    assert all(block.base is None or block.base.nbytes <= 2**24 for block in blocks)


def test_reads_take_whole_chunks_and_not_too_many(tmp_path: Path) -> None:
    reads: list[range] = []

    def read(ranges: Any) -> Any:
        for rows in ranges:
            reads.append(rows)
            yield np.zeros((len(rows), 64, 64, 3), np.uint8)

    array = StoredArray(shape=(4000, 64, 64, 3), dtype=np.dtype(np.uint8), read=read)
    for chunks in ((300, 64, 64, 3), (3000, 64, 4, 3), (1, 4, 4, 1)):
        reads.clear()
        for _ in read_blocks(replace(array, chunks=chunks)):
            pass
        assert all(rows.start % chunks[0] == 0 for rows in reads)
        pieces = [-(-len(rows) // chunks[0]) * 64 * 64 * 3 // np.prod(chunks[1:]) for rows in reads]
        assert max(pieces) <= 2**14


def test_a_look_is_spread_as_far_as_it_is_cheap() -> None:
    array = StoredArray(shape=(2**20, 64, 64, 3), dtype=np.dtype(np.uint8), read=lambda ranges: iter(()))
    assert (len(sample_rows(array)), sample_rows(array)[-1]) == (64, 63 * 2**14)
    assert sample_rows(replace(array, is_stream=True))[-1] * array.row_bytes < 2**30
    for chunks in ((15_000, 4, 4, 1), (1, 1, 1, 1)):  # 184 MB, and 12 288 pieces, for each row
        assert 4 <= len(sample_rows(replace(array, chunks=chunks))) <= 11
    assert list(sample_rows(replace(array, shape=(3, 9, 9)))) == [0, 1, 2]


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
def test_pixels_that_are_no_numbers_are_refused_at_once(tmp_path: Path, values: NDArray[Any]) -> None:
    path = npy_of(tmp_path, values)
    for read in (lambda: num_channels_of(ArrayFile(path)), lambda: packed(path)):
        with pytest.raises(DatasetError, match="save them as uint8") as caught:
            read()
        assert caught.value.code == "unsupported_array"


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float16, ">u2", ">f4"])
def test_pixels_of_other_types_are_looked_at_without_a_warning(tmp_path: Path, dtype: Any) -> None:
    values = np.zeros((4, 16, 16, 3), dtype)
    assert num_channels_of(ArrayFile(npy_of(tmp_path, values))) == 1
    values[2, ..., 0] = 1
    assert num_channels_of(ArrayFile(npy_of(tmp_path, values))) == 3
    if np.dtype(dtype).kind == "f":
        values[2, ..., 0] = 258  # 255, and an overshoot
        assert num_channels_of(ArrayFile(npy_of(tmp_path, values))) == 3
        for value in (np.nan, np.inf):
            num_channels_of(ArrayFile(npy_of(tmp_path, np.full((4, 16, 16, 3), value, dtype))))


# Labels


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
        (np.arange(7), "for 8 images"),
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


def test_a_link_is_no_label(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["labels"] = np.arange(8)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = noise(8, 16, 16)
        file["labels"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/labels")
    pack = packed(tmp_path / "set.h5")
    assert pack.factors is None
    assert "is a link" in read_rejected(pack.folder)[0].reason


def test_a_link_is_no_picture(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = noise(8, 16, 16)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images")
        file["data"] = noise(3, 16, 16)
    assert packed(tmp_path / "set.h5").info.num_images == 3


def test_the_first_labels_that_can_be_used_are(tmp_path: Path) -> None:
    names = np.array(["cat", "dog"])
    pack = packed(npz_of(tmp_path, images=noise(8, 16, 16), classes=names, labels=np.arange(8) % 2))
    assert (pack.info.factor_names, pack.info.factor_sizes) == (("label",), (2,))
    assert [note.file for note in read_rejected(pack.folder)] == ["classes"]


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("key", ["data", "pictures"])
def test_coordinates_beside_the_pictures_are_no_pictures(tmp_path: Path, key: str, suffix: str) -> None:
    arrays: Arrays = {"x": np.arange(16.0), "y": np.arange(16.0), key: noise(9, 16, 16)}
    path = npz_of(tmp_path, **arrays)
    if suffix == "h5":
        path = tmp_path / "set.h5"
        with h5py.File(path, "w") as file:
            file.create_group("meta")
            for name, values in arrays.items():
                file[name] = values
    pack = packed(path)
    assert np.array_equal(pack.images[..., 0], arrays[key])
    assert pack.factors is None


def test_without_an_array_of_three_axes_there_are_no_pictures(tmp_path: Path) -> None:
    pictures = noise(3, 16, 16)
    many: list[Arrays] = [{"pictures": np.zeros(3), "others": np.zeros(3)}, {"x": np.zeros(3)}]
    for arrays in [*many, {"one": pictures, "two": pictures}]:
        with pytest.raises(DatasetError, match="three axes") as caught:
            packed(npz_of(tmp_path, **arrays))
        assert caught.value.code == "unsupported_array"
