"""Waiting for jobs without polling: the event loop blocks on Redis, with one connection per waiting request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from app.dependencies import Services
from worker.jobs.clock import restart_clock
from worker.jobs.events import follow_events
from worker.jobs.records import Job


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
