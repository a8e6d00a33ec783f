"""Trained models by id: those that ship, and those that the storage holds; free of torch."""

import logging
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from models.info import INFO_FILE, PRETRAINED, WEIGHTS_FILE, ModelInfo, read_info, validate_name, write_info
from worker.stores.datasets import DatasetRecord, DatasetRegistry, UnknownDataset, open_dataset_registry
from worker.stores.storage import NotStored, Storage

__all__ = [
    "DatasetRecord",
    "DatasetRegistry",
    "ModelRecord",
    "ModelRegistry",
    "ShippedModel",
    "UnknownDataset",
    "UnknownModel",
    "open_dataset_registry",
    "slug",
]

_DEFAULT = "models/default.json"
_FIRST_CHOICE = "dsprites"
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


log = logging.getLogger(__name__)


class UnknownModel(KeyError):
    """There is no model with this id."""

    def __str__(self) -> str:
        return f"There is no model with the id {self.args[0]}."


class ShippedModel(ValueError):
    """The model ships with the service: it can be neither changed nor removed."""

    def __str__(self) -> str:
        return f"The model {self.args[0]} ships with the service and cannot be changed."


@dataclass(frozen=True)
class ModelRecord:
    """A model in the registry."""

    id: str
    info: ModelInfo
    shipped: bool


def slug(name: str) -> str:
    """A name as an id: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "unnamed"


class ModelRegistry:
    """Models by id. A shipped model's folder is read where it lies."""

    def __init__(self, storage: Storage, *, pretrained: Path = PRETRAINED) -> None:
        self.storage = storage
        self.pretrained = pretrained

    def records(self) -> list[ModelRecord]:
        """All models: shipped ones first, then stored ones, the newest first. One that is damaged is left out."""
        shipped = [self._record(model_id) for model_id in self._shipped()]
        stored = [self._record(name) for name in self.storage.list("models") if self._is_stored(name)]
        newest_first = sorted((r for r in stored if r), key=lambda r: r.info.created_at, reverse=True)
        return [r for r in shipped if r] + newest_first

    def info(self, model_id: str) -> ModelInfo:
        """The model's description; fetches no weights. Raises UnknownModel."""
        return self.record(model_id).info

    def record(self, model_id: str) -> ModelRecord:
        """The model's entry; fetches no weights. Raises UnknownModel."""
        found = self._record(model_id) if _ID.fullmatch(model_id) else None
        if found is None:
            raise UnknownModel(model_id)
        return found

    def get(self, model_id: str) -> tuple[ModelInfo, Path]:
        """The model's description and a local folder with its files. Raises UnknownModel."""
        record = self.record(model_id)
        if record.shipped:
            return record.info, self.pretrained / model_id
        return record.info, self.storage.local_folder(f"models/{model_id}")

    def exists(self, model_id: str) -> bool:
        """Whether there is such a model."""
        return _ID.fullmatch(model_id) is not None and (model_id in self._shipped() or self._is_stored(model_id))

    def default_id(self) -> str | None:
        """The model that is used when none is named: the one that was set, else dsprites, else the first."""
        try:
            chosen = str(self.storage.read_json(_DEFAULT)["id"])
            if self.exists(chosen):
                return chosen
        except (NotStored, ValueError, KeyError, TypeError):
            pass
        if self.exists(_FIRST_CHOICE):
            return _FIRST_CHOICE
        records = self.records()
        return records[0].id if records else None

    def set_default(self, model_id: str) -> None:
        """Makes it the model that is used when none is named. Raises UnknownModel."""
        self.record(model_id)
        self.storage.write_json(_DEFAULT, {"id": model_id})

    def add(self, folder: Path, id: str | None = None) -> str:
        """Takes a copy of a folder with model.safetensors and model.json into the registry.

        Args: id, the model's id, whose model is replaced where there is one; without it, one is made of the name.
        Returns: the id.   Raises: ValueError when the folder holds no model; ShippedModel.
        """
        info = read_info(folder)
        if not (folder / WEIGHTS_FILE).is_file():
            raise ValueError(f"{folder.name}: {WEIGHTS_FILE} is missing")
        model_id = id or self._free_id(info.name)
        if not _ID.fullmatch(model_id):
            raise ValueError(f"not a model id: {model_id!r}")
        if model_id in self._shipped():
            raise ShippedModel(model_id)
        self.storage.put_folder(f"models/{model_id}", folder)
        log.info("model %s: registered (%s)", model_id, info.name)
        return model_id

    def update(self, model_id: str, info: ModelInfo) -> None:
        """Replaces the description of a stored model. Raises UnknownModel, ShippedModel."""
        if self.record(model_id).shipped:
            raise ShippedModel(model_id)
        folder = Path(tempfile.mkdtemp(prefix="model-"))
        try:
            write_info(folder, info)
            self.storage.put_folder(f"models/{model_id}", folder)
        finally:
            shutil.rmtree(folder)

    def rename(self, model_id: str, name: str) -> ModelInfo:
        """Gives a stored model another name; its id stays. Raises UnknownModel, ShippedModel, ConfigError."""
        info = replace(self.info(model_id), name=validate_name(name))
        self.update(model_id, info)
        return info

    def delete(self, model_id: str) -> None:
        """Removes a stored model. Raises UnknownModel, ShippedModel."""
        if self.record(model_id).shipped:
            raise ShippedModel(model_id)
        self.storage.delete(f"models/{model_id}")
        log.info("model %s: deleted", model_id)

    def _shipped(self) -> list[str]:
        if not self.pretrained.is_dir():
            return []
        return sorted(path.name for path in self.pretrained.iterdir() if (path / INFO_FILE).is_file())

    def _is_stored(self, model_id: str) -> bool:
        return self.storage.exists(f"models/{model_id}/{INFO_FILE}")

    def _record(self, model_id: str) -> ModelRecord | None:
        try:
            if model_id in self._shipped():
                return ModelRecord(model_id, read_info(self.pretrained / model_id), shipped=True)
            info = ModelInfo.from_json(self.storage.read_json(f"models/{model_id}/{INFO_FILE}"))
            return ModelRecord(model_id, info, shipped=False)
        except NotStored:
            return None
        except ValueError as error:
            log.warning("model %s: left out: %s", model_id, error)
            return None

    def _free_id(self, name: str) -> str:
        base = slug(name)
        number = 1
        while self.exists(base if number == 1 else f"{base}-{number}"):
            number += 1
        return base if number == 1 else f"{base}-{number}"
