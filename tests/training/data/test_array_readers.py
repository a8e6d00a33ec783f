"""Readers find the pictures of a file and read them in parts that fit into memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from arrays_support import Arrays, h5_of, noise, npz_of, packed

from training.data.array_readers import read_blocks, sample_rows
from training.data.datasets import ArrayFile, DatasetError, num_channels_of
from training.data.stored_arrays import StoredArray


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


def test_a_sample_is_spread_as_far_as_it_is_cheap() -> None:
    array = StoredArray(shape=(2**20, 64, 64, 3), dtype=np.dtype(np.uint8), read=lambda ranges: iter(()))
    assert (len(sample_rows(array)), sample_rows(array)[-1]) == (64, 63 * 2**14)
    assert sample_rows(replace(array, is_stream=True))[-1] * array.row_bytes < 2**30
    for chunks in ((15_000, 4, 4, 1), (1, 1, 1, 1)):  # 184 MB, and 12 288 pieces, for each row
        assert 4 <= len(sample_rows(replace(array, chunks=chunks))) <= 11
    assert list(sample_rows(replace(array, shape=(3, 9, 9)))) == [0, 1, 2]


def test_a_link_is_not_used_as_pictures(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = noise(8, 16, 16)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images")
        file["data"] = noise(3, 16, 16)
    assert packed(tmp_path / "set.h5").info.num_images == 3


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("key", ["data", "pictures"])
def test_coordinates_beside_the_pictures_are_not_taken_for_pictures(tmp_path: Path, key: str, suffix: str) -> None:
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
