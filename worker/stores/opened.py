"""The settings and everything in the storage, opened once per process. This module loads no torch."""

from dataclasses import dataclass

from worker.stores.datasets import DatasetRegistry, open_dataset_registry
from worker.stores.models import ModelRegistry
from worker.stores.room import Room
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage, Storage, open_storage
from worker.stores.tokens import TokenStore


@dataclass(frozen=True, kw_only=True)
class OpenStores:
    """The base of what the API, a worker and the commands work with; each adds what only it needs."""

    settings: Settings
    storage: Storage
    models: ModelRegistry
    datasets: DatasetRegistry
    tokens: TokenStore
    room: Room
    """The room on the disks of the data folder and of a local storage."""


def open_stores(settings: Settings) -> OpenStores:
    """Opens the storage of the settings and its registries.

    Raises:
        ValueError: The kind of the storage's URL is unknown or its driver is not installed.
    """
    storage = open_storage(settings.storage, cache_folder=settings.cache_folder)
    root, max_bytes = settings.home, None
    if isinstance(storage, LocalStorage):
        root, max_bytes = storage.root, settings.max_storage_bytes
    room = Room(root, home=settings.home, min_free_bytes=settings.min_free_bytes, max_bytes=max_bytes)
    if isinstance(storage, LocalStorage):
        storage.room = room
    return OpenStores(
        settings=settings,
        storage=storage,
        models=ModelRegistry(storage),
        datasets=open_dataset_registry(settings, storage),
        tokens=TokenStore(storage),
        room=room,
    )
