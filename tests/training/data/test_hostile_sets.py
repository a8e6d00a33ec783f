"""Data sets made to cost memory are refused, or packed, in little memory."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_files import cost_of, crowded_zip, npy_with_long_header, zip_bomb

from training.data.datasets import pack_dataset, source_for
from training.data.images import Preprocessing
from training.data.sources import DatasetError

_PACK = """
from pathlib import Path
from models.info import Preprocessing
from training.data.datasets import DatasetError, pack_dataset, source_for
import zipfile
# work
try:
    info = pack_dataset(source_for(Path(sys.argv[1])), Path(sys.argv[2]), Preprocessing(image_size=32))
    print(info.num_images)
except DatasetError as error:
    print(error.code)
"""


def error_of(path: Path, target: Path) -> DatasetError:
    with pytest.raises(DatasetError) as failed:
        pack_dataset(source_for(path), target, Preprocessing(image_size=32))
    return failed.value


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_another_method_is_refused_with_a_reason(method: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zip_bomb("a.bmp", 200 * 2**20, method, b"BM"))
    cost = cost_of(_PACK, path, tmp_path / "pack")
    assert cost.output == "no_images"
    assert cost.peak_mib < 40
    assert "only stored and deflated files are read" in error_of(path, tmp_path / "pack").message


def test_an_error_repeats_a_bounded_part_of_a_name(tmp_path: Path) -> None:
    """A job keeps its error, and lists of jobs repeat it."""
    path = tmp_path / "named.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\x01" * 60_000 + ".png", b"no picture")
    error = error_of(path, tmp_path / "pack")
    assert error.code == "no_images"
    assert len(json.dumps(error.message)) < 4000
    assert str(error) == error.message
    assert DatasetError("no_images", "x" * 9999).message == "x" * 1000 + "…"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_of_another_method_is_refused(method: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    path.write_bytes(zip_bomb("images.npy", 200 * 2**20, method))
    cost = cost_of(_PACK, path, tmp_path / "pack")
    assert cost.output == "not_an_archive"
    assert cost.peak_mib < 40


def test_an_npz_that_is_all_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "crowded.npz"
    path.write_bytes(crowded_zip(300_000))
    cost = cost_of(_PACK, path, tmp_path / "pack")
    assert cost.output == "not_an_archive"
    assert cost.peak_mib < 40


def test_the_header_of_an_array_is_read_under_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.npz"
    path.write_bytes(zip_bomb("images.npy", 200 * 2**20, zipfile.ZIP_DEFLATED, npy_with_long_header(200 * 2**20)))
    cost = cost_of(_PACK, path, tmp_path / "pack")
    assert cost.output == "not_an_archive"
    assert cost.peak_mib < 40


@pytest.mark.parametrize("suffix", ["h5", "npz", "npy"])
def test_what_an_array_unpacks_to_is_bounded_before_the_work(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"vast.{suffix}"
    shape = (1_000_000, 4096, 4096)
    if suffix == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file.create_dataset("images", shape, "u1", chunks=(1, 4096, 4096))
    else:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        path.write_bytes(header.getvalue())
        if suffix == "npz":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("images.npy", header.getvalue())
    assert path.stat().st_size < 10_000
    error = error_of(path, tmp_path / "pack")
    assert error.code == "unsupported_array"
    assert "bytes of pixels in a file of" in error.message
