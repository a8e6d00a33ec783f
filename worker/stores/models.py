"""Trained models by id: those that ship and those in the storage. This module loads no torch."""

import logging
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from models.card import model_card
from models.info import INFO_FILE, PRETRAINED, WEIGHTS_FILE, ModelInfo, read_info, validate_name, write_info
from training.config import settings_read
from worker.stores.dataset_records import DatasetRecord, UnknownDataset
from worker.stores.datasets import DatasetRegistry, open_dataset_registry
from worker.stores.ids import Descriptions, free_id, id_of_name, is_id, page_of, slug
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
RESERVED_IDS = ("default", "compare")
"""Names in the place of a model's id in the API's addresses."""
_FIRST_CHOICE = "dsprites"

log = logging.getLogger(__name__)


class UnknownModel(KeyError):
    """There is no model with this id."""

    def __str__(self) -> str:
        return f"There is no model with the id {self.args[0]}."


class ShippedModel(ValueError):
    """The model ships with the service and can be neither changed nor removed."""

    def __str__(self) -> str:
        return f"The model {self.args[0]} ships with the service and cannot be changed."


@dataclass(frozen=True)
class ModelRecord:
    """The registry's entry of a model."""

    id: str
    info: ModelInfo
    shipped: bool


class ModelRegistry:
    """Models by id. A model that ships is read from its folder in the package."""

    def __init__(self, storage: Storage, *, pretrained: Path = PRETRAINED) -> None:
        self.storage = storage
        self.pretrained = pretrained
        self._stored = Descriptions(storage, "models", INFO_FILE, self._listed)

    def records(self) -> list[ModelRecord]:
        """Returns all models that are not damaged: shipped ones first, then stored ones, the newest first."""
        return self.page(None)

    def page(self, limit: int | None, after: str | None = None) -> list[ModelRecord]:
        """Returns one page of the models, in the order of `records`.

        Args:
            limit: Largest number of models; None for all.
            after: Id of the last model of the page before; None for the first page.

        Raises:
            UnknownModel: `after` is not a model.
        """
        try:
            return page_of([model_id for model_id, _ in self._names()], self._record, limit, after)
        except KeyError:
            raise UnknownModel(after) from None

    def info(self, model_id: str) -> ModelInfo:
        """Returns the model's description without fetching its weights.

        Raises:
            UnknownModel: There is no such model.
        """
        return self.record(model_id).info

    def record(self, model_id: str) -> ModelRecord:
        """Returns the model's entry without fetching its weights.

        Raises:
            UnknownModel: There is no such model.
        """
        found = self._record(model_id) if is_id(model_id) else None
        if found is None:
            raise UnknownModel(model_id)
        return found

    def find(self, text: str) -> str:
        """Returns the id of a model that is given by its id or, where no other model has it, by its name.

        Raises:
            UnknownModel: There is no such model.
            AmbiguousName: Several models have the name.
        """
        if self.exists(text):
            return text
        found = id_of_name("models", text, self._names())
        if found is None:
            raise UnknownModel(text)
        return found

    def get(self, model_id: str) -> tuple[ModelInfo, Path]:
        """Returns the model's description and a local folder with its files.

        Raises:
            UnknownModel: There is no such model.
        """
        record = self.record(model_id)
        if record.shipped:
            return record.info, self.pretrained / model_id
        return record.info, self.storage.local_folder(f"models/{model_id}")

    def exists(self, model_id: str) -> bool:
        """Returns whether there is such a model."""
        return is_id(model_id) and (model_id in self._shipped() or self._is_stored(model_id))

    def default_id(self) -> str | None:
        """Returns the model that is used when none is named: the one that was set, else dsprites, else the first."""
        try:
            chosen = str(self.storage.read_json(_DEFAULT)["id"])
            if self.exists(chosen):
                return chosen
        except (NotStored, ValueError, KeyError, TypeError):
            pass
        if self.exists(_FIRST_CHOICE):
            return _FIRST_CHOICE
        records = self.page(1)
        return records[0].id if records else None

    def set_default(self, model_id: str) -> None:
        """Sets the model that is used when none is named.

        Raises:
            UnknownModel: There is no such model.
        """
        self.record(model_id)
        self.storage.write_json(_DEFAULT, {"id": model_id})

    def add(self, folder: Path, id: str | None = None) -> str:
        """Copies a model into the registry.

        Args:
            folder: A folder with model.safetensors and model.json.
            id: Id of the model, which replaces a stored model of the same id; None makes a free id of the name.

        Returns:
            The id.

        Raises:
            ShippedModel: A model that ships has this id.
            ValueError: The folder holds no model, or the id is none.
        """
        info = read_info(folder)
        if not (folder / WEIGHTS_FILE).is_file():
            raise ValueError(f"{folder.name}: {WEIGHTS_FILE} is missing")
        model_id = id or free_id(slug(info.name), lambda one: one in RESERVED_IDS or self.exists(one))
        if not is_id(model_id):
            raise ValueError(f"not a model id: {model_id!r}")
        if model_id in self._shipped():
            raise ShippedModel(model_id)
        self.storage.put_folder(f"models/{model_id}", folder)
        log.info("model %s: registered (%s)", model_id, info.name)
        return model_id

    def update(self, model_id: str, info: ModelInfo) -> None:
        """Replaces the description of a stored model.

        Raises:
            UnknownModel: There is no such model.
            ShippedModel: The model ships with the service.
        """
        if self.record(model_id).shipped:
            raise ShippedModel(model_id)
        folder = Path(tempfile.mkdtemp(prefix="model-"))
        try:
            write_info(folder, info)
            self.storage.put_folder(f"models/{model_id}", folder)
        finally:
            shutil.rmtree(folder)
        if not self.storage.exists(f"models/{model_id}/{WEIGHTS_FILE}"):  # It has just been deleted.
            self.storage.delete(f"models/{model_id}")
            raise UnknownModel(model_id)

    def rename(self, model_id: str, name: str) -> ModelInfo:
        """Gives a stored model another name and returns its description; its id stays.

        Raises:
            UnknownModel: There is no such model.
            ShippedModel: The model ships with the service.
            ConfigError: The name is not allowed.
        """
        info = replace(self.info(model_id), name=validate_name(name))
        self.update(model_id, info)
        return info

    def delete(self, model_id: str) -> None:
        """Removes a stored model.

        Raises:
            UnknownModel: There is no such model.
            ShippedModel: The model ships with the service.
        """
        if self.record(model_id).shipped:
            raise ShippedModel(model_id)
        self.storage.delete(f"models/{model_id}")
        log.info("model %s: deleted", model_id)

    def _names(self) -> list[tuple[str, str]]:
        """Returns the id and the name of each model, in the order of `records`."""
        shipped = {model_id: record.info.name for model_id in self._shipped() if (record := self._record(model_id))}
        newest_first = sorted(self._stored.all().items(), key=lambda one: one[1][0], reverse=True)
        stored = [(model_id, name) for model_id, (_, name) in newest_first if model_id not in shipped]
        return [*shipped.items(), *stored]

    def _listed(self, model_id: str) -> tuple[str, str] | None:
        """Returns when a model was made, and its name."""
        record = self._record(model_id)
        return None if record is None else (record.info.created_at, record.info.name)

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


def card_of(info: ModelInfo) -> str:
    """Returns the card of a model, with the settings that its training read.

    Earlier versions also stored what other objectives would have read.
    """
    return model_card(replace(info, training=settings_read(info.training)))
