"""/train-jobs: accept, follow and steer trainings."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import JSONResponse, Response

from app import problems
from app.api.bodies import Form, media_type, parse_json, parse_json_object, read_form, read_json
from app.api.dataset_uploads import check_filename, store_dataset_upload
from app.api.negotiation import bytes_response
from app.api.waiting import async_redis
from app.dependencies import Services, Services_
from app.problems import Problem
from app.schemas import TrainJob, TrainJobList
from models.config import ConfigError
from models.info import validate_name
from training.config import check_initial_network, config_from_json, config_to_json, with_channels
from training.metrics.names import METRICS, check_metrics
from training.presets import PRESETS, resolve
from worker.jobs.events import follow_events
from worker.jobs.store import STATES, Event, Job, UnknownJob
from worker.stores.models import UnknownDataset, slug
from worker.stores.storage import NotStored

router = APIRouter(tags=["train jobs"])
upload_router = APIRouter(tags=["train jobs"])

MAX_KEY_LENGTH = 200
BODY_FIELDS = {"name", "dataset", "preset", "config", "from", "evaluate"}
_FROM = (
    "Id of a model whose weights the run starts with; its network must be the same. Step and optimizer begin anew, "
    "C at the model's KL: this is no resuming."
)

_BODY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "description": "Name of the job and of the model; empty: the data set's."},
        "dataset": {"type": "string", "description": "Id of a data set; empty: the one that the preset was made for."},
        "preset": {"type": ["string", "null"], "enum": [*PRESETS, None], "description": "Settings to start from."},
        "config": {"$ref": "#/components/schemas/TrainingConfig"},
        "from": {"type": ["string", "null"], "description": _FROM},
        "evaluate": {
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "enum": list(METRICS)}}],
            "description": "Scores to compute when the training is done: true for all, or a list. They go into the "
            "job's `result` and the model's `metrics`.",
            "default": False,
        },
    },
}
_EXAMPLES = {
    "preset": {"summary": "A preset", "value": {"name": "shapes", "dataset": "dsprites", "preset": "dsprites"}},
    "own": {
        "summary": "Own settings",
        "value": {
            "name": "shapes beta 4",
            "dataset": "dsprites",
            "preset": None,
            "config": {"objective": "beta", "beta": 4.0, "num_steps": 20000, "latent_dim": 10, "seed": 1},
            "evaluate": ["mig", "sap"],
        },
    },
}
_FORM = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "preset": {"type": "string", "enum": list(PRESETS)},
        "config": {"type": "string", "description": "As in JSON, written as JSON text."},
        "from": {"type": "string", "description": _FROM},
        "evaluate": {"type": "string", "description": 'As in JSON, written as JSON text: true, or ["mig"].'},
        "file": {"type": "string", "format": "binary", "description": "A zip of images."},
    },
}
_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _BODY, "examples": _EXAMPLES},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}
KeyHeader = Annotated[
    str | None, Header(alias="Idempotency-Key", description="Repeat a request with its key, and get the first answer.")
]


@upload_router.post(
    "/train-jobs",
    status_code=202,
    response_model=TrainJob,
    summary="Train a model",
    openapi_extra=_REQUEST_BODY,
    responses=problems.responses(
        "bad_request", "unknown_dataset", "unknown_model", "idempotency_conflict", "upload_too_large",
        "unsupported_media_type", "invalid_request", "invalid_dataset", "too_many_jobs", "job_store_unavailable",
        "storage_full",
    ),
)  # fmt: skip
async def create_train_job(request: Request, services: Services_, idempotency_key: KeyHeader = None) -> Response:
    """Train on a data set that is here (JSON), or on a zip of images that comes along (multipart)."""
    check_key(idempotency_key)
    if media_type(request) == "multipart/form-data":
        async with read_form(request, BODY_FIELDS - {"dataset"}, {"file"}) as form:
            if "file" not in form.files:
                raise problems.invalid("file", "is missing: a zip of images")
            job = await anyio.to_thread.run_sync(_create_one_shot, services, form, idempotency_key)
    else:
        body = await read_json(request)
        job = await anyio.to_thread.run_sync(_create, services, body, idempotency_key)
    resource = describe(job, request)
    return JSONResponse(resource, 202, {"Location": resource["links"]["self"]})


def check_key(idempotency_key: str | None) -> None:
    """Raises Problem for a key that is empty or long."""
    if idempotency_key is not None and not (0 < len(idempotency_key) <= MAX_KEY_LENGTH):
        raise problems.invalid("Idempotency-Key", f"must have 1 to {MAX_KEY_LENGTH} characters")


def _read_body(body: dict[str, Any]) -> dict[str, Any]:
    """name, dataset, preset and config, checked. Raises Problem that names the field."""
    for name in body:
        if name not in BODY_FIELDS:
            raise problems.invalid(
                name[:100], f"is no field of a training job; it has {', '.join(sorted(BODY_FIELDS))}"
            )
    for name in ("name", "dataset", "preset", "from"):
        if body.get(name) is not None and not isinstance(body[name], str):
            raise problems.invalid(name, "must be a text")
    overrides = body.get("config") or {}
    if not isinstance(overrides, dict):
        raise problems.invalid("config", "must be a JSON object")
    preset = body.get("preset")
    try:
        metrics = check_metrics(False if body.get("evaluate") is None else body["evaluate"], "evaluate")
        config = resolve(preset, overrides, from_model=bool(body.get("from")))
    except ConfigError as error:
        field = error.field if error.field in ("preset", "evaluate") else f"config.{error.field}"
        raise problems.invalid(field, error.message) from None
    dataset = body.get("dataset") or (PRESETS[preset].dataset if preset else None)
    name = (body.get("name") or "").strip()
    return {
        "name": validate_name(name) if name else "",
        "dataset": dataset,
        "preset": preset,
        "config": config_to_json(config),
        "from": body.get("from") or None,
        "evaluate": list(metrics),
    }


def _create(services: Services, body: dict[str, Any], idempotency_key: str | None) -> Job:
    asked = _read_body(body)
    if not asked["dataset"]:
        raise problems.invalid("dataset", "is missing")
    record = services.datasets.get(asked["dataset"])
    if asked["from"]:
        network = services.models.info(asked["from"]).network
        config = with_channels(config_from_json(asked["config"]), network.num_channels)
        check_initial_network(config, network)
        asked["config"] = config_to_json(config)
    name = asked.pop("name") or record.name
    services.refuse_when_full()
    return services.jobs.create("train", asked, name=name, idempotency_key=idempotency_key)


def _create_one_shot(services: Services, form: Form, idempotency_key: str | None) -> Job:
    """Stores the images that came along as a data set, and trains on it. The same images are stored once."""
    body: dict[str, Any] = {name: value for name, value in form.values.items() if value}
    if "config" in body:
        body["config"] = parse_json_object(body["config"], "config")
    if "evaluate" in body:
        body["evaluate"] = parse_json(body["evaluate"], "evaluate")
    asked = _read_body(body)
    services.refuse_when_full()
    file = form.files["file"]
    filename = check_filename(file.filename)
    digest = hashlib.file_digest(file.file, "sha256").hexdigest()  # type: ignore[arg-type]
    dataset = f"{(asked['name'] or 'upload')[:40].strip()} {digest[:12]}"
    try:
        record = services.datasets.get(slug(dataset))
        is_new = False
    except UnknownDataset:
        record = store_dataset_upload(services, dataset, file.file, filename)
        is_new = True
    try:
        return _create(services, {**body, "dataset": record.id}, idempotency_key)
    except Exception:
        if is_new:
            services.datasets.delete(record.id)
        raise


def describe(job: Job, request: Request) -> dict[str, Any]:
    """A training job as the API shows it."""
    root = str(request.scope.get("root_path", ""))
    url = f"{root}/train-jobs/{job.id}"
    links = {"self": url}
    links |= {name: f"{url}/{name}" for name in ("events", "metrics", "previews", *ACTIONS)}
    if job.model:
        links |= {"training_gif": f"{url}/training.gif", "capacity_png": f"{url}/capacity.png"}
        links["model"] = f"{root}/models/{job.model}"
    body = job.to_json()
    request_body = body.pop("request")
    for name in ("dataset", "preset", "config", "from"):
        body[name] = request_body.get(name)
    body["evaluate"] = request_body.get("evaluate", [])
    return {**body, "links": links}


def _get(services: Services, job_id: str) -> Job:
    job = services.jobs.get(job_id)
    if job.kind != "train":
        raise UnknownJob(job_id)
    return job


@router.get(
    "/train-jobs",
    response_model=TrainJobList,
    summary="Training jobs, newest first",
    responses=problems.responses("unknown_job", "invalid_request", "job_store_unavailable"),
)
def list_train_jobs(
    request: Request,
    services: Services_,
    status: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before.", max_length=128)] = None,
) -> Response:
    """One page; `next` is null on the last."""
    if status is not None and status not in STATES:
        raise problems.invalid("status", f"must be one of {', '.join(STATES)}")
    jobs = services.jobs.page("train", status, limit + 1, after)
    page = jobs[:limit]
    following = page[-1].id if len(jobs) > limit else None
    return JSONResponse({"jobs": [describe(job, request) for job in page], "next": following})


@router.get(
    "/train-jobs/{job_id}",
    response_model=TrainJob,
    summary="A training job",
    responses=problems.responses("unknown_job", "job_store_unavailable"),
)
def get_train_job(job_id: str, request: Request, services: Services_) -> Response:
    """State, progress, newest losses in nats, attempts, and the model once there is one."""
    return JSONResponse(describe(_get(services, job_id), request))


EVENT_STREAM = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": (
            "id: 1700000000000-0\nevent: progress\n"
            'data: {"progress": {"step": 50, "num_steps": 20000}, "metrics": {"kl": 1.2}, "status": "running"}\n\n'
        ),
    }
}


@router.get(
    "/train-jobs/{job_id}/events",
    summary="A job's events, as they come",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "Server-sent events.", "content": EVENT_STREAM},
        **problems.responses("unknown_job", "too_many_jobs", "job_store_unavailable"),
    },
)
async def stream_events(
    job_id: str,
    services: Services_,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="Go on after this event; without it, from the first.")
    ] = None,
) -> Response:
    """From the beginning of a durable log, or after `Last-Event-ID`; ends with the event that ends the job."""
    job = await anyio.to_thread.run_sync(_get, services, job_id)
    return event_stream(services, job, last_event_id)


def event_stream(services: Services, job: Job, last_event_id: str | None) -> Response:
    """A job's log as server-sent events. Raises Problem when too many are open."""
    place = object()
    try:
        services.streams.acquire_on_behalf_of_nowait(place)
    except anyio.WouldBlock:
        raise Problem("too_many_jobs", "Too many event streams are open.") from None
    return EventSourceResponse(_events(services, job.id, last_event_id, place), ping=15, sep="\n")


async def _events(services: Services, job_id: str, after: str | None, place: object) -> AsyncIterator[ServerSentEvent]:
    try:
        async with async_redis(services) as client:
            async for event in follow_events(client, services.jobs, job_id, after):
                if event is not None:
                    yield _server_sent(event)
    finally:
        services.streams.release_on_behalf_of(place)


def _server_sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(event.data, ensure_ascii=False), event=event.type, id=event.id, sep="\n")


@router.get(
    "/train-jobs/{job_id}/metrics",
    summary="All recorded numbers of a job",
    response_class=Response,
    responses={
        200: {"description": "JSON lines, one a record.", "content": {"application/x-ndjson": {}}},
        **problems.responses("unknown_job", "job_store_unavailable"),
    },
)
def get_metrics(job_id: str, request: Request, services: Services_) -> Response:
    """JSON lines: losses in nats, KL per dimension, capacity, β, learning rate; empty before the first record."""
    job = _get(services, job_id)
    try:
        data = services.storage.read_bytes(f"jobs/{job.id}/metrics.jsonl")
    except NotStored:
        data = b""
    return bytes_response(request, data, "application/x-ndjson", immutable=False)


@router.get(
    "/train-jobs/{job_id}/previews",
    summary="Pictures made on the way",
    responses=problems.responses("unknown_job", "job_store_unavailable"),
)
def list_previews(job_id: str, request: Request, services: Services_) -> dict[str, Any]:
    """Addresses, oldest first."""
    job = _get(services, job_id)
    url = f"{request.scope.get('root_path', '')}/train-jobs/{job.id}/previews"
    return {"previews": [f"{url}/{name}" for name in _previews(services, job)]}


def _previews(services: Services, job: Job) -> list[str]:
    return [name for name in services.storage.list(f"jobs/{job.id}/previews") if name.endswith(".png")]


@router.get(
    "/train-jobs/{job_id}/previews/{name}",
    summary="One preview",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": {"image/png": {}}},
        **problems.responses("unknown_job", "unknown_file", "range_not_satisfiable", "job_store_unavailable"),
    },
)
def get_preview(job_id: str, name: str, request: Request, services: Services_) -> Response:
    """Reconstructions and traversals at one step."""
    job = _get(services, job_id)
    if name not in _previews(services, job):
        raise Problem("unknown_file", f"The job has no preview {name[:64]}.")
    return bytes_response(request, services.storage.read_bytes(f"jobs/{job.id}/previews/{name}"), "image/png")


def _figure_responses(media: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"description": "The picture.", "content": {media: {}}},
        **problems.responses("unknown_job", "unknown_file", "range_not_satisfiable", "job_store_unavailable"),
    }


@router.get(
    "/train-jobs/{job_id}/training.gif",
    summary="The previews as an animation",
    response_class=Response,
    responses=_figure_responses("image/gif"),
)
def get_training_gif(job_id: str, request: Request, services: Services_) -> Response:
    """What the network had learnt when; there when the training is done."""
    return _figure(services, job_id, request, "training.gif", "image/gif")


@router.get(
    "/train-jobs/{job_id}/capacity.png",
    summary="KL per dimension against C",
    response_class=Response,
    responses=_figure_responses("image/png"),
)
def get_capacity_figure(job_id: str, request: Request, services: Services_) -> Response:
    """The figure of Burgess et al. 2018, of the step too; there when the training is done."""
    return _figure(services, job_id, request, "capacity.png", "image/png")


def _figure(services: Services, job_id: str, request: Request, name: str, media: str) -> Response:
    job = _get(services, job_id)
    try:
        data = services.storage.read_bytes(f"jobs/{job.id}/{name}")
    except NotStored:
        raise Problem("unknown_file", f"The job has no {name}; a training makes it at its end.") from None
    return bytes_response(request, data, media, immutable=False)


ACTIONS = {
    "cancel": "Stop a job: at once where it waits, within a step where it runs.",
    "pause": "Stop a running job after a checkpoint, until it is resumed.",
    "resume": "Put a paused job back into the queue; it goes on from its checkpoint.",
    "retry": "Put a failed or cancelled job back into the queue.",
}


def _add_action(action: str, text: str) -> None:
    def act(job_id: str, request: Request, services: Services_) -> Response:
        _get(services, job_id)
        job = getattr(services.jobs, action)(job_id)
        return JSONResponse(describe(job, request))

    router.add_api_route(
        f"/train-jobs/{{job_id}}/{action}",
        act,
        methods=["POST"],
        response_model=TrainJob,
        summary=f"{action.capitalize()} a job",
        description=f"{text} Refused (409) where the job's state does not allow it.",
        operation_id=f"{action}_train_job",
        responses=problems.responses("unknown_job", "transition_refused", "job_store_unavailable"),
    )


for _action, _text in ACTIONS.items():
    _add_action(_action, _text)


@router.delete(
    "/train-jobs/{job_id}",
    status_code=204,
    summary="Delete a finished job",
    responses=problems.responses("unknown_job", "transition_refused", "job_store_unavailable"),
)
def delete_train_job(job_id: str, services: Services_) -> None:
    """Removes its record, checkpoints and previews; the model that it made stays."""
    _get(services, job_id)
    services.jobs.delete(job_id)
