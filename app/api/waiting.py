"""Waiting for work without asking again and again: the event loop blocks on Redis, one connection a waiter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from app.dependencies import Services
from worker.jobs.events import follow_events
from worker.jobs.store import Job


@asynccontextmanager
async def async_redis(services: Services) -> AsyncIterator[Any]:
    """A connection of the caller's own: a blocking read holds it until it ends."""
    client = services.connect_async()
    try:
        yield client
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


async def wait_until_finished(services: Services, job: Job, seconds: float) -> Job:
    """The job once it has finished, or as it is after so many seconds."""
    if job.is_finished or seconds <= 0 or not services.waiters.take():
        return job
    try:
        with anyio.move_on_after(seconds):
            async with async_redis(services) as client:
                async for _ in follow_events(client, services.jobs, job.id):
                    pass
    finally:
        services.waiters.give_back()
    return await anyio.to_thread.run_sync(services.jobs.get, job.id)
