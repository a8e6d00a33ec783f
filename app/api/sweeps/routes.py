"""/sweeps: trainings that differ in a few settings, under one name."""

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Request
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from app import problems
from app.api.bodies import read_body
from app.api.negotiation import KeyHeader, PageAfter, PageSize, bytes_response, check_key, cut_page
from app.api.sweeps.requests import accept_sweep, check_may_make_default
from app.api.train_jobs import LastEventHeader
from app.api.waiting import EVENT_ANSWERS, event_stream
from app.dependencies import Services, Services_
from app.openapi import add_action, binary_content, request_body
from app.problems import Problem
from app.requests import SweepRequest
from app.schemas import respond
from app.sweep_schemas import Sweep, SweepList, SweepSummary
from worker.jobs.records import JobState
from worker.stores.storage import NotStored
from worker.sweeps import records
from worker.sweeps.deletions import deletion
from worker.sweeps.events import all_sent, follow_sweep
from worker.sweeps.kept import folder
from worker.sweeps.summary import cells_of, results_of, table_csv

router = APIRouter(tags=["sweeps"])

FILES = {"figure.png": "image/png", "sheet.png": "image/png"}
_EXAMPLE = {
    "name": "shapes",
    "dataset": "dsprites",
    "config": {"objective": "beta", "num_steps": 20000},
    "grid": {"seed": [0, 1, 2], "beta": [1.0, 4.0]},
    "evaluate": True,
    "max_running": 2,
}


def _found(sweep_id: str, services: Services_) -> records.Sweep:
    """Returns the sweep that the path names by id or name."""
    return services.sweeps.find(sweep_id)


FoundSweep = Annotated[records.Sweep, Depends(_found)]
"""The sweep in a route's path, by its id or its name."""


@router.post(
    "/sweeps",
    status_code=202,
    response_model=Sweep,
    summary="Train a grid or a list of settings",
    openapi_extra=request_body({"application/json": SweepRequest}, example=_EXAMPLE),
    responses=problems.responses(
        "bad_request", "scope_missing", "unknown_dataset", "unknown_model", "in_use", "idempotency_conflict",
        "unsupported_media_type", "invalid_request", "too_many_jobs", "too_many_requests", "job_store_unavailable",
        "storage_full",
    ),
)  # fmt: skip
async def create_sweep(request: Request, services: Services_, idempotency_key: KeyHeader = None) -> Response:
    """Every member's settings are checked before anything starts. A few members at a time are in the queue, so that a
    later job does not wait for the whole sweep; one that fails does not end the sweep.
    """
    check_key(idempotency_key)
    asked = await read_body(request, SweepRequest)

    def accept() -> Sweep:
        check_may_make_default(services, asked, request)
        return describe(services, accept_sweep(services, asked, idempotency_key), request)

    resource = await anyio.to_thread.run_sync(accept)
    return respond(resource, 202, {"Location": resource.links["self"]})


def describe(services: Services, sweep: records.Sweep, request: Request) -> Sweep:
    """Returns a sweep as the API shows it.

    Args:
        services: The services.
        sweep: The sweep.
        request: The request, for addresses.
    """
    view, comparison = services.sweeps.view(sweep), services.sweeps.comparison(sweep.id)
    members = results_of(sweep, view, comparison)
    asked = sweep.request
    shared = {name: asked[name] for name in ("preset", "config", "grid", "evaluate", "max_running", "make_default")}
    return Sweep(
        **_summary(view, None if comparison is None else comparison["winner"], request),
        **shared,
        members=[member.to_json() for member in members],
        cells=cells_of(members),
        comparison=None if comparison is None else comparison["comparison"],
        error=view.error,
    )


def _summary(view: records.SweepView[JobState], winner: dict[str, Any] | None, request: Request) -> dict[str, Any]:
    sweep = view.head
    root = str(request.scope.get("root_path", ""))
    url = f"{root}/sweeps/{sweep.id}"
    links = {"self": url} | {name: f"{url}/{name}" for name in ("events", *ACTIONS)}
    links["table"] = f"{url}/table.csv"
    if winner is not None:
        links |= {name.removesuffix(".png"): f"{url}/{name}" for name in FILES}
        links["winner"] = f"{root}/models/{winner['model']}"
    return {
        "id": sweep.id,
        "name": sweep.name,
        "status": view.status,
        "dataset": sweep.dataset,
        "num_members": sweep.num_members,
        "progress": view.progress(),
        "winner": winner,
        "created_at": sweep.created_at,
        "links": links,
    }


@router.get(
    "/sweeps",
    response_model_exclude_unset=True,
    summary="Sweeps, newest first",
    responses=problems.responses("unknown_sweep", "invalid_request", "job_store_unavailable"),
)
def list_sweeps(
    request: Request,
    services: Services_,
    limit: PageSize = 50,
    after: PageAfter = None,
) -> SweepList:
    """The answer is one page of sweeps without their members; `next` is null on the last page."""
    heads, following = cut_page(services.sweeps.page(limit + 1, after), limit)
    views = services.sweeps.views(heads)
    found = [SweepSummary(**_summary(view, services.sweeps.winner(view), request)) for view in views]
    return SweepList(sweeps=found, next=following)


@router.get(
    "/sweeps/{sweep_id}",
    response_model_exclude_unset=True,
    summary="A sweep, compared",
    responses=problems.responses("unknown_sweep", "job_store_unavailable"),
)
def get_sweep(sweep: FoundSweep, request: Request, services: Services_) -> Sweep:
    """The answer has the members with losses and scores, mean and standard deviation over the seeds of each cell, and,
    once all members have ended, their dimensions aligned and the model that the sweep chooses without labels.
    """
    return describe(services, sweep, request)


@router.get(
    "/sweeps/{sweep_id}/events",
    summary="A sweep's events, as they happen",
    response_class=EventSourceResponse,
    responses={
        **EVENT_ANSWERS,
        **problems.responses("unknown_sweep", "too_many_jobs", "job_store_unavailable"),
    },
)
async def stream_sweep_events(sweep_id: str, services: Services_, last_event_id: LastEventHeader = None) -> Response:
    """The stream has the events of all members, each with its `job` and `index`, and those of the sweep (`sweep`). It
    begins with the first, or after `Last-Event-ID`, and ends when the sweep ends. A client that has the last event of
    an ended sweep gets 204, which ends an EventSource.
    """
    sweep = await anyio.to_thread.run_sync(services.sweeps.find, sweep_id)
    if last_event_id is not None and await anyio.to_thread.run_sync(all_sent, services.sweeps, sweep, last_event_id):
        return Response(status_code=204)
    return event_stream(services, lambda client: follow_sweep(client, services.sweeps, sweep, last_event_id))


@router.get(
    "/sweeps/{sweep_id}/table.csv",
    summary="The members of a sweep as CSV",
    response_class=Response,
    responses={
        200: {"description": "One row a member.", "content": binary_content("text/csv")},
        **problems.responses("unknown_sweep", "job_store_unavailable"),
    },
)
def get_sweep_table(sweep: FoundSweep, request: Request, services: Services_) -> Response:
    """The columns are settings, state, model, losses in nats, active dimensions, and scores with their intervals."""
    results = results_of(sweep, services.sweeps.view(sweep), services.sweeps.comparison(sweep.id))
    return bytes_response(request, table_csv(results).encode(), "text/csv", immutable=False)


def _add_file(name: str, summary: str, description: str) -> None:
    def get(sweep: FoundSweep, request: Request, services: Services_) -> Response:
        try:
            data = services.storage.read_bytes(f"{folder(sweep.id)}/{name}")
        except NotStored:
            raise Problem("unknown_file", f"The sweep has no {name} yet; it is drawn when its members end.") from None
        return bytes_response(request, data, FILES[name], immutable=False)

    router.add_api_route(
        f"/sweeps/{{sweep_id}}/{name}",
        get,
        methods=["GET"],
        response_class=Response,
        summary=summary,
        description=description,
        operation_id=f"getSweep{name.partition('.')[0].capitalize()}",
        responses={
            200: {"description": "The picture.", "content": binary_content(FILES[name])},
            **problems.responses("unknown_sweep", "unknown_file", "range_not_satisfiable", "job_store_unavailable"),
        },
    )


_add_file("figure.png", "Reconstruction against score", "Each dot is a model; the colour is its cell.")
_add_file("sheet.png", "The aligned dimensions of all models", "Each row is the same latent in every model.")

ACTIONS = {
    "cancel": "Stops all members that have not ended.",
    "pause": "Stops the members that run after a checkpoint, and starts no others until the sweep is resumed.",
    "resume": "Lets a paused sweep go on.",
    "retry": "Requeues the members that failed or were cancelled.",
}


def _add_action(action: str, text: str) -> None:
    def act(sweep: FoundSweep, request: Request, services: Services_) -> Sweep:
        getattr(services.sweeps, action)(sweep.id, **services.admission(action, sweep.request))
        return describe(services, sweep, request)

    add_action(
        router, "/sweeps/{sweep_id}", act,
        action=action, noun="sweep", resource="Sweep", text=text, unknown="unknown_sweep",
    )  # fmt: skip


for _action, _text in ACTIONS.items():
    _add_action(_action, _text)


@router.delete(
    "/sweeps/{sweep_id}",
    status_code=204,
    summary="Delete an ended sweep",
    responses=problems.responses("unknown_sweep", "transition_refused", "in_use", "job_store_unavailable"),
)
def delete_sweep(sweep: FoundSweep, services: Services_) -> None:
    """The sweep, its comparison and its members' jobs are removed; the models that they made stay.

    It is refused (409) while another job goes on with the run of a member.
    """
    with deletion(services.sweeps, "run", sweep.job_ids):
        services.sweeps.delete(sweep.id)
