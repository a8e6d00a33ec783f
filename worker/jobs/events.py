"""The events of a job's log for asyncio code such as server-sent events. This module loads no torch."""

from collections.abc import AsyncIterator
from typing import Any

import anyio

from worker.jobs.clock import restart_clock
from worker.jobs.connections import BLOCK_SECONDS, reaching_redis
from worker.jobs.records import FIRST_EVENT, Event, event_from_entry, event_position
from worker.jobs.scripts import PREFIX as P
from worker.jobs.store import JobStore


async def follow_events(
    client: Any, store: JobStore, job_id: str, after: str | None = None, *, idle_seconds: float = 5.0
) -> AsyncIterator[Event | None]:
    """Follows a job's log until the event that finishes the job.

    Args:
        client: A client from `connect_async`; a blocking read holds its connection.
        store: The store that has the job.
        job_id: Id of the job.
        after: Id of the event after which to begin; None begins with the first.
        idle_seconds: Seconds without an event after which None is yielded.

    Yields:
        Each event as it comes, and None after each idle time, so that the caller can check whether to go on.

    Raises:
        UnknownJob: There is no such job.
        JobStoreUnavailable: Redis is away.
    """
    key, position = f"{P}events:{job_id}", event_position(after)
    job = await anyio.to_thread.run_sync(store.get, job_id)
    while True:
        restart_clock()
        with reaching_redis(waits=True):
            found = await client.xread({key: position}, count=100, block=int(min(idle_seconds, BLOCK_SECONDS) * 1000))
        entries = found[0][1] if found else []
        for entry in entries:
            event = event_from_entry(entry)
            position = event.id
            yield event
        if len(entries) < 100:
            job = await anyio.to_thread.run_sync(store.get, job_id)
            if job.is_finished and not await _more(client, key, position):
                return
        if not entries:
            yield None


async def _more(client: Any, key: str, position: str) -> bool:
    """Returns whether the log has entries after a position."""
    with reaching_redis(waits=True):
        return bool(await client.xrange(key, f"({position}" if position != FIRST_EVENT else "-", "+", 1))
