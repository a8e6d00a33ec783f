"""Registries of shipped and stored models, and of built-in, registered and uploaded data sets with their packs."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from models.config import ConfigError, NetworkConfig
from models.info import ModelInfo, Preprocessing, write_info
from training.data.datasets import DatasetError
from worker.stores.models import DatasetRegistry, ModelRegistry, ShippedModel, UnknownDataset, UnknownModel
from worker.stores.storage import LocalStorage

GREY = Preprocessing(image_size=32, num_channels=1)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A factory of model folders with false weights, since a registry reads only descriptions."""

    def make(name: str, folder: Path | None = None, **options: Any) -> Path:
        folder = folder or tmp_path / f"made-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(name.encode())
        info = ModelInfo(name=name, network=NetworkConfig(image_size=32), preprocessing=GREY, **options)
        write_info(folder, info)
        return folder

    return make


@pytest.fixture
def models(storage: LocalStorage, tmp_path: Path, make_model: Callable[..., Path]) -> ModelRegistry:
    """A registry with one shipped model, dsprites."""
    make_model("Shapes", tmp_path / "pretrained/dsprites")
    return ModelRegistry(storage, pretrained=tmp_path / "pretrained")


def test_shipped_and_stored_models_are_listed_together(models: ModelRegistry, make_model: Callable[..., Path]) -> None:
    model_id = models.add(make_model("My Faces"))
    assert model_id == "my-faces"
    assert [(r.id, r.shipped) for r in models.records()] == [("dsprites", True), ("my-faces", False)]
    info, folder = models.get(model_id)
    assert info.name == "My Faces"
    assert (folder / "model.safetensors").read_bytes() == b"My Faces"
    assert models.get("dsprites")[0].name == "Shapes"


class CountingStorage(LocalStorage):
    """A folder that counts the files that are read."""

    num_read = 0

    def read_bytes(self, key: str) -> bytes:
        self.num_read += 1
        return super().read_bytes(key)


def test_a_page_reads_its_own_models_and_those_that_changed(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    storage, other = CountingStorage(tmp_path / "home"), ModelRegistry(LocalStorage(tmp_path / "home"))
    models = ModelRegistry(storage, pretrained=tmp_path / "none")
    for number in range(8):
        made_at = f"2026-01-{number + 10}T00:00:00+00:00"
        other.add(make_model(f"m {number}", created_at=made_at))
    newest_first = [f"m-{number}" for number in range(7, -1, -1)]
    assert [record.id for record in models.records()] == newest_first
    storage.num_read = 0
    assert [record.id for record in models.page(3, "m-6")] == newest_first[2:5]
    assert (storage.num_read, models.find("m 1"), storage.num_read) == (3, "m-1", 3)
    other.rename("m-1", "renamed")
    other.delete("m-5")
    other.add(make_model("m 4", created_at="2026-02-01T00:00:00+00:00"), id="m-4")
    storage.write_bytes("models/m-3/model.json", b"{")
    storage.num_read = 0
    assert [record.id for record in models.page(3)] == ["m-4", "m-7", "m-6"]
    assert storage.num_read == 3 + 3
    assert models.find("renamed") == "m-1"
    assert [record.id for record in models.page(9, "m-6")] == ["m-2", "m-1", "m-0"]
    for gone in ("m-5", "m-3"):
        with pytest.raises(UnknownModel):
            models.page(3, gone)


def test_equal_names_get_ids_of_their_own(models: ModelRegistry, make_model: Callable[..., Path]) -> None:
    folder = make_model("dsprites")
    assert [models.add(folder) for _ in range(3)] == ["dsprites-2", "dsprites-3", "dsprites-4"]


def test_the_default_is_the_chosen_one_while_it_is_there(
    models: ModelRegistry, make_model: Callable[..., Path], storage: LocalStorage, tmp_path: Path
) -> None:
    assert models.default_id() == "dsprites"
    model_id = models.add(make_model("Faces"))
    models.set_default(model_id)
    assert models.default_id() == model_id
    models.delete(model_id)
    assert models.default_id() == "dsprites"
    assert ModelRegistry(storage, pretrained=tmp_path / "none").default_id() is None


def test_a_shipped_model_cannot_be_changed(models: ModelRegistry, make_model: Callable[..., Path]) -> None:
    for call in (
        lambda: models.delete("dsprites"),
        lambda: models.rename("dsprites", "x"),
        lambda: models.add(make_model("x"), id="dsprites"),
    ):
        with pytest.raises(ShippedModel):
            call()


def test_renaming_keeps_the_id(models: ModelRegistry, make_model: Callable[..., Path]) -> None:
    model_id = models.add(make_model("Faces"))
    models.rename(model_id, "Better faces")
    assert models.info(model_id).name == "Better faces"
    with pytest.raises(ConfigError):
        models.rename(model_id, "\n")


def test_a_model_that_is_deleted_while_it_is_changed_is_gone(
    models: ModelRegistry, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = models.add(make_model("Faces"))
    put = LocalStorage.put_folder

    def put_late(storage: LocalStorage, prefix: str, folder: Path) -> None:
        storage.delete(prefix)
        put(storage, prefix, folder)

    monkeypatch.setattr(LocalStorage, "put_folder", put_late)
    with pytest.raises(UnknownModel):
        models.rename(model_id, "Better faces")
    assert not models.exists(model_id)


@pytest.mark.parametrize("model_id", ["none", "", "../x", "a/b", "default.json"])
def test_an_unknown_model_is_refused(models: ModelRegistry, model_id: str) -> None:
    with pytest.raises(UnknownModel):
        models.get(model_id)


def test_a_damaged_model_is_left_out_alone(models: ModelRegistry, storage: LocalStorage) -> None:
    storage.write_bytes("models/broken/model.json", b"{}")
    assert [r.id for r in models.records()] == ["dsprites"]
    with pytest.raises(UnknownModel):
        models.get("broken")


def test_a_folder_without_a_model_is_refused(models: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.json"):
        models.add(tmp_path)


@pytest.fixture
def datasets(storage: LocalStorage) -> DatasetRegistry:
    return DatasetRegistry(storage)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pictures and one file that is not a picture."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(np.full((40, 40), 40 * i, np.uint8)).save(folder / ("deep" if i % 2 else ".") / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_built_in_sets_are_always_there(datasets: DatasetRegistry) -> None:
    assert [r.id for r in datasets.records()] == ["dsprites", "dsprites_color", "chairs"]
    assert datasets.get("dsprites").status == "unpacked"


def test_a_changed_folder_is_noticed_when_a_training_begins(datasets: DatasetRegistry, pictures: Path) -> None:
    record = datasets.add_path("changing", pictures)
    datasets.pack(record.id, GREY)
    assert datasets.open(record.id, GREY, check_source=True) is not None
    Image.new("L", (40, 40)).save(pictures / "later.png")
    assert datasets.open(record.id, GREY) is not None
    assert datasets.open(record.id, GREY, check_source=True) is None


def test_a_changed_archive_is_noticed_too(datasets: DatasetRegistry, tmp_path: Path) -> None:
    path = tmp_path / "pictures.npy"
    np.save(path, np.zeros((3, 32, 32), np.uint8))
    record = datasets.add_path("array", path)
    assert datasets.pack(record.id, GREY).info.num_images == 3
    assert datasets.open(record.id, GREY, check_source=True) is not None
    np.save(path, np.zeros((4, 32, 32), np.uint8))
    assert datasets.open(record.id, GREY, check_source=True) is None


def test_the_pack_of_a_missing_source_is_used(datasets: DatasetRegistry, pictures: Path, tmp_path: Path) -> None:
    array = tmp_path / "pictures.npy"
    np.save(array, np.zeros((3, 32, 32), np.uint8))
    for path in (pictures, array):
        record = datasets.add_path(path.name, path)
        datasets.pack(record.id, GREY)
        path.rename(tmp_path / f"moved-{path.name}")
        assert datasets.open(record.id, GREY, check_source=True) is not None
        with pytest.raises(DatasetError, match="no such"):
            datasets.pack(record.id, GREY)


def test_pictures_above_the_limit_of_pixels_are_left_out(storage: LocalStorage, pictures: Path) -> None:
    Image.new("L", (50, 50)).save(pictures / "large.png")
    datasets = DatasetRegistry(storage, max_image_pixels=1600)
    record = datasets.add_path("limited", pictures)
    assert datasets.pack(record.id, GREY).info.num_images == 6
    assert b"large.png" in datasets.rejected(record.id)
    assert datasets.open(record.id, GREY, check_source=True) is not None
    # Another limit leaves out other pictures, so the pack is stale when a training begins.
    more = DatasetRegistry(storage)
    assert more.open(record.id, GREY, check_source=True) is None
    assert more.pack(record.id, GREY).info.num_images == 7


def test_a_folder_is_registered_in_place_and_packed_once(datasets: DatasetRegistry, pictures: Path) -> None:
    record = datasets.add_path("My pictures", pictures)
    assert (record.id, record.kind, record.status, record.num_images) == ("my-pictures", "folder", "unpacked", None)
    assert datasets.open(record.id, GREY) is None
    pack = datasets.pack(record.id, GREY)
    assert pack.images.shape == (6, 32, 32, 1)
    again = datasets.open(record.id, GREY)
    assert again is not None
    assert again.info == pack.info
    record = datasets.get(record.id)
    assert (record.status, record.num_images, record.num_rejected) == ("ready", 6, 1)
    assert b"broken.jpg" in datasets.rejected(record.id)
    colour = Preprocessing(image_size=64, num_channels=3, crop="none")
    assert datasets.open(record.id, colour) is None
    assert datasets.pack(record.id, colour).images.shape == (6, 64, 64, 3)
    assert len(datasets.get(record.id).packs) == 2
    # The newest pack describes the set.
    (pictures / "worse.jpg").write_bytes(b"none either")
    assert datasets.pack(record.id, colour).info.num_rejected == 2
    for name, day in (("32px-grey", 1), ("64px-rgb-whole", 2)):
        key = f"datasets/{record.id}/{name}/dataset.json"
        datasets.storage.write_json(key, {**datasets.storage.read_json(key), "created_at": f"2026-01-0{day}"})
    assert datasets.get(record.id).num_rejected == 2
    assert b"worse.jpg" in datasets.rejected(record.id)
    assert b"worse.jpg" not in datasets.rejected(record.id, GREY)
    datasets.delete(record.id)
    assert (pictures / "0.png").exists()
    with pytest.raises(UnknownDataset):
        datasets.get(record.id)


def test_a_set_has_as_many_channels_as_its_pictures_need(
    datasets: DatasetRegistry, pictures: Path, tmp_path: Path, storage: LocalStorage
) -> None:
    assert (datasets.num_channels("dsprites"), datasets.num_channels("chairs")) == (1, 3)
    folder = datasets.add_path("folder", pictures).id
    assert datasets.num_channels(folder) == 1
    Image.new("RGB", (40, 40), (200, 0, 0)).save(pictures / "deep" / "6.png")
    assert datasets.num_channels(folder) == 3
    datasets.pack(folder, Preprocessing(image_size=32, num_channels=3))
    pictures.rename(tmp_path / "moved")
    assert datasets.num_channels(folder) == 3  # Its only pack is in colour.

    np.save(tmp_path / "colours.npy", np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
    upload = datasets.add_upload("upload", tmp_path / "colours.npy", filename="colours.npy").id
    assert datasets.num_channels(upload) == 3
    storage.delete(f"datasets/{upload}/upload.npy")
    assert datasets.num_channels(upload) == 3  # The number was stored, since the file may be remote.
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"none")
    assert datasets.num_channels(datasets.add_upload("broken", broken, filename="broken.npy").id) == 1
    with pytest.raises(UnknownDataset):
        datasets.num_channels("nobody")


def test_without_h5py_the_number_of_channels_is_not_guessed(
    datasets: DatasetRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of the API has no h5py."""
    with h5py.File(tmp_path / "colours.h5", "w") as file:
        file["images"] = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    record = datasets.add_path("colours", tmp_path / "colours.h5")
    assert datasets.num_channels(record.id) == 3
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DatasetError, match="h5py"):
        datasets.num_channels(record.id)


def test_an_upload_is_kept_in_the_storage(datasets: DatasetRegistry, pictures: Path, tmp_path: Path) -> None:
    archive = tmp_path / "upload.tmp"
    with zipfile.ZipFile(archive, "w") as file:
        for path in pictures.rglob("*.png"):
            file.write(path, path.name)
    record = datasets.add_upload("Faces", archive, filename="faces.ZIP")
    assert datasets.pack(record.id, GREY).info.num_images == 6
    assert datasets.get(record.id).kind == "upload"


def test_a_set_that_cannot_be_packed_says_why(datasets: DatasetRegistry, tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(b"no zip")
    record = datasets.add_upload("x", archive, filename="x.zip")
    with pytest.raises(DatasetError) as error:
        datasets.pack(record.id, GREY)
    record = datasets.get(record.id)
    assert record.status == "failed"
    assert record.error == {"code": error.value.code, "message": error.value.message}


def test_a_path_without_a_data_set_is_refused(datasets: DatasetRegistry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "garbage.zip").write_bytes(b"no zip")
    wrong = {"empty": "no_images", "missing": "not_found", "notes.txt": "not_an_archive", "garbage.zip": "not_a_zip"}
    for path, code in wrong.items():
        with pytest.raises(DatasetError) as error:
            datasets.add_path("x", tmp_path / path)
        assert error.value.code == code
    with pytest.raises(ConfigError):
        datasets.add_path("", tmp_path)
    assert len(datasets.records()) == 3


def test_equal_data_set_names_get_ids_of_their_own(datasets: DatasetRegistry, pictures: Path) -> None:
    assert [datasets.add_path("dsprites", pictures).id for _ in range(2)] == ["dsprites-2", "dsprites-3"]


@pytest.mark.parametrize("dataset_id", ["none", "", "../x", "A B"])
def test_an_unknown_data_set_is_refused(datasets: DatasetRegistry, dataset_id: str) -> None:
    with pytest.raises(UnknownDataset):
        datasets.get(dataset_id)
