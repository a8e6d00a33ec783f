"""The sweeps: many trainings under one name, of which a few at a time are in the queue. This module loads no torch.

`sweeps/<id>/sweep.json` says what was accepted, `state.json` which members are still to be released and whether the
sweep is held. A member's job has an id that follows from the sweep, so that a release that is repeated changes nothing.
Redis holds only indexes, which are rebuilt from the storage, and a lock for each sweep.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from worker.jobs.deletions import NeedDeleted, needs_of
from worker.jobs.queue import workers_alive
from worker.jobs.records import (
    FINISHED,
    HELD,
    IdempotencyConflict,
    Job,
    JobState,
    JobStoreReadOnly,
    JobStoreUnavailable,
    TransitionRefused,
    UnknownJob,
)
from worker.jobs.scripts import PREFIX as P
from worker.jobs.store import Admit
from worker.stores.logs import REQUEST_ID
from worker.sweeps.kept import HEADS, INDEX, OPEN, SweepRecords, folder
from worker.sweeps.records import (
    CANCELLED,
    PAUSED,
    AnyJob,
    Member,
    Sweep,
    SweepHead,
    SweepRefused,
    SweepView,
    UnknownSweep,
    member_job_id,
    new_sweep_id,
    sweep_id_of_key,
)

KIND = "comparison"
"""The kind of the jobs that compare the models of a sweep."""
SHARE = "sweep"
"""What a client's unfinished sweeps count as (worker.jobs.shares)."""
GENERATIONS = f"{P}sweeps:generations"

log = logging.getLogger(__name__)


class SweepStore(SweepRecords):
    """Makes, shows, steers and deletes sweeps. Every method raises JobStoreUnavailable when Redis is away."""

    def view(self, sweep: Sweep) -> SweepView[Job]:
        """Returns a sweep at this moment with its members' whole jobs."""
        return self._views([sweep.head], self.jobs.many)[0]

    def views(self, heads: Sequence[SweepHead]) -> list[SweepView[JobState]]:
        """Returns several sweeps at this moment, with the states of all members read in one call of Redis."""
        return self._views(heads, self.jobs.states)

    def winner(self, view: SweepView[JobState]) -> dict[str, Any] | None:
        """Returns the model that the newest comparison of a sweep chose, and why; None before the first."""
        job = view.comparison
        chosen: dict[str, Any] | None = None if job is None else (job.result or {}).get("winner")
        return chosen or (self.comparison(view.head.id) or {}).get("winner")

    def _look(self, head: SweepHead) -> SweepView[JobState]:
        return self.views([head])[0]

    def _views(self, heads: Sequence[SweepHead], read: Callable[..., list[AnyJob | None]]) -> list[SweepView[AnyJob]]:
        states = [self._state(head) for head in heads]
        ids = [job_id for head in heads for job_id in head.job_ids]
        waiting = {member_job_id(head.id, k) for head, state in zip(heads, states, strict=True) for k in state.waiting}
        # A member that waits for its release has no job, or one that Redis has.
        found = iter(read(ids, restore=set(ids) - waiting))
        views = [
            SweepView(head=head, state=state, jobs=list(islice(found, head.num_members)))
            for head, state in zip(heads, states, strict=True)
        ]
        comparisons = [self._comparison_id(view) for view in views]
        jobs = iter(self.jobs.many([one for one in comparisons if one]))
        return [
            replace(view, comparison=next(jobs) if one else None) for view, one in zip(views, comparisons, strict=True)
        ]

    # Changing

    def create(
        self,
        request: dict[str, Any],
        members: Sequence[Member],
        *,
        name: str,
        idempotency_key: str | None = None,
        admit: Admit | None = None,
        since: int | None = None,
    ) -> Sweep:
        """Accepts a sweep and releases its first members.

        Args:
            request: What was asked for.
            members: The members, at least one.
            name: Name of the sweep.
            idempotency_key: Key with which a client may repeat its request and get the first sweep again.
            admit: Called with SHARE and id before a sweep is made that is not known yet; it may refuse by raising.
            since: See JobStore.create.

        Raises:
            IdempotencyConflict: The key was sent with a different request before.
            BeingDeleted: Something that the members need is being deleted.
            JustDeleted: Something that they need was deleted after `since`.
        """
        sweep_id = new_sweep_id()
        if idempotency_key is not None:
            generation = self._redis("hget", GENERATIONS, idempotency_key) or 0
            sweep_id = sweep_id_of_key(idempotency_key, int(generation))
        self.jobs.ping()  # While Redis is away, nothing is written.
        if admit is not None and not self.storage.exists(f"{folder(sweep_id)}/sweep.json"):
            admit(SHARE, sweep_id)
        sweep = Sweep(
            id=sweep_id,
            name=name,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            request={**request, "idempotency_key": idempotency_key, "request_id": REQUEST_ID.get()},
            members=[
                replace(member, request={**member.request, "sweep": {"id": sweep_id, "index": index}})
                for index, member in enumerate(members)
            ],
            request_digest=_digest(name, request),
        )
        data = json.dumps(sweep.to_json(), ensure_ascii=False).encode()
        is_new = self.storage.create_bytes(f"{folder(sweep_id)}/sweep.json", data)
        if not is_new:
            sweep = self.get(sweep_id)
            if sweep.request_digest != _digest(name, request):
                raise IdempotencyConflict("The Idempotency-Key was sent with a different request before.")
        with self._lock(sweep_id):
            self._index(sweep)
            if is_new and since is not None:
                # A deletion that has begun by now is seen here; a later one sees the sweep in the index.
                try:
                    self.jobs.deletions.check(needs_of(request), since)
                except NeedDeleted:
                    self._forget(sweep_id)
                    raise
        if is_new:
            log.info("sweep %s: accepted (%r, %d members)", sweep_id, name, len(sweep.members))
        self.advance(sweep_id)
        return sweep

    def unfinished(self) -> list[Sweep]:
        """Returns the sweeps that have not ended."""
        try:
            self._build()
            ids = sorted(self._redis("smembers", OPEN))
        except JobStoreReadOnly:  # The indexes cannot be made now.
            ids = self.storage.list("sweeps")
        found = []
        for sweep_id in ids:
            with suppress(UnknownSweep):  # It is just being deleted.
                sweep = self.get(sweep_id)
                view = self._look(sweep.head)
                if view.status not in FINISHED or view.is_live or view.is_comparing:
                    found.append(sweep)
        return found

    def advance(self, sweep_id: str) -> None:
        """Releases the next members, stops those that run though the sweep is held, and compares the models at the end.

        A worker calls this when a member ends, and the sweeper does; it may be called at any time.
        """
        try:
            sweep = self.get(sweep_id)
        except UnknownSweep:
            self._redis("srem", OPEN, sweep_id)
            return
        with self._lock(sweep_id):
            view = self._look(sweep.head)
            if view.state.hold is None:
                view = self._release(sweep, view)
            else:
                view = self._stop_members(view)
            self._conclude(view)

    def advance_all(self) -> None:
        """Advances every sweep that has not ended."""
        self._build()
        for sweep_id in sorted(self._redis("smembers", OPEN)):
            try:
                self.advance(sweep_id)
            except JobStoreUnavailable:
                raise
            except Exception:
                log.exception("sweep %s: it could not go on; trying again", sweep_id)

    def may_begin(self, job: Job) -> bool:
        """Returns whether a member's training may begin, which a held sweep does not allow."""
        asked = job.request.get("sweep")
        state = None if asked is None else self._stored_state(asked["id"])
        return state is None or state.hold is None

    def cancel(self, sweep_id: str) -> SweepView[JobState]:
        """Cancels all members that have not ended, or the comparison of the models.

        Raises:
            UnknownSweep: There is no such sweep.
            SweepRefused: It has ended.
        """
        sweep = self.get(sweep_id)
        with self._lock(sweep_id):
            view = self._conclude(self._look(sweep.head))
            if view.is_comparing and view.comparison is not None:
                with suppress(TransitionRefused):  # It has just ended, or is being cancelled.
                    self.jobs.cancel(view.comparison.id)
                return self._conclude(self._look(sweep.head))
            if view.status in FINISHED:
                raise SweepRefused(sweep_id, view.status, "be cancelled")
            return self._hold(view, CANCELLED)

    def pause(self, sweep_id: str) -> SweepView[JobState]:
        """Pauses the members that run, and releases no others until the sweep is resumed.

        Raises:
            UnknownSweep: There is no such sweep.
            SweepRefused: It is neither queued nor running.
        """
        sweep = self.get(sweep_id)
        with self._lock(sweep_id):
            view = self._look(sweep.head)
            if view.status not in ("queued", "running") or not view.is_live:
                raise SweepRefused(sweep_id, view.status, "be paused")
            return self._hold(view, PAUSED)

    def resume(self, sweep_id: str, *, admit: Admit | None = None) -> SweepView[JobState]:
        """Resumes a paused sweep: its paused members go on first.

        Args:
            sweep_id: Id of the sweep.
            admit: Called with SHARE and id before anything is requeued; it may refuse by raising.

        Raises:
            UnknownSweep: There is no such sweep.
            SweepRefused: It is not paused.
        """
        return self._again(sweep_id, (PAUSED,), PAUSED, "be resumed", admit)

    def retry(self, sweep_id: str, *, admit: Admit | None = None) -> SweepView[JobState]:
        """Requeues the members that failed or were cancelled, and compares anew if the comparison failed.

        Args:
            sweep_id: Id of the sweep.
            admit: See `resume`.

        Raises:
            UnknownSweep: There is no such sweep.
            SweepRefused: No member failed or was cancelled.
        """
        head = self.get(sweep_id).head
        with self._lock(sweep_id):
            view = self._look(head)
            if view.comparison is not None and view.comparison.status in ("failed", "cancelled"):
                if admit is not None:
                    admit(SHARE, sweep_id)
                self._redis("sadd", OPEN, sweep_id)
                with suppress(TransitionRefused):
                    self.jobs.retry(view.comparison.id)
                view = self._conclude(self._look(head))
                if not set(view.statuses) & {"failed", "cancelled"}:
                    return view
        return self._again(sweep_id, ("failed", "cancelled"), CANCELLED, "be retried", admit)

    def delete(self, sweep_id: str) -> None:
        """Removes an ended sweep with its members' jobs; the models that they made stay.

        Raises:
            UnknownSweep: There is no such sweep.
            SweepRefused: It has not ended.
        """
        sweep = self.get(sweep_id)
        with self._lock(sweep_id):
            view = self._look(sweep.head)
            if view.status not in FINISHED or view.is_live or view.is_comparing:
                raise SweepRefused(sweep_id, view.status, "be deleted; cancel it first")
            for job_id in [*sweep.job_ids, *([view.state.comparison] if view.state.comparison else [])]:
                self._delete_job(job_id)
            self._forget(sweep_id)
            if (key := sweep.request.get("idempotency_key")) is not None:
                self._redis("hincrby", GENERATIONS, key, 1)
            self.jobs.end_webhook(sweep_id)
            self._redis("delete", f"{P}events:{sweep_id}")
        log.info("sweep %s: deleted", sweep_id)

    def _forget(self, sweep_id: str) -> None:
        self.storage.delete(folder(sweep_id))
        self._redis("zrem", INDEX, sweep_id)
        self._redis("hdel", HEADS, sweep_id)
        self._redis("srem", OPEN, sweep_id)

    # Members

    def _release(self, sweep: Sweep, view: SweepView[JobState]) -> SweepView[JobState]:
        """Puts waiting members into the queue, as many as may run at once."""
        state = view.state
        live = sum(status in (*HELD, "queued") for status in view.statuses) - len(state.waiting)
        free = self._max_running(sweep) - live
        if not state.waiting or free <= 0:
            return view
        chosen, waiting = state.waiting[:free], state.waiting[free:]
        for index, job in zip(chosen, self.jobs.many([sweep.job_ids[index] for index in chosen]), strict=True):
            self._begin(sweep, index, job)
        self._write(sweep.id, replace(state, waiting=waiting))
        return self._look(sweep.head)

    def _max_running(self, sweep: Sweep) -> int:
        asked = sweep.request.get("max_running")
        return int(asked) if asked else max(1, workers_alive(self.jobs.redis)["train"])

    def _begin(self, sweep: Sweep, index: int, job: Job | None) -> None:
        """Makes, resumes or retries the job of a member; one that is under way stays as it is."""
        member = sweep.members[index]
        if job is None:
            self.jobs.create(
                "train", member.request, id=sweep.job_ids[index], name=member.name, estimate=member.estimate
            )
            return
        with suppress(TransitionRefused, UnknownJob):
            if job.status == "paused":
                self.jobs.resume(job.id)
            elif job.status in ("failed", "cancelled"):
                self.jobs.retry(job.id)

    def _again(
        self, sweep_id: str, statuses: tuple[str, ...], hold: str, action: str, admit: Admit | None
    ) -> SweepView[JobState]:
        """Lets members wait again that are in one of some states, and releases the hold on the sweep.

        Args:
            sweep_id: Id of the sweep.
            statuses: The states of the members.
            hold: What the sweep may be held as.
            action: What was requested, for the error's text.
            admit: See `resume`.

        Raises:
            SweepRefused: The sweep is not held so and has no such member, or its members are just stopping.
            BeingDeleted: Something that the members need is being deleted.
            JustDeleted: Something that they need has just been deleted.
        """
        since = self.jobs.deletions.now()
        sweep = self.get(sweep_id)
        with self._lock(sweep_id):
            view = self._look(sweep.head)
            waiting = view.state.waiting
            chosen = [k for k, status in enumerate(view.statuses) if status in statuses and k not in set(waiting)]
            is_stopping, is_held = view.status in ("pausing", "cancelling"), view.state.hold == hold
            if is_stopping or not (is_held or (chosen and view.state.hold is None)):
                raise SweepRefused(sweep_id, view.status, action)
            if admit is not None:
                admit(SHARE, sweep_id)
            self._write(sweep_id, replace(view.state, hold=None, waiting=[*chosen, *waiting]))
            self._redis("sadd", OPEN, sweep_id)
            if view.status in FINISHED:
                try:
                    self.jobs.deletions.check(needs_of(sweep.request), since)
                except NeedDeleted:
                    self._write(sweep_id, view.state)
                    raise
            return self._conclude(self._release(sweep, self._look(sweep.head)))

    def _hold(self, view: SweepView[JobState], hold: str) -> SweepView[JobState]:
        """Releases no further members of a sweep, and stops those that run."""
        self._write(view.head.id, replace(view.state, hold=hold))
        return self._conclude(self._stop_members(self._look(view.head)))

    def _stop_members(self, view: SweepView[JobState]) -> SweepView[JobState]:
        """Pauses or cancels the members of a held sweep; one that changes at the same moment is left."""
        action = "pause" if view.state.hold == PAUSED else "cancel"
        statuses = ("running",) if view.state.hold == PAUSED else ("queued", "running", "pausing", "paused")
        for job in view.jobs:
            if job is not None and job.status in statuses:
                with suppress(TransitionRefused, UnknownJob):
                    getattr(self.jobs, action)(job.id)
        return self._look(view.head)

    def _delete_job(self, job_id: str) -> None:
        with suppress(UnknownJob):
            self.jobs.delete(job_id)

    # The end

    def _conclude(self, view: SweepView[JobState]) -> SweepView[JobState]:
        """Lets the models be compared once no member is live, and adds an event where the sweep's state has changed."""
        if (comparison := self._comparison_id(view)) is not None and view.comparison is None:
            request = {"sweep": {"id": view.head.id}, "models": [model for _, model in view.models]}
            self.jobs.create(KIND, request, id=comparison, name=view.head.name)
            if view.state.comparison is not None:
                with suppress(TransitionRefused):
                    self._delete_job(view.state.comparison)
            self._write(view.head.id, replace(view.state, comparison=comparison))
            view = self._look(view.head)
        num_ends = view.state.ends
        if view.event_state != view.state.last_event_state:
            state = replace(view.state, last_event_state=view.event_state)
            if view.is_finished:
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                state = replace(state, ends=state.ends + 1, ended_at=now)
            self._write(view.head.id, state)
            self._emit_event(view)
            view = self._look(view.head)
        if view.head.webhook and view.is_finished and view.state.ends > view.state.announced:
            self.jobs.announce(view.head.id, is_new=view.state.ends > num_ends)
        self._redis("srem" if view.is_finished else "sadd", OPEN, view.head.id)
        return view

    def end_notice(self, sweep_id: str, number: int) -> None:
        """Notes that the message of an end of a sweep needs no further attempt.

        Args:
            sweep_id: Id of the sweep.
            number: The number of the end (SweepState.ends).
        """
        with self._lock(sweep_id):
            state = self._stored_state(sweep_id)
            if state is not None:
                self._write(sweep_id, replace(state, announced=number))
            if state is None or state.ends == number:  # It has not ended again meanwhile.
                self.jobs.end_webhook(sweep_id)

    def _comparison_id(self, view: SweepView[JobState]) -> str | None:
        """Returns the id of the job that compares the models that there are; None while some are missing."""
        if view.is_live or not view.models:
            return None
        text = json.dumps([view.head.id, view.models])
        return f"c-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _emit_event(self, view: SweepView[JobState]) -> None:
        """Adds the sweep's state to its own log."""
        log.info("sweep %s: %s", view.head.id, view.status)
        data = {"progress": view.progress(), "winner": self.winner(view) if view.is_finished else None}
        at = str(int(datetime.now(UTC).timestamp() * 1000))
        entry = {"type": "sweep", "data": json.dumps(data), "status": view.status, "at": at}
        self._redis("xadd", f"{P}events:{view.head.id}", entry)


def _digest(name: str, request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, request], sort_keys=True).encode()).hexdigest()
