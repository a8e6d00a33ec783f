"""What the routes work with: the stores and limits of one application."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import anyio
from fastapi import Depends, Request

from app.clients import Places, current_client
from app.observability.monitoring import Monitoring
from app.problems import Problem
from worker.jobs import connections
from worker.jobs.clock import Breaker
from worker.jobs.queue import open_job_store
from worker.jobs.shares import Shares
from worker.jobs.store import JobStore
from worker.model_calls import KEPT_SECONDS
from worker.stores.models import UnknownDataset, UnknownModel
from worker.stores.opened import OpenStores, open_stores
from worker.stores.parsing_pool import NUM_DECODERS, ParsingPool
from worker.stores.settings import Settings
from worker.sweeps.store import SweepStore

MAX_WAITERS = 256
"""Requests that may block on Redis at once, each with its own connection; further ones are answered at once."""
MAX_CALLERS = 256
"""Calls of models that may block on Redis at once."""
MAX_STREAMS, MAX_CLIENT_STREAMS = 256, 128
"""Event streams that may be open at once, of all clients and of one."""
MAX_BODIES, MAX_CLIENT_BODIES = 128, 64
"""Bodies that are read into memory at once, of all clients and of one; one takes up to 1 MiB."""
REQUEUEING = ("resume", "finish", "retry")
"""The actions that the limit of a client's unfinished jobs holds for."""
NUM_PARSERS = 2
"""Large JSON bodies that are parsed at once, and answers with pixels that are written; one of 1 MiB takes 30 MB."""


@dataclass(frozen=True, kw_only=True)
class Services(OpenStores):
    """Everything below HTTP that a route may call."""

    redis_url: str
    jobs: JobStore
    shares: Shares
    """Bounds what each client has in flight."""
    monitoring: Monitoring = field(default_factory=Monitoring)
    breaker: Breaker = field(default_factory=Breaker)
    """Refuses calls of Redis while it is silent."""
    pictures: ParsingPool = field(default_factory=ParsingPool)
    """Decodes the pictures of requests."""
    decoding: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(NUM_DECODERS))
    parsing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(NUM_PARSERS))
    importing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    waiters: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MAX_WAITERS))
    """Taken without waiting; a request without a place is answered at once."""
    callers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MAX_CALLERS))
    """Taken without waiting by calls of models, which have no place among the waiters, that traversals fill."""
    streams: Places = field(default_factory=lambda: Places(MAX_STREAMS, MAX_CLIENT_STREAMS))
    """Taken without waiting."""
    bodies: Places = field(default_factory=lambda: Places(MAX_BODIES, MAX_CLIENT_BODIES))

    @property
    def sweeps(self) -> SweepStore:
        """The sweeps over the jobs."""
        return SweepStore(self.jobs)

    def connect_async(self, *, raw: bool = False) -> Any:
        """Opens a new asyncio connection to Redis.

        Args:
            raw: True leaves answers as bytes.
        """
        return connections.connect_async(self.redis_url, decode_responses=not raw)

    def admit(self, kind: str, job_id: str) -> None:
        """Counts a job or a sweep that is about to be queued for the current client.

        Args:
            kind: A key of worker.jobs.shares.WORDS.
            job_id: Id of the job or of the sweep.

        Raises:
            TooManyInFlight: The client has too much unfinished work of the kind.
        """
        self.shares.take(current_client(), kind, job_id, most=self.settings.max_client_jobs)

    def admission(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments with which an action of a job or a sweep counts for the current client.

        Args:
            action: The action. One that puts something into the queue again is refused when the data set or the model
                that it needs is gone.
            request: The request of the job or of the sweep.
        """
        if action not in REQUEUEING:
            return {}

        def admit(kind: str, job_id: str) -> None:
            if dataset := request.get("dataset"):
                self.datasets.get(dataset)
            if model := request.get("model"):
                self.models.record(model)
            self.admit(kind, job_id)

        return {"admit": admit}

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Counts a call of a model for the current client while the block runs.

        Raises:
            TooManyInFlight: The client has too many calls in flight.
        """
        client, call = current_client(), secrets.token_hex(8)
        most, seconds = self.settings.max_client_calls, KEPT_SECONDS
        take = partial(self.shares.take, client, "call", call, most=most, seconds=seconds)
        await anyio.to_thread.run_sync(take)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.shares.leave, client, "call", call)

    def default_model(self) -> str:
        """Returns the id of the model that is used when none is named.

        Raises:
            Problem: There is no model (unknown_model).
        """
        default = self.models.default_id()
        if default is None:
            raise Problem("unknown_model", "There is no model yet: train one, or import one.")
        return default

    def refuse_when_full(self) -> None:
        """Checks that another job may wait.

        Raises:
            Problem: The queues are full (too_many_jobs).
        """
        waiting = self.jobs.counts()["queued"]
        if waiting >= self.settings.max_waiting_jobs:
            raise Problem("too_many_jobs", f"{waiting} jobs are waiting already.", headers={"Retry-After": "30"})


def open_services(settings: Settings) -> Services:
    """Opens everything that the routes work with, without sending anything to Redis yet.

    An empty redis_url stands for the embedded server of the data folder.
    """
    redis_url = settings.redis_url or settings.embedded_redis_url
    stores = open_stores(settings.model_copy(update={"redis_url": redis_url}))
    jobs = open_job_store(stores.settings, stores.storage, patient=False)
    return Services(
        **vars(stores),
        redis_url=redis_url,
        jobs=jobs,
        shares=Shares(jobs.redis),
    )


def get_services(request: Request) -> Services:
    """Returns the services of the application that received a request."""
    services: Services = request.app.state.services
    return services


Services_ = Annotated[Services, Depends(get_services)]


def _model_id(model_id: str, services: Services_) -> str:
    """Returns the id of the model that the path names by id or name; an unknown one is left to the route."""
    try:
        return services.models.find(model_id)
    except UnknownModel:
        return model_id


def _dataset_id(dataset_id: str, services: Services_) -> str:
    """Returns the id of the data set that the path names by id or name; an unknown one is left to the route."""
    try:
        return services.datasets.find(dataset_id)
    except UnknownDataset:
        return dataset_id


ModelId = Annotated[str, Depends(_model_id)]
"""The id of the model in a route's path, where its name may stand as well."""
DatasetId = Annotated[str, Depends(_dataset_id)]
"""The id of the data set in a route's path, where its name may stand as well."""
