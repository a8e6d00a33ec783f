"""A few pictures of each kind of data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.info import Preprocessing
from training.data.datasets import DatasetError
from worker.stores.datasets import DatasetRegistry
from worker.stores.samples import sample_pictures
from worker.stores.storage import LocalStorage


@pytest.fixture
def datasets(storage: LocalStorage) -> DatasetRegistry:
    """An empty registry."""
    return DatasetRegistry(storage)


def _folder(path: Path, num: int) -> Path:
    path.mkdir()
    for i in range(num):
        Image.new("RGB", (40, 30), (i, 0, 255 - i)).save(path / f"{i:03d}.png")
    return path


@pytest.mark.parametrize("dataset_id", ["dsprites", "dsprites_color", "chairs"])
def test_built_in_sets_are_drawn_and_always_alike(datasets: DatasetRegistry, dataset_id: str) -> None:
    pixels = sample_pictures(datasets, dataset_id, 16)
    assert pixels.shape == (16, 64, 64, 3)
    assert len(np.unique(pixels.reshape(16, -1), axis=0)) == 16
    assert np.array_equal(pixels, sample_pictures(datasets, dataset_id, 16))


def test_pictures_of_a_folder_are_spread_over_it(datasets: DatasetRegistry, tmp_path: Path) -> None:
    record = datasets.add_path("colours", _folder(tmp_path / "colours", 100))
    pixels = sample_pictures(datasets, record.id, 4)
    assert pixels[:, 32, 32].tolist() == [[i, 0, 255 - i] for i in (0, 25, 50, 75)]


def test_files_that_are_no_pictures_are_left_out(datasets: DatasetRegistry, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mixed", 3)
    (folder / "001.png").write_bytes(b"no picture")
    record = datasets.add_path("mixed", folder)
    assert len(sample_pictures(datasets, record.id, 16)) == 2


def test_a_set_whose_files_are_all_broken_is_refused(datasets: DatasetRegistry, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "broken", 2)
    record = datasets.add_path("broken", folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError) as refused:
        sample_pictures(datasets, record.id, 16)
    assert refused.value.code == "no_images"


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "uint8"), ([0, 1], "uint8"), ([0, 1], "float32"), ([0, 1], "bool")],
    ids=["bytes", "binary", "floats", "booleans"],
)
def test_pictures_of_an_array_have_its_range(
    datasets: DatasetRegistry, tmp_path: Path, values: list[int], dtype: str
) -> None:
    path = tmp_path / "a.npy"
    array = np.array(values, dtype)
    np.save(path, np.broadcast_to(array[np.arange(20) % 2][:, None, None], (20, 32, 32)))
    record = datasets.add_path("array", path)
    pixels = sample_pictures(datasets, record.id, 20)
    assert pixels[:, 5, 5, 0].tolist() == [0, 255] * 10


def test_an_array_with_values_that_are_not_finite_is_refused(datasets: DatasetRegistry, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((8, 32, 32), np.nan, np.float32))
    record = datasets.add_path("array", tmp_path / "a.npy")
    with pytest.raises(DatasetError, match="not finite"):
        sample_pictures(datasets, record.id, 4)


def test_a_pack_serves_where_the_folder_is_gone(datasets: DatasetRegistry, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "colours", 10)
    record = datasets.add_path("colours", folder)
    datasets.pack(record.id, Preprocessing(image_size=32, num_channels=3))
    for path in folder.iterdir():
        path.unlink()
    pixels = sample_pictures(datasets, record.id, 16)
    assert pixels.shape == (10, 64, 64, 3)
    assert pixels[:, 20, 20, 0].tolist() == list(range(10))
