"""/train-jobs: training jobs are accepted, followed and steered."""

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from app import problems
from app.api.bodies import media_type, read_body, read_form
from app.api.negotiation import KeyHeader, PageAfter, PageSize, bytes_response, check_key, cut_page
from app.api.train_requests import create_job, create_one_shot, estimate_job
from app.api.waiting import EVENT_ANSWERS, answer_events
from app.dependencies import Services, Services_, get_services
from app.openapi import add_action, binary_content, request_body
from app.problems import Problem
from app.requests import TrainJobForm, TrainJobRequest
from app.schemas import Estimate, PreviewList, TrainJob, TrainJobList, respond
from models.web_weights import DECODER_FILE
from worker.jobs.lengths import job_config
from worker.jobs.store import STATES, Job
from worker.stores.ids import slug
from worker.stores.storage import NotStored
from worker.sweeps.deletions import deletion

router = APIRouter(tags=["train jobs"])
upload_router = APIRouter(tags=["train jobs"])

_EXAMPLES = {
    "preset": {"summary": "A preset", "value": {"name": "shapes", "dataset": "dsprites", "preset": "dsprites"}},
    "minutes": {"summary": "A budget of time", "value": {"dataset": "dsprites", "minutes": 5}},
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
LastEventHeader = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Continue after this event; without it, from the first.")
]


@upload_router.post(
    "/train-jobs",
    status_code=202,
    response_model=TrainJob,
    summary="Train a model",
    openapi_extra=request_body(
        {"application/json": TrainJobRequest, "multipart/form-data": TrainJobForm}, examples=_EXAMPLES
    ),
    responses=problems.responses(
        "bad_request", "unknown_dataset", "unknown_model", "in_use", "idempotency_conflict", "upload_too_large",
        "unsupported_media_type", "invalid_request", "invalid_dataset", "too_many_jobs",
        "too_many_requests", "job_store_unavailable", "storage_full",
    ),
)  # fmt: skip
async def create_train_job(request: Request, services: Services_, idempotency_key: KeyHeader = None) -> Response:
    """Send JSON to train on a data set of the service, or a form with a zip of images to train on."""
    check_key(idempotency_key)
    if media_type(request) == "multipart/form-data":
        async with read_form(request, TrainJobForm) as form:
            job = await anyio.to_thread.run_sync(create_one_shot, services, form, idempotency_key)
    else:
        asked = await read_body(request, TrainJobRequest)
        job = await anyio.to_thread.run_sync(create_job, services, asked, idempotency_key)
    resource = describe(job, request)
    return respond(resource, 202, {"Location": resource.links["self"]})


@router.post(
    "/train-jobs/estimate",
    response_model=Estimate,
    summary="How long a training would take",
    operation_id="estimateTrainJob",
    openapi_extra=request_body({"application/json": TrainJobRequest}, examples=_EXAMPLES),
    responses=problems.responses(
        "bad_request", "unknown_dataset", "unknown_model", "upload_too_large", "unsupported_media_type",
        "invalid_request", "job_store_unavailable",
    ),
)  # fmt: skip
async def estimate_train_job(request: Request, services: Services_) -> Estimate:
    """The answer is the `estimate` that `POST /train-jobs` with the same body would give its job; none is made."""
    asked = await read_body(request, TrainJobRequest)
    return Estimate(**await anyio.to_thread.run_sync(estimate_job, services, asked))


def describe(job: Job, request: Request) -> TrainJob:
    """Returns a training job as the API shows it.

    Args:
        job: The job.
        request: The request, for addresses.
    """
    root = str(request.scope.get("root_path", ""))
    url = f"{root}/train-jobs/{job.id}"
    links = {"self": url}
    links |= {name: f"{url}/{name}" for name in ("events", "metrics", "previews", *ACTIONS)}
    storage = get_services(request).storage
    for name in ("training.gif", "capacity.png"):
        if storage.exists(f"jobs/{job.id}/{name}"):
            links[name.replace(".", "_")] = f"{url}/{name}"
    if job.model:
        links["model"] = f"{root}/models/{job.model}"
    body = job.to_json()
    asked = body.pop("request")
    body |= {name: asked.get(name) for name in ("dataset", "preset", "from", "extend_to")}
    # The address of the data folder stays the operator's own.
    body["tensorboard"] = f"tensorboard --logdir_spec {slug(job.name)}:jobs/{job.id}/tensorboard"
    if asked.get("sweep"):
        body["sweep"] = asked["sweep"]
        links["sweep"] = f"{root}/sweeps/{asked['sweep']['id']}"
    body |= {"config": job_config(job), "minutes": (asked.get("length") or {}).get("minutes")}
    return TrainJob(**body, evaluate=asked.get("evaluate", []), links=links)


def _get(services: Services, job_id: str) -> Job:
    return services.jobs.find("train", job_id)


@router.get(
    "/train-jobs",
    response_model_exclude_unset=True,
    summary="Training jobs, newest first",
    responses=problems.responses("unknown_job", "invalid_request", "job_store_unavailable"),
)
def list_train_jobs(
    request: Request,
    services: Services_,
    status: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
    limit: PageSize = 50,
    after: PageAfter = None,
) -> TrainJobList:
    """The answer is one page of jobs; `next` is null on the last page."""
    if status is not None and status not in STATES:
        raise problems.invalid("status", f"must be one of {', '.join(STATES)}")
    page, following = cut_page(services.jobs.page("train", status, limit + 1, after), limit)
    return TrainJobList(jobs=[describe(job, request) for job in page], next=following)


@router.get(
    "/train-jobs/{job_id}",
    response_model_exclude_unset=True,
    summary="A training job",
    responses=problems.responses("unknown_job", "job_store_unavailable"),
)
def get_train_job(job_id: str, request: Request, services: Services_) -> TrainJob:
    """The answer has state, progress, newest losses in nats, attempts, and the model once there is one."""
    return describe(_get(services, job_id), request)


@router.get(
    "/train-jobs/{job_id}/events",
    summary="A job's events, as they happen",
    response_class=EventSourceResponse,
    responses={
        **EVENT_ANSWERS,
        **problems.responses("unknown_job", "too_many_jobs", "job_store_unavailable"),
    },
)
async def stream_train_job_events(
    job_id: str,
    services: Services_,
    last_event_id: LastEventHeader = None,
) -> Response:
    """The stream repeats a durable log from its beginning, or after `Last-Event-ID`; it ends when the job ends."""
    job = await anyio.to_thread.run_sync(_get, services, job_id)
    return await answer_events(services, job, last_event_id)


@router.get(
    "/train-jobs/{job_id}/metrics",
    summary="All recorded numbers of a job",
    response_class=Response,
    responses={
        200: {"description": "JSON lines, one a record.", "content": binary_content("application/x-ndjson")},
        **problems.responses("unknown_job", "job_store_unavailable"),
    },
)
def get_train_job_metrics(job_id: str, request: Request, services: Services_) -> Response:
    """Each JSON line has losses in nats, KL per dimension, capacity, β and learning rate; at first there is none."""
    job = _get(services, job_id)
    try:
        data = services.storage.read_bytes(f"jobs/{job.id}/metrics.jsonl")
    except NotStored:
        data = b""
    return bytes_response(request, data, "application/x-ndjson", immutable=False)


@router.get(
    "/train-jobs/{job_id}/previews",
    summary="Previews of a job",
    response_model_exclude_unset=True,
    responses=problems.responses("unknown_job", "job_store_unavailable"),
)
def list_train_job_previews(job_id: str, request: Request, services: Services_) -> PreviewList:
    """The addresses of the previews are listed, oldest first."""
    job = _get(services, job_id)
    url = f"{request.scope.get('root_path', '')}/train-jobs/{job.id}/previews"
    return PreviewList(previews=[f"{url}/{name}" for name in _previews(services, job)])


def _previews(services: Services, job: Job) -> list[str]:
    return [name for name in services.storage.list(f"jobs/{job.id}/previews") if name.endswith(".png")]


@router.get(
    "/train-jobs/{job_id}/previews/{name}",
    summary="One preview",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": binary_content("image/png")},
        **problems.responses("unknown_job", "unknown_file", "range_not_satisfiable", "job_store_unavailable"),
    },
)
def get_train_job_preview(job_id: str, name: str, request: Request, services: Services_) -> Response:
    """The picture shows reconstructions and traversals at one step."""
    job = _get(services, job_id)
    if name not in _previews(services, job):
        raise Problem("unknown_file", f"The job has no preview {name[:64]}.")
    return bytes_response(request, services.storage.read_bytes(f"jobs/{job.id}/previews/{name}"), "image/png")


def _figure_responses(media: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"description": "The picture.", "content": binary_content(media)},
        **problems.responses("unknown_job", "unknown_file", "range_not_satisfiable", "job_store_unavailable"),
    }


@router.get(
    "/train-jobs/{job_id}/training.gif",
    summary="The previews as an animation",
    response_class=Response,
    responses=_figure_responses("image/gif"),
)
def get_training_animation(job_id: str, request: Request, services: Services_) -> Response:
    """It shows how the network learns, and is drawn anew as previews are added."""
    return _figure(services, job_id, request, "training.gif", "image/gif")


@router.get(
    "/train-jobs/{job_id}/capacity.png",
    summary="KL per dimension against C",
    response_class=Response,
    responses=_figure_responses("image/png"),
)
def get_capacity_figure(job_id: str, request: Request, services: Services_) -> Response:
    """The figure of Burgess et al. 2018, also against the step, is drawn anew as previews are added."""
    return _figure(services, job_id, request, "capacity.png", "image/png")


@router.get(
    "/train-jobs/{job_id}/web",
    summary="The newest decoder of a job, for browsers",
    response_class=Response,
    operation_id="getTrainJobWebWeights",
    responses=_figure_responses("application/octet-stream"),
)
def get_train_job_web_weights(job_id: str, request: Request, services: Services_) -> Response:
    """The training writes its decoder with each preview, in the format of `/models/{model_id}/web`."""
    return _figure(services, job_id, request, DECODER_FILE, "application/octet-stream")


def _figure(services: Services, job_id: str, request: Request, name: str, media: str) -> Response:
    job = _get(services, job_id)
    try:
        data = services.storage.read_bytes(f"jobs/{job.id}/{name}")
    except NotStored:
        raise Problem(
            "unknown_file", f"The job has no {name} yet; a training draws it with its first preview."
        ) from None
    return bytes_response(request, data, media, immutable=False)


ACTIONS = {
    "cancel": "Stops a job: at once if it waits, within a step if it runs.",
    "pause": "Stops a running job after a checkpoint, until it is resumed.",
    "resume": "Requeues a paused job, which continues from its checkpoint.",
    "finish": (
        "Ends a training early and keeps what it has learnt: it cools down over a quarter of the steps that are done, "
        "and makes its model. A paused, cancelled or failed job goes on from its checkpoint for it."
    ),
    "retry": "Requeues a failed or cancelled job.",
}


def _add_action(action: str, text: str) -> None:
    def act(job_id: str, request: Request, services: Services_) -> TrainJob:
        job = _get(services, job_id)
        return describe(getattr(services.jobs, action)(job.id, **services.admission(action, job.request)), request)

    add_action(
        router, "/train-jobs/{job_id}", act,
        action=action, noun="job", resource="TrainJob", text=text, unknown="unknown_job",
    )  # fmt: skip


for _action, _text in ACTIONS.items():
    _add_action(_action, _text)


@router.delete(
    "/train-jobs/{job_id}",
    status_code=204,
    summary="Delete a finished job",
    responses=problems.responses("unknown_job", "transition_refused", "in_use", "job_store_unavailable"),
)
def delete_train_job(job_id: str, services: Services_) -> None:
    """The job's record, checkpoints and previews are removed; the model that it made stays.

    It is refused (409) while another job goes on with its run.
    """
    job = _get(services, job_id)
    with deletion(services.sweeps, "run", [job.id]):
        services.jobs.delete(job.id)
