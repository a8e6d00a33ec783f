"""What the commands work on: the settings, and the models and data sets of the data folder."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from app.cli.output import CliError, progress
from models.info import ModelInfo, Preprocessing, read_info
from training.data.datasets import DatasetError, Source, fingerprint, num_channels_of, pack_dataset, source_for
from training.data.packs import Pack, PackError, open_pack
from worker.stores.models import DatasetRegistry, ModelRegistry, UnknownDataset, UnknownModel, open_dataset_registry
from worker.stores.settings import Settings, load_settings
from worker.stores.storage import open_storage


@dataclass(frozen=True)
class Stores:
    """Settings, models and data sets; free of torch until `device` is asked for."""

    settings: Settings
    models: ModelRegistry
    datasets: DatasetRegistry

    def model(self, name: str | None) -> tuple[ModelInfo, Path]:
        """A model by id (None: the default one) or by folder. Raises CliError."""
        if name is not None and (Path(name) / "model.json").is_file():
            try:
                return read_info(Path(name)), Path(name)
            except ValueError as error:
                raise CliError(str(error)) from error
        chosen = name or self.models.default_id()
        if chosen is None:
            raise CliError("there is no model yet: train one, or import one with `betavae models import`")
        try:
            return self.models.get(chosen)
        except UnknownModel as error:
            known = ", ".join(record.id for record in self.models.records()) or "none"
            raise CliError(f"no model {chosen!r}; there are {known}") from error

    def device(self) -> str:
        """The torch device to use; loads torch. Raises CliError when there is no such device."""
        from training.device import DeviceError, pick_device

        try:
            return str(pick_device(self.settings.device))
        except DeviceError as error:
            raise CliError(str(error)) from error


def open_stores(device: str | None = None) -> Stores:
    """Reads the settings and opens the stores. Args: device, instead of the setting."""
    if device is not None:
        os.environ["BETAVAE_DEVICE"] = device
    settings = load_settings()
    if os.environ.get("TMPDIR") == str(settings.temporary_folder):  # as in a container, whose volume may be new
        settings.make_temporary_folder()
    logging.basicConfig(level="WARNING", format="%(message)s")
    storage = open_storage(settings.storage, cache_folder=settings.cache_folder)
    return Stores(
        settings=settings,
        models=ModelRegistry(storage),
        datasets=open_dataset_registry(settings, storage),
    )


def num_channels(stores: Stores, dataset: str) -> int:
    """3 where the pictures of a data set (an id), or of a folder or archive (a path), have colours, otherwise 1.

    Raises: CliError for an unknown data set; DatasetError.
    """
    path = _path_of(stores, dataset)
    if path is not None:
        return num_channels_of(source_for(path), stores.datasets.limits)
    return stores.datasets.num_channels(dataset)


def pack_of(stores: Stores, dataset: str, preprocessing: Preprocessing, *, as_it_was: bool = False) -> Pack:
    """The packed images of a data set (an id), or of a folder or archive (a path), packed now where there is no pack.

    Args: as_it_was, whether a pack counts too of a folder or file that has changed since: for those who go on with it.
    Raises: CliError for an unknown data set; DatasetError and PackError.
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
    """Whether a data set (an id), a folder or an archive (a path) has changed since it was packed; not if it is gone.

    Raises: CliError for an unknown data set.
    """
    path = _path_of(stores, dataset, may_be_gone=True)
    if path is None:
        return stores.datasets.has_changed(dataset, pack)
    try:
        return fingerprint(source_for(path), stores.datasets.limits) != pack.info.source_fingerprint
    except DatasetError:
        return False


def source_of(stores: Stores, dataset: str) -> Source:
    """Where the pictures of a data set (an id), or of a folder or archive (a path), come from.

    Raises: CliError for an unknown data set; DatasetError.
    """
    path = _path_of(stores, dataset, may_be_gone=True)
    return stores.datasets.source(dataset) if path is None else source_for(path)


def _path_of(stores: Stores, dataset: str, *, may_be_gone: bool = False) -> Path | None:
    """The folder or file that is meant; None: a data set in the registry.

    Args: may_be_gone, whether a path counts too where nothing is any more.
    Raises: CliError where it is neither.
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
    """Packs what is no registered data set into the cache, under a name made from its place and the preprocessing."""
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
