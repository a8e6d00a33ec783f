"""Waiting for jobs, and streams of their events, without polling.

The event loop blocks on Redis, with one connection per waiting request.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from app.dependencies import Services
from app.problems import Problem
from worker.jobs.clock import restart_clock
from worker.jobs.events import follow_events
from worker.jobs.records import Event, Job

EVENT_STREAM = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": (
            "id: 1700000000000-0\nevent: progress\n"
            'data: {"progress": {"step": 50, "num_steps": 20000}, "metrics": {"kl": 1.2}, "status": "running"}\n\n'
        ),
    }
}
EVENT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": EVENT_STREAM},
    204: {"description": "There are no further events: the client need not connect again."},
}


@asynccontextmanager
async def async_redis(services: Services) -> AsyncIterator[Any]:
    """Opens a connection for the caller alone, since a blocking read holds it until it ends."""
    client = services.connect_async()
    try:
        yield client
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


async def wait_until_finished(services: Services, job: Job, seconds: float) -> Job:
    """Waits until a job has finished.

    Args:
        services: The services.
        job: The job.
        seconds: Longest wait, in seconds.

    Returns:
        The job as it is then; at once if it has finished, or if too many requests wait already.
    """
    if job.is_finished or seconds <= 0:
        return job
    try:
        services.waiters.acquire_nowait()
    except anyio.WouldBlock:
        return job
    try:
        with anyio.move_on_after(seconds):
            async with async_redis(services) as client:
                async for _ in follow_events(client, services.jobs, job.id):
                    pass
    finally:
        services.waiters.release()
    restart_clock()
    return await anyio.to_thread.run_sync(services.jobs.get, job.id)


async def answer_events(services: Services, job: Job, last_event_id: str | None) -> Response:
    """Returns a job's log as server-sent events, or 204, which ends an EventSource, where none is left to come.

    Args:
        services: The services.
        job: The job.
        last_event_id: Id of the last event that the client has; None: from the first.

    Raises:
        Problem: Too many streams are open (too_many_jobs).
    """
    if job.is_finished and last_event_id is not None:
        is_left = await anyio.to_thread.run_sync(services.jobs.has_events, job.id, last_event_id)
        if not is_left:
            return Response(status_code=204)
    return event_stream(services, lambda client: follow_events(client, services.jobs, job.id, last_event_id))


def event_stream(services: Services, follow: Callable[[Any], AsyncIterator[Event | None]]) -> Response:
    """Returns events as server-sent events.

    Args:
        services: The services.
        follow: Takes an asyncio client of Redis, and yields the events as they come, and None now and then.

    Raises:
        Problem: Too many streams are open (too_many_jobs).
    """
    try:
        leave = services.streams.take_nowait()
    except anyio.WouldBlock:
        raise Problem("too_many_jobs", "Too many event streams are open.") from None
    return EventSourceResponse(_events(services, follow, leave), ping=15, sep="\n")


async def _events(
    services: Services, follow: Callable[[Any], AsyncIterator[Event | None]], leave: Callable[[], None]
) -> AsyncIterator[ServerSentEvent]:
    try:
        async with async_redis(services) as client:
            async for event in follow(client):
                if event is not None:
                    yield _server_sent(event)
    finally:
        leave()


def _server_sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(event.data, ensure_ascii=False), event=event.type, id=event.id, sep="\n")
