"""/models/{id}/evaluations: losses, active dimensions and disentanglement scores of a model on a data set."""

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Request
from sse_starlette import EventSourceResponse
from starlette.responses import JSONResponse, Response

from app import problems
from app.api.bodies import read_json
from app.api.negotiation import wait_seconds
from app.api.train_jobs import EVENT_STREAM, KeyHeader, check_key, event_stream
from app.api.waiting import wait_until_finished
from app.dependencies import Services, Services_
from app.schemas import Evaluation, EvaluationList
from models.config import ConfigError
from training.metrics.names import METRICS, check_metrics
from worker.jobs.store import Job, UnknownJob

router = APIRouter(tags=["models"])

BODY_FIELDS = ("dataset", "metrics", "seed")
MAX_SEED = 2**31 - 1
MAX_LISTED = 200

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "dataset": {"type": "string", "description": "Id of a data set; empty: the model's own."},
                        "metrics": {
                            "type": ["array", "null"],
                            "items": {"type": "string", "enum": list(METRICS)},
                            "description": "Scores to compute; empty: losses alone; left out: all. A set without "
                            "factors gives losses and active dimensions, whatever is asked for.",
                        },
                        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 0},
                    },
                },
                "example": {"dataset": "dsprites", "metrics": ["mig", "sap"]},
            }
        },
    }
}
_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "Address of the evaluation."},
}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}}}


@router.post(
    "/models/{model_id}/evaluations",
    status_code=202,
    response_model=Evaluation,
    summary="Evaluate a model",
    openapi_extra=_BODY,
    responses={
        201: {"description": "Done within Prefer: wait=N.", "model": Evaluation, "headers": _HEADERS},
        202: {"description": "Accepted; ask again at Location.", "headers": {**_HEADERS, **_RETRY}},
        **problems.responses(
            "unknown_model", "unknown_dataset", "idempotency_conflict", "upload_too_large", "unsupported_media_type",
            "invalid_request", "too_many_jobs", "job_store_unavailable",
        ),
    },
)  # fmt: skip
async def create_evaluation(
    model_id: str, request: Request, services: Services_, idempotency_key: KeyHeader = None
) -> Response:
    """A training worker computes it: minutes for all scores of a large set, and it waits behind trainings.

    The set is packed as the model wants its images. Scores also go into the model's `metrics`, unless it ships.
    `Prefer: wait=N` waits so many seconds (0) for the result.
    """
    check_key(idempotency_key)
    body = await read_json(request)
    job = await anyio.to_thread.run_sync(_create, services, model_id, body, idempotency_key)
    job = await wait_until_finished(services, job, wait_seconds(request.headers.get("prefer"), 0.0))
    resource = describe(job, request)
    headers = {"Location": resource["links"]["self"], **_retry_after(job)}
    return JSONResponse(resource, 201 if job.is_finished else 202, headers)


def _create(services: Services, model_id: str, body: dict[str, Any], idempotency_key: str | None) -> Job:
    record = services.models.record(model_id)
    for name in body:
        if name not in BODY_FIELDS:
            raise problems.invalid(name[:100], f"is no field of an evaluation; it has {', '.join(BODY_FIELDS)}")
    dataset = body.get("dataset") or record.info.dataset.get("id")
    if not dataset:
        raise problems.invalid("dataset", "is missing, and the model does not say what it was trained on")
    if not isinstance(dataset, str):
        raise problems.invalid("dataset", "must be a text")
    seed = body.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise problems.invalid("seed", f"must be a whole number from 0 to {MAX_SEED}")
    metrics = body.get("metrics")
    if isinstance(metrics, bool):
        raise problems.invalid("metrics", f"must be a list of scores out of {', '.join(METRICS)}")
    try:
        wanted = check_metrics(metrics)
    except ConfigError as error:
        raise problems.invalid(error.field, error.message) from None
    services.datasets.get(dataset)
    services.refuse_when_full()
    asked = {"model": model_id, "dataset": dataset, "metrics": list(wanted), "seed": seed}
    return services.jobs.create("evaluation", asked, name=record.info.name, idempotency_key=idempotency_key)


def describe(job: Job, request: Request) -> dict[str, Any]:
    """An evaluation as the API shows it."""
    root = str(request.scope.get("root_path", ""))
    model = job.request["model"]
    url = f"{root}/models/{model}/evaluations/{job.id}"
    body = job.to_json()
    kept = ("id", "status", "progress", "attempts", "result", "error", "created_at", "started_at", "finished_at")
    return {
        **job.request,
        **{name: body[name] for name in kept},
        "links": {
            "self": url,
            "events": f"{url}/events",
            "model": f"{root}/models/{model}",
            **{action: f"{url}/{action}" for action in ACTIONS},
        },
    }


def _retry_after(job: Job) -> dict[str, str]:
    return {} if job.is_finished else {"Retry-After": "1"}


def _get(services: Services, model_id: str, evaluation_id: str) -> Job:
    job = services.jobs.get(evaluation_id)
    if job.kind != "evaluation" or job.request["model"] != model_id:
        raise UnknownJob(evaluation_id)
    return job


@router.get(
    "/models/{model_id}/evaluations",
    response_model=EvaluationList,
    summary="A model's evaluations, newest first",
    responses=problems.responses("unknown_model", "job_store_unavailable"),
)
def list_evaluations(model_id: str, request: Request, services: Services_) -> Response:
    """The newest 200."""
    services.models.record(model_id)
    jobs = [job for job in services.jobs.page("evaluation", limit=10_000) if job.request["model"] == model_id]
    return JSONResponse({"evaluations": [describe(job, request) for job in jobs[:MAX_LISTED]]})


@router.get(
    "/models/{model_id}/evaluations/{evaluation_id}",
    response_model=Evaluation,
    summary="An evaluation",
    responses={
        200: {"headers": _RETRY, "description": "The evaluation; `result` once `status` is `succeeded`."},
        **problems.responses("unknown_job", "job_store_unavailable"),
    },
)
async def get_evaluation(model_id: str, evaluation_id: str, request: Request, services: Services_) -> Response:
    """State, progress, and then scores with their 95 % intervals. `Prefer: wait=N` waits for the end."""
    job = await anyio.to_thread.run_sync(_get, services, model_id, evaluation_id)
    job = await wait_until_finished(services, job, wait_seconds(request.headers.get("prefer"), 0.0))
    return JSONResponse(describe(job, request), headers=_retry_after(job))


@router.get(
    "/models/{model_id}/evaluations/{evaluation_id}/events",
    summary="An evaluation's events, as they come",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "Server-sent events.", "content": EVENT_STREAM},
        **problems.responses("unknown_job", "too_many_jobs", "job_store_unavailable"),
    },
)
async def stream_evaluation_events(
    model_id: str,
    evaluation_id: str,
    services: Services_,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", description="Go on after this event.")] = None,
) -> Response:
    """As those of a training job; `progress` names the stage."""
    job = await anyio.to_thread.run_sync(_get, services, model_id, evaluation_id)
    return event_stream(services, job, last_event_id)


ACTIONS = {
    "cancel": "Stop an evaluation: at once where it waits, between two stages or batches where it runs.",
    "retry": "Put a failed or cancelled evaluation back into the queue.",
}


def _add_action(action: str, text: str) -> None:
    def act(model_id: str, evaluation_id: str, request: Request, services: Services_) -> Response:
        _get(services, model_id, evaluation_id)
        return JSONResponse(describe(getattr(services.jobs, action)(evaluation_id), request))

    router.add_api_route(
        f"/models/{{model_id}}/evaluations/{{evaluation_id}}/{action}",
        act,
        methods=["POST"],
        response_model=Evaluation,
        summary=f"{action.capitalize()} an evaluation",
        description=f"{text} Refused (409) where its state does not allow it.",
        operation_id=f"{action}_evaluation",
        responses=problems.responses("unknown_job", "transition_refused", "job_store_unavailable"),
    )


for _action, _text in ACTIONS.items():
    _add_action(_action, _text)


@router.delete(
    "/models/{model_id}/evaluations/{evaluation_id}",
    status_code=204,
    summary="Delete a finished evaluation",
    responses=problems.responses("unknown_job", "transition_refused", "job_store_unavailable"),
)
def delete_evaluation(model_id: str, evaluation_id: str, services: Services_) -> None:
    """Removes its record; scores stay in the model."""
    _get(services, model_id, evaluation_id)
    services.jobs.delete(evaluation_id)
