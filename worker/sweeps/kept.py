"""What lasts of sweeps in the storage, and their indexes in Redis. This module loads no torch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from worker.jobs.connections import reaching_redis
from worker.jobs.records import FINISHED, JobStoreUnavailable, event_position, valid_job_id
from worker.jobs.scripts import PREFIX as P
from worker.jobs.store import JobStore
from worker.stores.ids import id_of_name
from worker.stores.storage import NotStored
from worker.sweeps.records import Sweep, SweepHead, SweepState, UnknownSweep

LOCK_SECONDS = 60.0
"""Time after which the lock of a process that died expires."""
WAIT_SECONDS = 1.5
"""Longest wait for another process that changes the sweep."""
INDEX, HEADS, OPEN = f"{P}sweeps", f"{P}sweeps:heads", f"{P}sweeps:open"
"""The ids by their creation, what a list shows of each, and the ids of the sweeps that have not ended."""
BUILT = f"{P}sweeps:heads_built"
"""Says that the indexes are complete."""


def folder(sweep_id: str) -> str:
    """Returns the storage prefix of all files of a sweep."""
    return f"sweeps/{sweep_id}"


class SweepRecords:
    """Sweeps to read and to keep. Every method raises JobStoreUnavailable when Redis is away."""

    def __init__(self, jobs: JobStore) -> None:
        self.jobs = jobs
        self.storage = jobs.storage

    def get(self, sweep_id: str) -> Sweep:
        """Returns a sweep.

        Raises:
            UnknownSweep: There is no such sweep.
        """
        if not valid_job_id(sweep_id):
            raise UnknownSweep(sweep_id)
        try:
            return Sweep.from_json(self.storage.read_json(f"{folder(sweep_id)}/sweep.json"))
        except NotStored:
            raise UnknownSweep(sweep_id) from None

    def find(self, text: str) -> Sweep:
        """Returns the sweep that is given by its id or, where no other sweep has it, by its name.

        Raises:
            UnknownSweep: There is no such sweep.
            AmbiguousName: Several sweeps have the name.
        """
        try:
            return self.get(text)
        except UnknownSweep:
            self._build()
            heads = map(_head, self._redis("hvals", HEADS))
            found = id_of_name("sweeps", text, ((head.id, head.name) for head in heads))
            if found is None:
                raise
            return self.get(found)

    def page(self, limit: int, after: str | None = None) -> list[SweepHead]:
        """Returns one page of the sweeps, the newest first.

        Args:
            limit: Largest number of sweeps.
            after: Id of the last sweep of the page before; None for the first page.

        Raises:
            UnknownSweep: `after` is not a sweep.
        """
        self._build()
        begin = 0
        if after is not None:
            place = self._redis("zrevrank", INDEX, after)
            if place is None:
                raise UnknownSweep(after)
            begin = place + 1
        ids = self._redis("zrevrange", INDEX, begin, begin + limit - 1)
        heads = self._redis("hmget", HEADS, ids) if ids else []
        return [_head(text) for text in heads if text]  # Another one is being deleted.

    def is_open(self, sweep_id: str) -> bool:
        """Returns whether a sweep may not have ended, without a look at its members."""
        self._build()
        return bool(self._redis("sismember", OPEN, sweep_id))

    def event_positions(self, sweep: Sweep, after: str | None) -> dict[str, str]:
        """Returns the logs of a sweep and of its members, each with the position after which to read it.

        Args:
            sweep: The sweep.
            after: Id of the last event that was read; None for none.
        """
        return dict.fromkeys([f"{P}events:{one}" for one in (*sweep.job_ids, sweep.id)], event_position(after))

    def has_events(self, sweep: Sweep, after: str) -> bool:
        """Returns whether the logs of a sweep and of its members have events after the one with the id `after`."""
        return bool(self._redis("xread", self.event_positions(sweep, after), count=1))

    def comparison(self, sweep_id: str) -> dict[str, Any] | None:
        """Returns the newest comparison of a sweep's models, or None before the first."""
        try:
            found: dict[str, Any] = self.storage.read_json(f"{folder(sweep_id)}/comparison.json")
            return found
        except NotStored:
            return None

    # Shared with the store of sweeps

    def _state(self, head: SweepHead) -> SweepState:
        return self._stored_state(head.id) or SweepState(waiting=list(range(head.num_members)))

    def _stored_state(self, sweep_id: str) -> SweepState | None:
        """Returns the state of a sweep, or None for one that has just been accepted, or is gone."""
        try:
            values = self.storage.read_json(f"{folder(sweep_id)}/state.json")
        except NotStored:
            return None
        values.pop("format_version")
        if "told" in values:  # Its name until December 2026.
            values["last_event_state"] = values.pop("told")
        return SweepState(**values)

    def _write(self, sweep_id: str, state: SweepState) -> None:
        self.storage.write_json(f"{folder(sweep_id)}/state.json", state.to_json(), reserve=True)

    def _index(self, sweep: Sweep, *, is_open: bool = True) -> None:
        """Adds a sweep to the indexes."""
        created = int(datetime.fromisoformat(sweep.created_at).timestamp() * 1000)
        self._redis("zadd", INDEX, {sweep.id: created})
        self._redis("hset", HEADS, sweep.id, json.dumps(asdict(sweep.head)))
        if is_open:
            self._redis("sadd", OPEN, sweep.id)

    def _build(self) -> None:
        """Makes the indexes anew if Redis was wiped."""
        if self._redis("exists", BUILT):
            return
        for sweep_id in self.storage.list("sweeps"):
            with suppress(UnknownSweep):
                sweep = self.get(sweep_id)
                state = self._state(sweep.head)
                is_unsent = sweep.head.webhook and state.ends > state.announced
                self._index(sweep, is_open=is_unsent or state.last_event_state not in FINISHED)
        self._redis("set", BUILT, "1")

    @contextmanager
    def _lock(self, sweep_id: str) -> Iterator[None]:
        """Keeps other processes from changing the sweep.

        Raises:
            JobStoreUnavailable: Another one changes it for too long.
        """
        lock = self.jobs.redis.lock(f"{P}sweeps:lock:{sweep_id}", timeout=LOCK_SECONDS, blocking_timeout=WAIT_SECONDS)
        with reaching_redis():
            taken = lock.acquire()
        if not taken:
            raise JobStoreUnavailable("another process changes the sweep")
        try:
            yield
        finally:
            with suppress(Exception):  # It has expired, or Redis is away and it will.
                lock.release()

    def _redis(self, method: str, *arguments: Any, **options: Any) -> Any:
        with reaching_redis():
            return getattr(self.jobs.redis, method)(*arguments, **options)


def _head(text: str) -> SweepHead:
    return SweepHead(**json.loads(text))
