"""/healthz, /readyz and /metrics."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from app import problems
from app.dependencies import Services, Services_
from app.problems import Problem
from app.schemas import Health
from worker.jobs.queue import workers_alive
from worker.jobs.store import JobStoreUnavailable

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=Health, summary="Does this process answer?", responses=problems.responses())
async def healthz() -> Response:
    """Asks nothing of anybody else."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    response_model=Health,
    summary="Can work be done?",
    responses=problems.responses("job_store_unavailable", "workers_busy"),
)
def readyz(services: Services_) -> Response:
    """Redis answers, and a worker consumes each queue; else 503."""
    alive = workers_alive(services.jobs.redis)
    missing = [queue for queue, num in alive.items() if num == 0]
    if missing:
        raise Problem("workers_busy", f"No worker consumes the queue {' or '.join(missing)}.")
    return JSONResponse({"status": "ready", "workers": alive})


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus text format.", "content": {"text/plain": {}}}},
)
def metrics(services: Services_) -> Response:
    """Answers and their seconds by route, workers by queue, jobs by state; of this process and of Redis."""
    _look_at_redis(services)
    return Response(generate_latest(services.monitoring.registry), media_type=CONTENT_TYPE_LATEST)


def _look_at_redis(services: Services) -> None:
    """A Redis that is away is a number too: betavae_redis_up 0."""
    monitoring = services.monitoring
    try:
        for queue, num in workers_alive(services.jobs.redis).items():
            monitoring.workers.labels(queue).set(num)
        for status, num in services.jobs.counts().items():
            monitoring.jobs.labels(status).set(num)
        monitoring.redis_up.set(1)
    except JobStoreUnavailable:
        monitoring.workers.clear()
        monitoring.jobs.clear()
        monitoring.redis_up.set(0)
