"""What a worker process works with, opened once; free of torch."""

import functools
import os
import socket
import threading
from dataclasses import dataclass, field

from worker.jobs.queue import open_job_store
from worker.jobs.store import JobStore
from worker.stores.models import DatasetRegistry, ModelRegistry, open_dataset_registry
from worker.stores.settings import Settings, load_settings
from worker.stores.storage import Storage, open_storage


@dataclass
class Runtime:
    """The services of a worker process."""

    settings: Settings
    storage: Storage
    jobs: JobStore
    models: ModelRegistry
    datasets: DatasetRegistry
    name: str
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when this process was told to stop: what runs hands its job back."""
    packing: threading.Lock = field(default_factory=threading.Lock)
    """Held while this process packs a data set: one at a time, so that rendering keeps a thread."""


def worker_name() -> str:
    """host-pid, as heartbeats and records name a worker."""
    return f"{socket.gethostname()}-{os.getpid()}"


def open_runtime(settings: Settings) -> Runtime:
    """Opens everything; nothing is sent to Redis yet."""
    storage = open_storage(settings.storage, cache_folder=settings.cache_folder)
    return Runtime(
        settings,
        storage,
        open_job_store(settings, storage),
        ModelRegistry(storage),
        open_dataset_registry(settings, storage),
        worker_name(),
    )


@functools.cache
def runtime() -> Runtime:
    """This process's runtime, by the settings of the environment."""
    return open_runtime(load_settings())
