"""The job store, which makes, changes and deletes jobs. This module loads no torch.

The record is the truth. A queue message is a wake-up that carries only an id, and may come twice, late or never.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from worker.jobs import files as job_files
from worker.jobs.claims import Claim, Flags
from worker.jobs.connections import connect, connect_async
from worker.jobs.deletions import BeingDeleted, JustDeleted, NeedDeleted, needs_of
from worker.jobs.durable import P
from worker.jobs.held import HeldJobs
from worker.jobs.records import (
    FINISHED,
    HELD,
    KINDS,
    STATES,
    TRANSITIONS,
    Event,
    IdempotencyConflict,
    Job,
    JobStoreReadOnly,
    JobStoreUnavailable,
    StaleClaim,
    TransitionRefused,
    UnknownJob,
    job_id_of_key,
    new_job_id,
    valid_job_id,
)
from worker.stores.logs import REQUEST_ID

__all__ = [
    "FINISHED",
    "HELD",
    "STATES",
    "TRANSITIONS",
    "Claim",
    "Event",
    "Flags",
    "IdempotencyConflict",
    "Job",
    "JobStore",
    "JobStoreUnavailable",
    "StaleClaim",
    "TransitionRefused",
    "UnknownJob",
    "connect",
    "connect_async",
]

READ_ONLY_RETRIES = 5
"""Attempts, half a second apart, to remove a record of a Redis whose disk was full."""

Admit = Callable[[str, str], None]

log = logging.getLogger(__name__)


class JobStore(HeldJobs):
    """Makes, changes, claims and deletes jobs. Every method raises JobStoreUnavailable when Redis is away."""

    def create(
        self,
        kind: str,
        request: dict[str, Any],
        *,
        id: str | None = None,
        name: str = "",
        idempotency_key: str | None = None,
        estimate: dict[str, Any] | None = None,
        admit: Admit | None = None,
        since: int | None = None,
    ) -> Job:
        """Accepts a job: writes its file, then its record, then sends its message.

        All three carry the id of the HTTP request that is being answered (worker.stores.logs).

        Args:
            kind: Kind of the job.
            request: What to do, as JSON types.
            id: Id that follows from the work, so that the same request gives the same job; None makes a new id.
            name: Name of the job for people.
            idempotency_key: Key with which a client may repeat its request and get the first job again.
            estimate: Estimate of a training. It is no part of the request, which may be repeated when it has changed.
            admit: Called with kind and id before a job is made that is not known yet; it may refuse by raising.
            since: When the caller began to look at what the job needs (Deletions.now); None asks for no check.

        Raises:
            IdempotencyConflict: The key was sent with a different request before.
            BeingDeleted: Something that the job needs is being deleted.
            JustDeleted: Something that the job needs was deleted after `since`.
        """
        assert kind in KINDS
        job_id = id or (self._id_of_key(idempotency_key) if idempotency_key else new_job_id())
        assert valid_job_id(job_id)
        digest = _digest(kind, name, request)
        known = self._known(job_id, idempotency_key, digest)
        if known is not None:
            return known
        if admit is not None:
            admit(kind, job_id)
        created = datetime.now(UTC)
        description = {
            "id": job_id,
            "kind": kind,
            "name": name,
            "created_at": created.isoformat(timespec="milliseconds"),
            "idempotency_key": idempotency_key,
            "request_id": REQUEST_ID.get(),
            "request_digest": digest,
            "request": request,
            "estimate": estimate,
        }
        self.ping()  # While Redis is away, nothing is written.
        if not job_files.write_request(self.storage, job_id, description):
            # Another request with this key was first, or Redis was lost before it knew the job.
            self.restore(job_id)
        arguments = [job_id, kind, int(created.timestamp() * 1000), idempotency_key or "", digest]
        needs = " ".join(":".join(need) for need in needs_of(request))
        arguments += ["" if since is None else since, needs]
        outcome, entry = self._run("create", *arguments, *_record_fields(description))
        if outcome in ("deleting", "deleted"):
            self.storage.delete(job_files.folder(job_id))
            raise (BeingDeleted if outcome == "deleting" else JustDeleted)(*entry.split(":", 1))
        if outcome == "replayed":
            if not entry.startswith(f"{job_id} "):  # The key's job was made by a version that chose ids at random.
                self.storage.delete(job_files.folder(job_id))
            return self._replayed(entry, digest)
        job = self.get(job_id)
        if idempotency_key:
            _check_same(job, digest)
        if outcome == "created":
            log.info("job %s: accepted (%s%s)", job_id, kind, f" {name!r}" if name else "")
            self.send(job)
        return job

    def _id_of_key(self, idempotency_key: str) -> str:
        if not self.is_built():  # The storage may have a later job of the key, whose earlier one was deleted.
            self.rebuild()
        generation = self._redis("hget", f"{P}generations", idempotency_key) or 0
        return job_id_of_key(idempotency_key, int(generation))

    def _known(self, job_id: str, idempotency_key: str | None, digest: str) -> Job | None:
        """Returns the job that an earlier request with the same id or key made."""
        if idempotency_key:
            entry = self._redis("hget", f"{P}idempotency", idempotency_key)
            if entry:
                return self._replayed(entry, digest)
        try:
            job = self.get(job_id)
        except UnknownJob:
            return None
        if idempotency_key:
            _check_same(job, digest)
        return job

    def _replayed(self, entry: str, digest: str) -> Job:
        job_id, _, first_digest = entry.partition(" ")
        if first_digest and first_digest != digest:
            raise IdempotencyConflict("The Idempotency-Key was sent with a different request before.")
        return self.get(job_id)

    def cancel(self, job_id: str) -> Job:
        """Cancels a job that waits, or asks the worker that holds it to stop.

        Raises:
            TransitionRefused: The job has finished.
            UnknownJob: There is no such job.
        """
        status = self._transition(job_id, "cancelling", "be cancelled", also="cancelled")
        log.info("job %s: %s", job_id, "cancelled" if status not in HELD else "cancelling")
        return self.get(job_id)

    def pause(self, job_id: str) -> Job:
        """Asks the worker that holds a job to write a checkpoint and stop.

        Raises:
            TransitionRefused: The job is not running.
            UnknownJob: There is no such job.
        """
        self._transition(job_id, "pausing", "be paused")
        log.info("job %s: pausing", job_id)
        return self.get(job_id)

    def resume(self, job_id: str, *, admit: Admit | None = None) -> Job:
        """Requeues a paused job.

        Args:
            job_id: Id of the job.
            admit: Called with kind and id before the job is requeued; it may refuse by raising.

        Raises:
            TransitionRefused: The job is not paused.
            UnknownJob: There is no such job.
        """
        return self._requeue(job_id, ("paused",), "be resumed", admit)

    def retry(self, job_id: str, *, admit: Admit | None = None) -> Job:
        """Requeues a failed or cancelled job, which goes on from its last checkpoint.

        Args:
            job_id: Id of the job.
            admit: See `resume`.

        Raises:
            TransitionRefused: The job has neither failed nor been cancelled.
            BeingDeleted: Something that the job needs is being deleted.
            JustDeleted: Something that it needs has just been deleted.
            UnknownJob: There is no such job.
        """
        return self._requeue(job_id, ("failed", "cancelled"), "be retried", admit)

    def finish(self, job_id: str, *, admit: Admit | None = None) -> Job:
        """Asks a training that has begun to cool down from where it is and to end with a model.

        A job that was paused or cancelled, or that failed, is requeued for it.

        Args:
            job_id: Id of the job.
            admit: See `resume`; it is not called for a job that waits or runs.

        Raises:
            TransitionRefused: The job has not begun, or has succeeded, or is just being paused or cancelled.
            BeingDeleted: Something that the job needs is being deleted.
            JustDeleted: Something that it needs has just been deleted.
        """
        record = self._record(job_id)
        since = self.deletions.now()
        if admit is not None and "started_at" in record and record["status"] in ("paused", "failed", "cancelled"):
            admit(record["kind"], job_id)
        outcome, status = self._run("finish", job_id)
        if outcome == "refused":
            raise TransitionRefused(job_id, status, "finish: only a training that has begun can")
        self.store_state(job_id)
        job = self.get(job_id)
        if record["status"] in FINISHED:
            self._check_needs(job, since)
        log.info("job %s: finishing", job_id)
        if job.status == "queued":
            self.send(job)
        return job

    def delete(self, job_id: str) -> None:
        """Removes a finished job and its files, but not the model that it made.

        Raises:
            TransitionRefused: The job has not finished.
            UnknownJob: There is no such job.
        """
        record = self._record(job_id)
        try:
            outcome, status = self._run("delete", job_id)
        except JobStoreReadOnly:
            if record["status"] not in FINISHED:
                raise
            outcome, status = self._delete_on_full_disk(job_id)
        if outcome == "refused":
            raise TransitionRefused(job_id, status, "be deleted; cancel it first")
        self.storage.delete(job_files.folder(job_id))

    def _delete_on_full_disk(self, job_id: str) -> Any:
        """Removes the large files of a finished job first, for a Redis that can write nothing until there is room.

        Returns:
            The answer of the script `delete`.
        """
        for name in self.storage.list(job_files.folder(job_id)):
            if not name.endswith(".json"):
                self.storage.delete(f"{job_files.folder(job_id)}/{name}")
        for _ in range(READ_ONLY_RETRIES):  # Redis tries to write its file again every second.
            try:
                return self._run("delete", job_id)
            except JobStoreReadOnly:
                time.sleep(0.5)
        return self._run("delete", job_id)

    def _requeue(self, job_id: str, sources: tuple[str, ...], action: str, admit: Admit | None) -> Job:
        record = self._record(job_id)
        if record["status"] not in sources:
            raise TransitionRefused(job_id, record["status"], action)
        since = self.deletions.now()
        if admit is not None:
            admit(record["kind"], job_id)
        self._move(job_id, sources, "queued", action, fields=["losses", "0", "stalls", "0"])
        job = self.get(job_id)
        if record["status"] in FINISHED:
            self._check_needs(job, since)
        log.info("job %s: queued again", job_id)
        self.send(job)
        return job

    def _check_needs(self, job: Job, since: int) -> None:
        """Cancels a finished job that has just been requeued if something that it needs is deleted.

        A deletion that has begun by now is seen here; a later one sees that the job needs it.

        Raises:
            BeingDeleted: Something is being deleted.
            JustDeleted: Something was deleted after `since`.
        """
        try:
            self.deletions.check(needs_of(job.request), since)
        except NeedDeleted:
            self.cancel(job.id)
            raise

    def _transition(self, job_id: str, to: str, action: str, also: str | None = None) -> str:
        """Moves a job to a state and returns the state that it was in.

        Args:
            job_id: Id of the job.
            to: The new state of a held job.
            action: What was requested, for the error's text.
            also: The new state of a job that nobody holds; None refuses such a job.
        """
        if also:
            direct = tuple(s for s in STATES if also in TRANSITIONS[s] and s not in HELD)
            try:
                return self._move(job_id, direct, also, action)
            except TransitionRefused as refused:
                if refused.status not in HELD:
                    raise
        return self._move(job_id, tuple(s for s in STATES if to in TRANSITIONS[s]), to, action)

    def _move(
        self, job_id: str, sources: tuple[str, ...], to: str, action: str, fields: list[str] | None = None
    ) -> str:
        """Moves a job to a state from one of `sources`; returns the state that it was in."""
        self._record(job_id)
        outcome, status = self._run("transition", job_id, " ".join(sources), to, "", "{}", *(fields or []))
        if outcome == "unknown":
            raise UnknownJob(job_id)
        if outcome == "refused":
            raise TransitionRefused(job_id, status, action)
        self.store_state(job_id)
        return str(status)


def _record_fields(description: dict[str, Any]) -> list[str]:
    """Returns names and values of the fields of a new job's record, in turn."""
    request = description["request"]
    fields = {
        "name": description["name"],
        "request": json.dumps(request),
        "estimate": None if description["estimate"] is None else json.dumps(description["estimate"]),
        "idempotency_key": description["idempotency_key"] or None,
        "webhook": "1" if request.get("webhook") else None,
        "request_id": description["request_id"] or None,
    }
    return [text for name, value in fields.items() if value is not None for text in (name, value)]


def _digest(kind: str, name: str, request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([kind, name, request], sort_keys=True).encode()).hexdigest()


def _check_same(job: Job, digest: str) -> None:
    """Checks that a job was made by a request with this digest.

    Raises:
        IdempotencyConflict: It was not.
    """
    if _digest(job.kind, job.name, job.request) != digest:
        raise IdempotencyConflict("The Idempotency-Key was sent with a different request before.")
