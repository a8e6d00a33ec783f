"""The events of a sweep for asyncio code: those of all its members, and its own. This module loads no torch."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio

from worker.jobs.clock import restart_clock
from worker.jobs.connections import BLOCK_SECONDS, reaching_redis
from worker.jobs.records import Event, event_from_entry
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
    positions = sweeps.event_positions(sweep, after)
    while True:
        restart_clock()
        is_finished = await anyio.to_thread.run_sync(_has_ended, sweeps, sweep)
        block = None if is_finished else int(min(idle_seconds, BLOCK_SECONDS) * 1000)
        with reaching_redis(waits=True):
            found = await client.xread(positions, count=_BATCH, block=block)
        # A full batch ends before its log does, so what others have after that end waits for the next read.
        horizon = min((_place(entries[-1][0]) for _, entries in found or [] if len(entries) == _BATCH), default=None)
        events: list[Event] = []
        for key, entries in found or []:
            taken = [entry for entry in entries if horizon is None or _place(entry[0]) <= horizon]
            if taken:
                positions[key] = taken[-1][0]
            found_here = map(event_from_entry, taken)
            events += [_of_member(event, *members[key]) if key in members else event for event in found_here]
        for event in sorted(events, key=lambda one: _place(one.id)):
            yield event
        if not events and is_finished:
            return
        if not events:
            yield None


def _place(event_id: str) -> tuple[int, ...]:
    """Returns the milliseconds and the number in an event's id, by which events are ordered."""
    return tuple(int(part) for part in event_id.split("-"))


def _of_member(event: Event, job_id: str, index: int) -> Event:
    return replace(event, data={**event.data, "job": job_id, "index": index})


def all_sent(sweeps: SweepStore, sweep: Sweep, after: str) -> bool:
    """Returns whether a sweep has ended and no event follows the one with the id `after`.

    Raises:
        JobStoreUnavailable: Redis is away.
    """
    return _has_ended(sweeps, sweep) and not sweeps.has_events(sweep, after)


def _has_ended(sweeps: SweepStore, sweep: Sweep) -> bool:
    """Returns whether the sweep has ended; one that was deleted has. Its members are read only if it seems so."""
    try:
        return not sweeps.is_open(sweep.id) and sweeps.views([sweeps.get(sweep.id).head])[0].is_finished
    except UnknownSweep:
        return True
