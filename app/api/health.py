"""/healthz, /readyz and /metrics: whether the service works, and its metrics."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from app import problems
from app.dependencies import Services_
from app.observability.service_numbers import look
from app.problems import Problem
from app.schemas import Answer
from worker.jobs.connections import check_writable
from worker.jobs.queue import workers_alive

router = APIRouter(tags=["operation"])


class Health(Answer):
    """Whether this process answers."""

    status: str


class Readiness(Health):
    """Whether work can be done: the number of workers that consume each queue."""

    workers: dict[str, int]


@router.get("/healthz", summary="Does this process answer?", responses=problems.responses())
async def get_health() -> Health:
    """The answer depends on this process alone."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Can work be done?",
    responses=problems.responses("job_store_unavailable", "workers_busy", "storage_full"),
)
def get_readiness(services: Services_) -> Readiness:
    """The answer is 200 if Redis answers and a worker consumes each queue, otherwise 503; 507 if there is no room."""
    services.room.check()
    check_writable(services.jobs.redis)
    alive = workers_alive(services.jobs.redis)
    missing = [queue for queue, num in alive.items() if num == 0]
    if missing:
        raise Problem("workers_busy", f"No worker consumes the queue {' or '.join(missing)}.")
    return Readiness(status="ready", workers=alive)


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
def get_metrics(services: Services_) -> Response:
    """Responses of this process and their seconds by route; queues, workers, jobs and counters as Redis has them."""
    look(services.monitoring, services.jobs, services.room)
    return Response(generate_latest(services.monitoring.registry), media_type=CONTENT_TYPE_LATEST)
