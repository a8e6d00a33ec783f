"""The HTTP application: its services, its routes and the problems of its errors. It never imports torch."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app import guard, openapi, problems
from app.api import (
    datasets,
    docs,
    evaluations,
    health,
    model_comparisons,
    model_imports,
    model_pages,
    models,
    page,
    session,
    train_jobs,
    traversals,
)
from app.api.bodies import FORM_OVERHEAD_BYTES, MAX_FORM_BYTES
from app.api.sweeps import routes as sweeps
from app.authorization import AuthorizationMiddleware
from app.body_limits import MediaTypeLimitMiddleware
from app.deadlines import BodyDeadlineMiddleware, RedisClockMiddleware
from app.dependencies import Services, open_services
from app.headers import SafeHeadersMiddleware
from app.methods import MethodsMiddleware
from app.observability.monitoring import MonitoringMiddleware
from app.observability.request_ids import RequestIdMiddleware
from app.problems import Problem
from app.room import RoomMiddleware
from models.bundles import MAX_BUNDLE_BYTES
from models.config import ConfigError
from training.data.images import ImageError
from worker.jobs.deletions import BeingDeleted, JustDeleted
from worker.jobs.records import (
    IdempotencyConflict,
    JobStoreReadOnly,
    JobStoreUnavailable,
    TransitionRefused,
    UnknownJob,
)
from worker.jobs.shares import TooManyInFlight
from worker.stores.dataset_records import UnknownDataset
from worker.stores.ids import AmbiguousName
from worker.stores.models import ShippedModel, UnknownModel
from worker.stores.room import StorageFull, is_full
from worker.stores.settings import PREFIX, Settings, load_settings
from worker.sweeps.deletions import InUse
from worker.sweeps.records import UnknownSweep

MAX_JSON_BYTES = 1024**2
"""Largest body of every media type but uploads and forms."""
NUM_THREADS = 80
"""Threads that routes may use at once; at most half of them (worker.jobs.clock) wait for Redis."""
VERSION = "0.1.0"
"""A test compares it with pyproject.toml and with the label of the Docker images."""
DESCRIPTION = """
The service trains β-VAEs on image sets and shows what their latent dimensions do.

* **Traversals:** post an image, get animations: `curl -F image=@shape.png -H 'Accept: image/gif' …/traversals`
* **Training:** `POST /train-jobs`, follow `/train-jobs/{id}/events`; a job that succeeds makes a model.
* **Failures** are `application/problem+json` with a stable `code`, whatever failed.
"""
TAGS = [
    {"name": "traversals", "description": "Animations of latent dimensions."},
    {"name": "train jobs", "description": "Training jobs, from the queue to a model."},
    {"name": "sweeps", "description": "Trainings that differ in a few settings, under one name, compared."},
    {"name": "models", "description": "Trained networks: the registry, calls and evaluations."},
    {"name": "data sets", "description": "Sets of images to train on."},
    {"name": "operation", "description": "Health and metrics of the service."},
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Makes the application, which connects to nothing yet.

    Args:
        settings: The settings; None reads those of the environment.
    """
    settings = settings or load_settings()
    services = open_services(settings)
    app = FastAPI(
        title="β-VAE service",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        lifespan=_lifespan,
    )
    app.state.services = services
    _add_middleware(app, services)
    image_bytes = settings.max_upload_bytes + FORM_OVERHEAD_BYTES
    dataset_bytes = settings.max_dataset_upload_bytes + FORM_OVERHEAD_BYTES
    limits = {dataset_bytes: f"{PREFIX}MAX_DATASET_UPLOAD_BYTES", image_bytes: f"{PREFIX}MAX_UPLOAD_BYTES"}
    problems.install(app, TRANSLATIONS, limits)
    app.add_middleware(SafeHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)
    # /models/compare stands before /models/{model_id}, which would take it for a model.
    for module, limit in ((traversals, image_bytes), (model_comparisons, image_bytes), (models, image_bytes),
                          (model_pages, MAX_JSON_BYTES), (train_jobs, MAX_JSON_BYTES), (sweeps, MAX_JSON_BYTES),
                          (datasets, MAX_JSON_BYTES), (evaluations, MAX_JSON_BYTES), (health, MAX_JSON_BYTES),
                          (session, MAX_JSON_BYTES)):  # fmt: skip
        _include(app, module.router, limit)
    _include(app, train_jobs.upload_router, dataset_bytes)
    _include(app, datasets.upload_router, dataset_bytes)
    _include(app, model_imports.upload_router, MAX_BUNDLE_BYTES + model_imports.MAX_SPEC_BYTES + FORM_OVERHEAD_BYTES)
    docs.install(app)
    page.install(app)
    openapi.install(app)
    return app


def _add_middleware(app: FastAPI, services: Services) -> None:
    """What every request goes through, the innermost first; those of create_app come around."""
    settings = services.settings
    uploads = dict.fromkeys(("multipart/form-data", *datasets.RAW_TYPES))
    limits = {**uploads, "application/x-www-form-urlencoded": MAX_FORM_BYTES}
    app.add_middleware(MethodsMiddleware, router=app.router)
    app.add_middleware(RoomMiddleware, room=services.room)
    app.add_middleware(RedisClockMiddleware, breaker=services.breaker)
    app.add_middleware(BodyDeadlineMiddleware)
    app.add_middleware(MediaTypeLimitMiddleware, limits=limits, default=MAX_JSON_BYTES)
    app.add_middleware(AuthorizationMiddleware, tokens=services.tokens)
    if settings.allowed_origin_names:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origin_names,
            allow_methods=guard.CORS_METHODS,
            allow_headers=guard.CORS_REQUEST_HEADERS,
            expose_headers=guard.CORS_ANSWER_HEADERS,
        )
    hosts = guard.allowed_hosts(settings)
    app.add_middleware(guard.GuardMiddleware, hosts=hosts, origins=settings.allowed_origin_names)
    app.add_middleware(MonitoringMiddleware, monitoring=services.monitoring)
    if settings.root_path:
        app.add_middleware(_RootPathMiddleware, root_path=settings.root_path)


class _RootPathMiddleware:
    """Says where a proxy publishes the application; routing takes the path off where the proxy leaves it on."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "root_path": self.root_path}, receive, send)


def _include(app: FastAPI, router: APIRouter, max_body_bytes: int) -> None:
    # An app-wide limit would bypass the middleware that formats the 413.
    app.include_router(router, max_body_size=max_body_bytes)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Lets uploads be spooled into the data folder, since the system's temporary folder may be in memory."""
    services: Services = app.state.services
    folder = services.settings.temporary_folder
    folder.mkdir(parents=True, exist_ok=True)
    anyio.to_thread.current_default_thread_limiter().total_tokens = NUM_THREADS
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        services.jobs.redis.close()
        services.pictures.close()


def _from_config_error(error: ConfigError) -> Problem:
    return problems.invalid(error.field, error.message)


def _from_ambiguous_name(error: AmbiguousName) -> Problem:
    return Problem("ambiguous_name", str(error), [{"field": "id", "message": one} for one in error.candidates])


def _from_image_error(error: ImageError) -> Problem:
    code = error.code if error.code in problems.KINDS else "not_an_image"
    setting = f" ({PREFIX}MAX_IMAGE_PIXELS)" if code == "image_too_large" and "pixels" in error.message else ""
    message = error.message + setting
    return Problem(code, f"image: {message}", [{"field": "image", "message": message}])


def _from_os_error(error: OSError) -> Problem:
    if not is_full(error):
        raise error  # This is a bug, which the server logs.
    return Problem("storage_full", str(error) if isinstance(error, StorageFull) else FULL)


def _from_just_deleted(error: JustDeleted) -> Problem:
    if error.kind == "run":
        return problems.invalid("more_steps", str(error))
    return Problem(f"unknown_{error.kind}", str(error))


FULL = "The disk is full. Delete data sets, models, finished jobs or traversals."

TRANSLATIONS: dict[type[Exception], Any] = {
    ConfigError: _from_config_error,
    OSError: _from_os_error,
    # Nobody reads this answer; without it, the server would log a trace.
    ClientDisconnect: lambda error: Problem("bad_request", "The client has hung up."),
    ImageError: _from_image_error,
    AmbiguousName: _from_ambiguous_name,
    UnknownJob: lambda error: Problem("unknown_job", str(error)),
    UnknownSweep: lambda error: Problem("unknown_sweep", str(error)),
    UnknownModel: lambda error: Problem("unknown_model", str(error)),
    UnknownDataset: lambda error: Problem("unknown_dataset", str(error)),
    ShippedModel: lambda error: Problem("read_only", str(error)),
    TooManyInFlight: lambda error: Problem("too_many_requests", f"{error}."),
    TransitionRefused: lambda error: Problem("transition_refused", str(error)),
    BeingDeleted: lambda error: Problem("in_use", str(error)),
    InUse: lambda error: Problem("in_use", str(error)),
    JustDeleted: _from_just_deleted,
    IdempotencyConflict: lambda error: Problem("idempotency_conflict", str(error)),
    JobStoreUnavailable: lambda error: Problem("job_store_unavailable", "The job store does not answer."),
    JobStoreReadOnly: lambda error: Problem(
        "job_store_unavailable", "The job store (Redis) cannot write its file: its disk is full."
    ),
}


def __getattr__(name: str) -> Any:
    # `uvicorn app.main:app` finds the application here, while importing this module needs no settings.
    if name == "app":
        return create_app()
    raise AttributeError(name)
