"""The stores and the state of a worker process, opened once. This module loads no torch."""

import functools
import os
import socket
import threading
from dataclasses import dataclass, field

from worker.jobs.queue import open_job_store
from worker.jobs.store import JobStore
from worker.stores.opened import OpenStores, open_stores
from worker.stores.settings import Settings, load_settings
from worker.sweeps.store import SweepStore


@dataclass(frozen=True, kw_only=True)
class Runtime(OpenStores):
    """The stores and the state of a worker process."""

    jobs: JobStore
    name: str
    """The name of the worker, which `worker_name` returns."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """The event is set when this process begins to stop; running work then hands its job back."""
    packing: threading.Lock = field(default_factory=threading.Lock)
    """The lock is held while this process packs a data set, one at a time, so that rendering keeps a thread."""

    @property
    def sweeps(self) -> SweepStore:
        """The sweeps over the jobs."""
        return SweepStore(self.jobs)


def worker_name() -> str:
    """Returns host-pid, the name of this worker in heartbeats and records."""
    return f"{socket.gethostname()}-{os.getpid()}"


def open_runtime(settings: Settings) -> Runtime:
    """Opens everything, without sending anything to Redis yet.

    Raises:
        SettingsError: There is no redis_url.
        ValueError: The storage cannot be opened.
    """
    stores = open_stores(settings)
    return Runtime(**vars(stores), jobs=open_job_store(settings, stores.storage, patient=False), name=worker_name())


@functools.cache
def runtime() -> Runtime:
    """Returns the runtime of this process, opened with the settings of the environment."""
    return open_runtime(load_settings())
