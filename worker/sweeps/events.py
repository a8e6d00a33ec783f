"""The events of a sweep for asyncio code: those of all its members, and its own. This module loads no torch."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio

from worker.jobs.clock import restart_clock
from worker.jobs.connections import BLOCK_SECONDS, reaching_redis
from worker.jobs.records import Event, event_from_entry, event_position
from worker.jobs.scripts import PREFIX as P
from worker.sweeps.records import Sweep, UnknownSweep
from worker.sweeps.store import SweepStore

_BATCH = 100


async def follow_sweep(
    client: Any, sweeps: SweepStore, sweep: Sweep, after: str | None = None, *, idle_seconds: float = 5.0
) -> AsyncIterator[Event | None]:
    """Follows the logs of a sweep and of its members until the sweep has ended.

    The events come in the order of Redis's clock, which their ids begin with. Those of a member name its `job` and its
    `index`; those of the sweep itself have the type `sweep`.

    Args:
        client: A client from `connect_async`; a blocking read holds its connection.
        sweeps: The store of the sweep.
        sweep: The sweep.
        after: Id of the event after which to begin; None begins with the first.
        idle_seconds: Seconds without an event after which None is yielded.

    Yields:
        Each event as it comes, and None after each idle time.

    Raises:
        JobStoreUnavailable: Redis is away.
    """
    members = {f"{P}events:{job_id}": (job_id, index) for index, job_id in enumerate(sweep.job_ids)}
    positions = dict.fromkeys([*members, f"{P}events:{sweep.id}"], event_position(after))
    while True:
        restart_clock()
        is_finished = await anyio.to_thread.run_sync(_is_finished, sweeps, sweep)
        block = None if is_finished else int(min(idle_seconds, BLOCK_SECONDS) * 1000)
        with reaching_redis(waits=True):
            found = await client.xread(positions, count=_BATCH, block=block)
        events: list[Event] = []
        for key, entries in found or []:
            positions[key] = entries[-1][0]
            found_here = map(event_from_entry, entries)
            events += [_of_member(event, *members[key]) if key in members else event for event in found_here]
        for event in sorted(events, key=lambda one: [int(part) for part in one.id.split("-")]):
            yield event
        if not events and is_finished:
            return
        if not events:
            yield None


def _of_member(event: Event, job_id: str, index: int) -> Event:
    return replace(event, data={**event.data, "job": job_id, "index": index})


def _is_finished(sweeps: SweepStore, sweep: Sweep) -> bool:
    """Returns whether the sweep has ended; one that was deleted has. Its members are read only if it seems so."""
    try:
        return not sweeps.is_open(sweep.id) and sweeps.views([sweeps.get(sweep.id).head])[0].is_finished
    except UnknownSweep:
        return True
