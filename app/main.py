"""The HTTP application: its services, its routes, its documentation. Never imports torch."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from app import problems
from app.api import datasets, docs, evaluations, health, model_imports, models, train_jobs, traversals
from app.api.bodies import FORM_OVERHEAD_BYTES
from app.dependencies import Services
from app.monitoring import Monitoring, MonitoringMiddleware
from app.problems import Problem
from app.schemas import TrainJob, Traversal, settings_schema
from app.serve import broker
from models.bundles import MAX_BUNDLE_BYTES
from models.config import ConfigError
from training.config import TrainingConfig
from training.data.images import ImageError
from worker.jobs.queue import Sender, open_job_store
from worker.jobs.store import IdempotencyConflict, JobStoreUnavailable, TransitionRefused, UnknownJob
from worker.stores.models import ModelRegistry, ShippedModel, UnknownDataset, UnknownModel, open_dataset_registry
from worker.stores.settings import PREFIX, Settings, load_settings
from worker.stores.storage import open_storage

MAX_JSON_BYTES = 1024**2
VERSION = "0.1.0"
DESCRIPTION = """
Trains β-VAEs on image sets, and shows what their latent dimensions do.

* **Traversals:** post an image, get animations: `curl -F image=@shape.png -H 'Accept: image/gif' …/traversals`
* **Training:** `POST /train-jobs`, follow `/train-jobs/{id}/events`; a finished job has made a model.
* **Failures** are `application/problem+json` with a stable `code`, whatever failed.
"""
TAGS = [
    {"name": "traversals", "description": "Animations of latent dimensions."},
    {"name": "train jobs", "description": "Trainings, from the queue to a model."},
    {"name": "models", "description": "Trained networks, and calls of them."},
    {"name": "data sets", "description": "What there is to train on."},
    {"name": "operation", "description": "Health and numbers."},
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for these settings, or for those of the environment. Connects to nothing yet."""
    settings = settings or load_settings()
    services = open_services(settings)
    app = FastAPI(
        title="β-VAE service",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.services = services
    app.add_middleware(MonitoringMiddleware, monitoring=services.monitoring)
    image_bytes = settings.max_upload_bytes + FORM_OVERHEAD_BYTES
    dataset_bytes = settings.max_dataset_upload_bytes + FORM_OVERHEAD_BYTES
    limits = {dataset_bytes: f"{PREFIX}MAX_DATASET_UPLOAD_BYTES", image_bytes: f"{PREFIX}MAX_UPLOAD_BYTES"}
    problems.install(app, TRANSLATIONS, limits)
    for module, limit in ((traversals, image_bytes), (models, image_bytes), (train_jobs, MAX_JSON_BYTES),
                          (datasets, MAX_JSON_BYTES), (evaluations, MAX_JSON_BYTES),
                          (health, MAX_JSON_BYTES)):  # fmt: skip
        _include(app, module.router, limit)
    _include(app, train_jobs.upload_router, dataset_bytes)
    _include(app, datasets.upload_router, dataset_bytes)
    _include(app, model_imports.upload_router, MAX_BUNDLE_BYTES + model_imports.MAX_SPEC_BYTES + FORM_OVERHEAD_BYTES)
    docs.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _include(app: FastAPI, router: APIRouter, max_body_bytes: int) -> None:
    # The limit is set here and not at the application: there, its 413 would pass by the middleware that words it.
    app.include_router(router, max_body_size=max_body_bytes)


def open_services(settings: Settings) -> Services:
    """Storage, job store and registries of the settings."""
    redis_url = settings.redis_url or broker.url(broker.socket_path(settings.home / "redis"))
    settings = settings.model_copy(update={"redis_url": redis_url})
    storage = open_storage(settings.storage, cache_folder=settings.cache_folder)
    return Services(
        settings=settings,
        redis_url=redis_url,
        storage=storage,
        jobs=open_job_store(settings, storage, patient=False),
        send_call=Sender(settings).call,
        models=ModelRegistry(storage),
        datasets=open_dataset_registry(settings, storage),
        monitoring=Monitoring(),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Uploads are spooled into the data folder: the system's temporary folder may be in memory."""
    services: Services = app.state.services
    folder = services.settings.temporary_folder
    folder.mkdir(parents=True, exist_ok=True)
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        services.jobs.redis.close()
        services.parsing.close()


def _from_config_error(error: ConfigError) -> Problem:
    return problems.invalid(error.field, error.message)


def _from_image_error(error: ImageError) -> Problem:
    code = error.code if error.code in problems.KINDS else "not_an_image"
    setting = f" ({PREFIX}MAX_IMAGE_PIXELS)" if code == "image_too_large" and "pixels" in error.message else ""
    message = error.message + setting
    return Problem(code, f"image: {message}", [{"field": "image", "message": message}])


TRANSLATIONS: dict[type[Exception], Any] = {
    ConfigError: _from_config_error,
    ImageError: _from_image_error,
    UnknownJob: lambda error: Problem("unknown_job", str(error)),
    UnknownModel: lambda error: Problem("unknown_model", str(error)),
    UnknownDataset: lambda error: Problem("unknown_dataset", str(error)),
    ShippedModel: lambda error: Problem("read_only", str(error)),
    TransitionRefused: lambda error: Problem("transition_refused", str(error)),
    IdempotencyConflict: lambda error: Problem("idempotency_conflict", str(error)),
    JobStoreUnavailable: lambda error: Problem("job_store_unavailable", "The job store does not answer."),
}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The API's description, with the schemas that FastAPI cannot see."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        components = schema["components"]["schemas"]
        components["Problem"] = problems.SCHEMA
        components["TrainingConfig"] = settings_schema(TrainingConfig)
        for model in (Traversal, TrainJob):
            if model.__name__ not in components:
                components[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components.pop("HTTPValidationError", None)
        components.pop("ValidationError", None)
        _use_problems(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _use_problems(schema: dict[str, Any]) -> None:
    """FastAPI documents its own 422 on every route with a parameter; here it is a problem, or cannot happen."""
    for path in schema["paths"].values():
        for operation in path.values():
            answer = operation["responses"].get("422")
            if answer and "HTTPValidationError" in str(answer.get("content", {}).get("application/json", "")):
                entry = problems.responses("invalid_request")[422]
                operation["responses"]["422"] = entry


def __getattr__(name: str) -> Any:
    # `uvicorn app.main:app` finds the application here; importing this module needs no settings.
    if name == "app":
        return create_app()
    raise AttributeError(name)
