"""/models/{id}/evaluations: losses, active dimensions and disentanglement scores of a model on a data set."""

import anyio
from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from app import problems
from app.api.bodies import read_body
from app.api.negotiation import KeyHeader, PreferHeader, check_key, wait_seconds
from app.api.train_jobs import LastEventHeader
from app.api.train_requests import webhook_field
from app.api.waiting import EVENT_ANSWERS, answer_events, wait_until_finished
from app.dependencies import ModelId, Services, Services_
from app.openapi import add_action, request_body
from app.requests import EvaluationRequest
from app.schemas import Evaluation, EvaluationList, respond
from worker.jobs.store import Job, UnknownJob

router = APIRouter(tags=["models"])

MAX_LISTED = 200
_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "Address of the evaluation."},
}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}}}


@router.post(
    "/models/{model_id}/evaluations",
    status_code=202,
    response_model=Evaluation,
    summary="Evaluate a model",
    openapi_extra=request_body(
        {"application/json": EvaluationRequest}, example={"dataset": "dsprites", "metrics": ["mig", "sap"]}
    ),
    responses={
        201: {"description": "Done within Prefer: wait=N.", "model": Evaluation, "headers": _HEADERS},
        202: {"description": "Accepted; ask again at Location.", "headers": {**_HEADERS, **_RETRY}},
        **problems.responses(
            "unknown_model", "unknown_dataset", "in_use", "idempotency_conflict", "upload_too_large",
            "unsupported_media_type", "invalid_request", "too_many_jobs", "too_many_requests", "job_store_unavailable",
        ),
    },
)  # fmt: skip
async def create_evaluation(
    model_id: ModelId,
    request: Request,
    services: Services_,
    idempotency_key: KeyHeader = None,
    prefer: PreferHeader = None,
) -> Response:
    """A training worker computes it, after the trainings that wait already; all scores of a large set take minutes.

    The set is packed to the model's preprocessing. Scores also go into the model's `metrics`, unless it ships.
    `Prefer: wait=N` waits so many seconds (0 by default) for the result.
    """
    check_key(idempotency_key)
    asked = await read_body(request, EvaluationRequest)
    job = await anyio.to_thread.run_sync(_create, services, model_id, asked, idempotency_key)
    job = await wait_until_finished(services, job, wait_seconds(prefer, 0.0))
    resource = describe(job, request)
    headers = {"Location": resource.links["self"], **_retry_after(job)}
    return respond(resource, 201 if job.is_finished else 202, headers)


def _create(services: Services, model_id: str, asked: EvaluationRequest, idempotency_key: str | None) -> Job:
    since = services.jobs.deletions.now()
    record = services.models.record(model_id)
    dataset = asked.dataset or record.info.dataset.get("id")
    if not dataset:
        raise problems.invalid("dataset", "is missing, and the model does not say what it was trained on")
    dataset = services.datasets.find(dataset)
    webhook = webhook_field(services, asked.webhook)
    services.refuse_when_full()
    request = {"model": model_id, "dataset": dataset, "metrics": list(asked.metrics), "seed": asked.seed, **webhook}
    return services.jobs.create(
        "evaluation",
        request,
        name=record.info.name,
        idempotency_key=idempotency_key,
        admit=services.admit,
        since=since,
    )


def describe(job: Job, request: Request) -> Evaluation:
    """Returns an evaluation as the API shows it.

    Args:
        job: The evaluation's job.
        request: The request, for addresses.
    """
    root = str(request.scope.get("root_path", ""))
    model = job.request["model"]
    url = f"{root}/models/{model}/evaluations/{job.id}"
    body = job.to_json()
    kept = ("id", "status", "progress", "attempts", "result", "error", "created_at", "started_at", "finished_at")
    links = {"self": url, "events": f"{url}/events", "model": f"{root}/models/{model}"}
    links |= {action: f"{url}/{action}" for action in ACTIONS}
    asked = {name: job.request[name] for name in ("model", "dataset", "metrics", "seed")}
    return Evaluation(**asked, **{name: body[name] for name in kept}, links=links)


def _retry_after(job: Job) -> dict[str, str]:
    return {} if job.is_finished else {"Retry-After": "1"}


def _get(services: Services, model_id: str, evaluation_id: str) -> Job:
    job = services.jobs.get(evaluation_id)
    if job.kind != "evaluation" or job.request["model"] != model_id:
        raise UnknownJob(evaluation_id)
    return job


@router.get(
    "/models/{model_id}/evaluations",
    response_model_exclude_unset=True,
    summary="A model's evaluations, newest first",
    responses=problems.responses("unknown_model", "job_store_unavailable"),
)
def list_evaluations(model_id: ModelId, request: Request, services: Services_) -> EvaluationList:
    """The list has at most 200 entries."""
    services.models.record(model_id)
    jobs = [job for job in services.jobs.page("evaluation", limit=10_000) if job.request["model"] == model_id]
    return EvaluationList(evaluations=[describe(job, request) for job in jobs[:MAX_LISTED]])


@router.get(
    "/models/{model_id}/evaluations/{evaluation_id}",
    response_model=Evaluation,
    summary="An evaluation",
    responses={
        200: {"headers": _RETRY, "description": "The evaluation; `result` once `status` is `succeeded`."},
        **problems.responses("unknown_job", "job_store_unavailable"),
    },
)
async def get_evaluation(
    model_id: ModelId, evaluation_id: str, request: Request, services: Services_, prefer: PreferHeader = None
) -> Response:
    """The answer has state, progress, and then scores with 95 % intervals. `Prefer: wait=N` waits for the end."""
    job = await anyio.to_thread.run_sync(_get, services, model_id, evaluation_id)
    job = await wait_until_finished(services, job, wait_seconds(prefer, 0.0))
    return respond(describe(job, request), headers=_retry_after(job))


@router.get(
    "/models/{model_id}/evaluations/{evaluation_id}/events",
    summary="An evaluation's events, as they come",
    response_class=EventSourceResponse,
    responses={
        **EVENT_ANSWERS,
        **problems.responses("unknown_job", "too_many_jobs", "job_store_unavailable"),
    },
)
async def stream_evaluation_events(
    model_id: ModelId,
    evaluation_id: str,
    services: Services_,
    last_event_id: LastEventHeader = None,
) -> Response:
    """The stream is like that of a training job; `progress` names the stage."""
    job = await anyio.to_thread.run_sync(_get, services, model_id, evaluation_id)
    return await answer_events(services, job, last_event_id)


ACTIONS = {
    "cancel": "Stops an evaluation: at once if it waits, between two stages or batches if it runs.",
    "retry": "Requeues a failed or cancelled evaluation.",
}


def _add_action(action: str, text: str) -> None:
    def act(model_id: ModelId, evaluation_id: str, request: Request, services: Services_) -> Evaluation:
        job = _get(services, model_id, evaluation_id)
        return describe(getattr(services.jobs, action)(job.id, **services.admission(action, job.request)), request)

    add_action(
        router, "/models/{model_id}/evaluations/{evaluation_id}", act,
        action=action, noun="evaluation", resource="Evaluation", text=text, unknown="unknown_job",
    )  # fmt: skip


for _action, _text in ACTIONS.items():
    _add_action(_action, _text)


@router.delete(
    "/models/{model_id}/evaluations/{evaluation_id}",
    status_code=204,
    summary="Delete a finished evaluation",
    responses=problems.responses("unknown_job", "transition_refused", "job_store_unavailable"),
)
def delete_evaluation(model_id: ModelId, evaluation_id: str, services: Services_) -> None:
    """The evaluation's record is removed; its scores stay in the model."""
    _get(services, model_id, evaluation_id)
    services.jobs.delete(evaluation_id)
