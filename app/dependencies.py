"""What the routes work with: the services of the layer below, opened once an application."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
from fastapi import Depends, Request

from app.monitoring import Monitoring
from app.problems import Problem
from worker.jobs import connections
from worker.jobs.store import JobStore
from worker.stores.models import DatasetRegistry, ModelRegistry
from worker.stores.parsing_pool import NUM_DECODERS, ParsingPool
from worker.stores.settings import Settings
from worker.stores.storage import Storage

MAX_WAITERS = 256
"""Requests that may block on Redis at once, each with a connection of its own; more are answered at once."""
MAX_STREAMS = 256


class Slots:
    """A counted number of places."""

    def __init__(self, num: int) -> None:
        self._free = num
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes a place; False when there is none."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._free += 1


@dataclass(frozen=True)
class Services:
    """Everything below HTTP that a route may call."""

    settings: Settings
    redis_url: str
    storage: Storage
    jobs: JobStore
    send_call: Callable[[str], None]
    models: ModelRegistry
    datasets: DatasetRegistry
    monitoring: Monitoring
    parsing: ParsingPool = field(default_factory=ParsingPool)
    decoding: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(NUM_DECODERS))
    importing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    waiters: Slots = field(default_factory=lambda: Slots(MAX_WAITERS))
    streams: Slots = field(default_factory=lambda: Slots(MAX_STREAMS))

    def connect_async(self, *, raw: bool = False) -> Any:
        """A new asyncio connection to Redis. Args: raw, whether answers stay bytes."""
        return connections.connect_async(self.redis_url, decode_responses=not raw)

    def default_model(self) -> str:
        """The id of the model that is used when none is named. Raises Problem unknown_model."""
        default = self.models.default_id()
        if default is None:
            raise Problem("unknown_model", "There is no model yet: train one, or import one.")
        return default

    def refuse_when_full(self) -> None:
        """Raises Problem too_many_jobs when no more jobs may wait."""
        waiting = self.jobs.counts()["queued"]
        if waiting >= self.settings.max_waiting_jobs:
            raise Problem("too_many_jobs", f"{waiting} jobs are waiting already.", headers={"Retry-After": "30"})


def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Services_ = Annotated[Services, Depends(get_services)]
