"""The settings, models and data sets that the commands work with."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from app.cli.output import CliError, progress
from models.info import ModelInfo, Preprocessing, read_info
from training.data.datasets import DatasetError, Source, fingerprint, num_channels_of, pack_dataset, source_for
from training.data.packs import Pack, PackError, open_pack
from worker.stores import opened
from worker.stores.dataset_records import UnknownDataset
from worker.stores.models import UnknownModel
from worker.stores.settings import load_settings


@dataclass(frozen=True, kw_only=True)
class Stores(opened.OpenStores):
    """The stores of a command. Only `device` loads torch."""

    def model(self, name: str | None) -> tuple[ModelInfo, Path]:
        """Returns a model's description and folder.

        Args:
            name: Id or name of the model, or path of its folder; None takes the default model.

        Raises:
            CliError: There is no such model.
        """
        if name is not None and (Path(name) / "model.json").is_file():
            try:
                return read_info(Path(name)), Path(name)
            except ValueError as error:
                raise CliError(str(error)) from error
        chosen = name or self.models.default_id()
        if chosen is None:
            raise CliError("there is no model yet: train one, or import one with `betavae models import`")
        try:
            return self.models.get(self.models.find(chosen))
        except UnknownModel as error:
            known = ", ".join(record.id for record in self.models.records()) or "none"
            raise CliError(f"no model {chosen!r}; there are {known}") from error

    def dataset(self, text: str) -> str:
        """Returns the id of a data set that is given by its name; every other text is returned as it is.

        An id and a path go before a name.

        Raises:
            AmbiguousName: Several data sets have the name.
        """
        if Path(text).exists():
            return text
        try:
            return self.datasets.find(text)
        except UnknownDataset:
            return text

    def device(self) -> str:
        """Loads torch and returns the device of the settings.

        Raises:
            CliError: There is no such device.
        """
        from training.device import DeviceError, pick_device

        try:
            return str(pick_device(self.settings.device))
        except DeviceError as error:
            raise CliError(str(error)) from error


def open_stores(device: str | None = None) -> Stores:
    """Reads the settings and opens the stores.

    Args:
        device: Device that replaces the setting; None keeps it.
    """
    if device is not None:
        os.environ["BETAVAE_DEVICE"] = device
    settings = load_settings()
    if os.environ.get("TMPDIR") == str(settings.temporary_folder):  # In a container, the volume may be new.
        settings.make_temporary_folder()
    logging.basicConfig(level="WARNING", format="%(message)s")
    return Stores(**vars(opened.open_stores(settings)))


def num_channels(stores: Stores, dataset: str) -> int:
    """Returns 3 if the pictures have colours, otherwise 1.

    Args:
        stores: The stores.
        dataset: Id of a data set, or path of a folder or archive.

    Raises:
        CliError: There is no such data set.
        DatasetError: The pictures cannot be read.
    """
    path = _path_of(stores, dataset)
    if path is not None:
        return num_channels_of(source_for(path), stores.datasets.limits)
    return stores.datasets.num_channels(dataset)


def pack_of(stores: Stores, dataset: str, preprocessing: Preprocessing, *, as_it_was: bool = False) -> Pack:
    """Opens the pack of a data set, and makes it if there is none.

    Args:
        stores: The stores.
        dataset: Id of a data set, or path of a folder or archive.
        preprocessing: Preprocessing of the pack.
        as_it_was: True accepts the pack of a source that has changed since, for a run that goes on with it.

    Raises:
        CliError: There is no such data set.
        DatasetError: The data set cannot be packed.
        PackError: The pack cannot be opened.
    """
    path = _path_of(stores, dataset, may_be_gone=as_it_was)
    if path is not None:
        return _pack_of_path(stores, path, preprocessing, as_it_was)
    pack = stores.datasets.open(dataset, preprocessing, check_source=not as_it_was)
    if pack is not None:
        return pack
    with progress(f"packing {dataset}") as report:
        return stores.datasets.pack(dataset, preprocessing, on_progress=report)


def has_changed(stores: Stores, dataset: str, pack: Pack) -> bool:
    """Returns whether a source has changed since it was packed; a source that is gone has not.

    Args:
        stores: The stores.
        dataset: Id of a data set, or path of a folder or archive.
        pack: Its pack.

    Raises:
        CliError: There is no such data set.
    """
    path = _path_of(stores, dataset, may_be_gone=True)
    if path is None:
        return stores.datasets.has_changed(dataset, pack)
    try:
        return fingerprint(source_for(path), stores.datasets.limits) != pack.info.source_fingerprint
    except DatasetError:
        return False


def source_of(stores: Stores, dataset: str) -> Source:
    """Returns where the pictures of a data set come from.

    Args:
        stores: The stores.
        dataset: Id of a data set, or path of a folder or archive.

    Raises:
        CliError: There is no such data set.
        DatasetError: The pictures are gone.
    """
    path = _path_of(stores, dataset, may_be_gone=True)
    return stores.datasets.source(dataset) if path is None else source_for(path)


def _path_of(stores: Stores, dataset: str, *, may_be_gone: bool = False) -> Path | None:
    """Returns the path that a name stands for, or None if it is the id of a data set in the registry.

    Args:
        stores: The stores.
        dataset: Id of a data set, or path of a folder or archive.
        may_be_gone: True accepts a path at which there is nothing any more.

    Raises:
        CliError: The name is neither.
    """
    try:
        stores.datasets.get(dataset)
    except UnknownDataset as error:
        if may_be_gone or Path(dataset).exists():
            return Path(dataset) if Path(dataset).name else Path(dataset).resolve()  # "." has no name.
        known = ", ".join(record.id for record in stores.datasets.records())
        raise CliError(f"no data set and no file or folder {dataset!r}; there are {known}") from error
    return None


def _pack_of_path(stores: Stores, path: Path, preprocessing: Preprocessing, as_it_was: bool) -> Pack:
    """Opens or makes the pack of a path in the cache, in a folder named after the path and the preprocessing."""
    limits = stores.datasets.limits
    digest = hashlib.sha256(os.fsencode(f"{path.resolve()} {preprocessing}")).hexdigest()[:12]
    stem = os.fsdecode(os.fsencode(path.stem)[:100])  # The longest name of a folder is 255 bytes.
    folder = stores.settings.cache_folder / "packs" / f"{stem}-{digest}"
    try:
        expected = None if as_it_was else fingerprint(source_for(path), limits)
        return open_pack(folder, preprocessing=preprocessing, source_fingerprint=expected)
    except PackError:
        pass
    with progress(f"packing {path.name}") as report:
        pack_dataset(source_for(path), folder, preprocessing, on_progress=report, limits=limits)
    return open_pack(folder, preprocessing=preprocessing)
