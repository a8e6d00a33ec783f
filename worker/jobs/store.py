"""The job store: records in Redis, what must last in the storage; free of torch.

The record is the truth. A queue message is a wake-up that carries only an id, and may come twice, late or never.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from worker.jobs import files as job_files
from worker.jobs import scripts as job_scripts
from worker.jobs.claims import Claim, Flags
from worker.jobs.connections import BLOCK_SECONDS, connect, connect_async, reaching_redis
from worker.jobs.records import (
    FINISHED,
    HELD,
    KINDS,
    STATES,
    TRANSITIONS,
    Event,
    IdempotencyConflict,
    Job,
    JobStoreUnavailable,
    StaleClaim,
    TransitionRefused,
    UnknownJob,
    event_from_entry,
    event_position,
    job_from_hash,
    new_job_id,
    valid_job_id,
)
from worker.stores.storage import Storage

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

P = job_scripts.PREFIX
MAX_LOSSES = 5
"""Workers in a row that may die on a job, without progress between, before it fails."""

log = logging.getLogger(__name__)

_Jobs = list[Job]
_Events = list[Event]
_Texts = list[str]
_Moves = list[tuple[str, str, str]]


class JobStore:
    """All that the service knows of jobs. Every method raises JobStoreUnavailable when Redis is away."""

    def __init__(
        self,
        client: Any,
        storage: Storage,
        *,
        send: Callable[[Job], None] | None = None,
        lease_seconds: float = 30.0,
    ) -> None:
        """Args: client, from `connect`; send, puts the wake-up of a queued job on its queue."""
        self.redis = client
        self.storage = storage
        self.lease_seconds = lease_seconds
        self._send = send
        self._scripts = {name: client.register_script(job_scripts.source(name)) for name in job_scripts.NAMES}

    # Asking

    def ping(self) -> None:
        """Returns when Redis answers."""
        self._redis("ping")

    def get(self, job_id: str) -> Job:
        """The job's record. Raises UnknownJob."""
        return job_from_hash(self._record(job_id))

    def list(
        self, kind: str | None = None, status: str | None = None, limit: int = 50, after: str | None = None
    ) -> _Jobs:
        """Jobs, the newest first.

        Args: kind and status, only those; after, the id of the last job of the page before.
        Raises: UnknownJob when `after` is none.
        """
        jobs = []
        position = self._position(after)
        for job_id, created_ms in self._newest_first(kind, status):
            if position is not None and (created_ms, job_id) >= position:
                continue
            record = self._redis("hgetall", f"{P}job:{job_id}")
            if record:
                jobs.append(job_from_hash(record))
            if len(jobs) == limit:
                break
        return jobs

    def counts(self) -> dict[str, int]:
        """Number of jobs in each state."""
        with reaching_redis():
            pipeline = self.redis.pipeline(transaction=False)
            for status in STATES:
                pipeline.zcard(f"{P}status:{status}")
            return dict(zip(STATES, pipeline.execute(), strict=True))

    def events(self, job_id: str, after: str | None = None, limit: int = 1000) -> _Events:
        """Entries of the job's log after the event id `after`, oldest first. Raises UnknownJob."""
        self._record(job_id)
        entries = self._redis("xrange", f"{P}events:{job_id}", f"({event_position(after)}", "+", limit)
        return [event_from_entry(entry) for entry in entries]

    def wait_events(self, job_id: str, after: str | None = None, seconds: float = 5.0) -> _Events:
        """As events, but when there are none yet, waits for one for so long; by a patient client. Raises UnknownJob."""
        self._record(job_id)
        milliseconds = max(1, int(min(seconds, BLOCK_SECONDS) * 1000))
        found = self._redis("xread", {f"{P}events:{job_id}": event_position(after)}, 1000, milliseconds)
        return [event_from_entry(entry) for _, entries in found or [] for entry in entries]

    # Making and changing

    def create(
        self,
        kind: str,
        request: dict[str, Any],
        *,
        id: str | None = None,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> Job:
        """Accepts a job: its file, then its record, then its message.

        Args: id, a name for the work, so that asking for it again gives the same job; idempotency_key, with which
        a client may repeat its request and get the first job again.
        Raises: IdempotencyConflict when the key came with another request.
        """
        assert kind in KINDS
        job_id = id or new_job_id()
        assert valid_job_id(job_id)
        digest = hashlib.sha256(json.dumps([kind, name, request], sort_keys=True).encode()).hexdigest()
        known = self._known(id, idempotency_key, digest)
        if known is not None:
            return known
        created = datetime.now(UTC)
        description = {
            "id": job_id,
            "kind": kind,
            "name": name,
            "created_at": created.isoformat(timespec="milliseconds"),
            "idempotency_key": idempotency_key,
            "request_digest": digest,
            "request": request,
        }
        self.ping()  # Nothing is written for a request that cannot be answered.
        job_files.write_request(self.storage, job_id, description)
        fields = ["name", name, "request", json.dumps(request)]
        if idempotency_key:
            fields += ["idempotency_key", idempotency_key]
        arguments = [job_id, kind, int(created.timestamp() * 1000), idempotency_key or "", digest, *fields]
        outcome, entry = self._run("create", *arguments)
        if outcome == "replayed":
            self.storage.delete(job_files.folder(job_id))
            return self._replayed(entry, digest)
        job = self.get(job_id)
        if outcome == "created":
            log.info("job %s: accepted (%s%s)", job_id, kind, f" {name!r}" if name else "")
            self.send(job)
        return job

    def _known(self, job_id: str | None, idempotency_key: str | None, digest: str) -> Job | None:
        if idempotency_key:
            entry = self._redis("hget", f"{P}idempotency", idempotency_key)
            if entry:
                return self._replayed(entry, digest)
        if job_id:
            try:
                return self.get(job_id)
            except UnknownJob:
                return None
        return None

    def _replayed(self, entry: str, digest: str) -> Job:
        job_id, _, first_digest = entry.partition(" ")
        if first_digest and first_digest != digest:
            raise IdempotencyConflict("The Idempotency-Key came with another request before.")
        return self.get(job_id)

    def send(self, job: Job) -> None:
        """Puts the job's wake-up on its queue; when that fails, the sweeper does it later."""
        if self._send is None:
            return
        try:
            self._send(job)
        except Exception as error:
            log.warning("job %s: no message could be sent (%s); the sweeper will", job.id, error)

    def cancel(self, job_id: str) -> Job:
        """Cancels a job that waits, or asks the worker that runs it to stop. Raises TransitionRefused."""
        status = self._transition(job_id, "cancelling", "be cancelled", also="cancelled")
        log.info("job %s: %s", job_id, "cancelled" if status not in HELD else "cancelling")
        return self.get(job_id)

    def pause(self, job_id: str) -> Job:
        """Asks the worker that runs a job to checkpoint and stop. Raises TransitionRefused."""
        self._transition(job_id, "pausing", "be paused")
        log.info("job %s: pausing", job_id)
        return self.get(job_id)

    def resume(self, job_id: str) -> Job:
        """Puts a paused job back into the queue. Raises TransitionRefused."""
        return self._requeue(job_id, ("paused",), "be resumed")

    def retry(self, job_id: str) -> Job:
        """Puts a failed or cancelled job back into the queue; it goes on from its last checkpoint."""
        return self._requeue(job_id, ("failed", "cancelled"), "be retried")

    def delete(self, job_id: str) -> None:
        """Removes a finished job and its files, not the model that it made. Raises TransitionRefused."""
        self._record(job_id)
        outcome, status = self._run("delete", job_id)
        if outcome == "refused":
            raise TransitionRefused(job_id, status, "be deleted; cancel it first")
        self.storage.delete(job_files.folder(job_id))

    def _requeue(self, job_id: str, sources: tuple[str, ...], action: str) -> Job:
        self._move(job_id, sources, "queued", action, fields=["losses", "0"])
        log.info("job %s: queued again", job_id)
        job = self.get(job_id)
        self.send(job)
        return job

    def _transition(self, job_id: str, to: str, action: str, also: str | None = None) -> str:
        """Moves a job to `to`, or from states that lead only there, to `also`. Returns the state before."""
        if also:
            direct = tuple(s for s in STATES if also in TRANSITIONS[s] and s not in HELD)
            try:
                return self._move(job_id, direct, also, action)
            except TransitionRefused as refused:
                if refused.status not in HELD:
                    raise
        return self._move(job_id, tuple(s for s in STATES if to in TRANSITIONS[s]), to, action)

    def _move(self, job_id: str, sources: tuple[str, ...], to: str, action: str, fields: _Texts | None = None) -> str:
        self._record(job_id)
        outcome, status = self._run("transition", job_id, " ".join(sources), to, "", "{}", *(fields or []))
        if outcome == "unknown":
            raise UnknownJob(job_id)
        if outcome == "refused":
            raise TransitionRefused(job_id, status, action)
        self.store_state(job_id)
        return str(status)

    # Working

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """The right to work on a job that waits; None when it does not wait (the message came twice, or late).

        Raises: UnknownJob.
        """
        record = self._record(job_id)
        if record["kind"] == "train" and int(record["version"]) < job_files.stored_version(self.storage, job_id):
            self.restore(job_id)  # Redis lost its last second; the fence must not start again.
        fence = self._run("claim", job_id, worker, self._lease_ms)
        if fence is None:
            return None
        job = self.get(job_id)
        if job.kind == "train":
            self.store_state(job_id)
        log.info("job %s: running (%s, attempt %d)", job_id, job.kind, job.attempts)
        return Claim(self, job, worker, int(fence))

    def commit_claim(
        self, claim: Claim, event_type: str, data: dict[str, Any], step: int | None, fields: dict[str, str]
    ) -> str:
        """Renews a claim's lease and records what its holder reports. Returns the job's state. Raises StaleClaim."""
        step_text = "" if step is None else str(step)
        arguments = [claim.id, claim.fence, self._lease_ms, event_type, json.dumps(data), step_text, *_pairs(fields)]
        status = self._run("commit", *arguments)
        if status is None and self._lost_by_redis(claim.id):
            status = self._run("commit", *arguments)
        if status is None:
            raise StaleClaim(f"job {claim.id} has another holder")
        return str(status)

    def end_claim(self, claim: Claim, to: str, data: dict[str, Any], fields: dict[str, str]) -> str:
        """Takes a held job to its next state, or where a wish that came meanwhile leads. Raises StaleClaim.

        Returns: the new state: cancelled when the job was cancelling; paused when it was pausing.
        """
        instead = {"pausing": "paused", "cancelling": "cancelled"}
        for _ in range(3):
            sources = " ".join(s for s in HELD if to in TRANSITIONS[s])
            arguments = [claim.id, sources, to, claim.fence, json.dumps(data), *_pairs(fields)]
            outcome, status = self._run("transition", *arguments)
            if outcome == "stale" and self._lost_by_redis(claim.id):
                continue
            if outcome == "stale":
                raise StaleClaim(f"job {claim.id} has another holder")
            if outcome == "ok":
                self.store_state(claim.id)
                if to == "queued":
                    self.send(self.get(claim.id))
                return to
            if status not in instead:
                raise TransitionRefused(claim.id, status, f"become {to}")
            to, data, fields = instead[status], {}, {}
        raise StaleClaim(f"job {claim.id} could not be ended")

    def _lost_by_redis(self, job_id: str) -> bool:
        """Whether Redis had forgotten a job that the storage knows; it is restored then."""
        return not self._redis("exists", f"{P}job:{job_id}") and self.restore(job_id)

    # What lasts

    def store_state(self, job_id: str) -> None:
        """Writes the job's last transition into the storage; what fails is tried again by the sweeper."""
        for _ in range(5):
            record = self._redis("hgetall", f"{P}job:{job_id}")
            if not record:
                return
            try:
                if record["kind"] == "train" or record["status"] not in HELD:
                    job_files.write_state(self.storage, job_id, record)
            except OSError as error:
                log.warning("job %s: its state could not be stored (%s); trying again later", job_id, error)
                return
            if self._run("stored", job_id, record["version"]):
                return

    def restore(self, job_id: str) -> bool:
        """Puts a record back from the storage when Redis knows none, or an older one. Returns whether it did."""
        stored = job_files.read_job(self.storage, job_id)
        if stored is None:
            return False
        arguments = [stored.id, stored.kind, stored.created_ms, stored.status, stored.version, self._lease_ms]
        entry = f"{stored.id} {stored.request_digest}"
        done = self._run("restore", *arguments, stored.idempotency_key, entry, *_pairs(stored.fields))
        if done:
            log.info("job %s: restored from the storage as %s", job_id, stored.status)
        return bool(done)

    def rebuild(self) -> int:
        """Restores every job that the storage knows better than Redis does. Returns how many.

        Runs at start, and whenever Redis is not the one that it was.
        """
        restored = 0
        for job_id in self.storage.list("jobs"):
            if not valid_job_id(job_id):
                continue
            version = self._redis("hget", f"{P}job:{job_id}", "version")
            if version is None or int(version) < job_files.stored_version(self.storage, job_id):
                restored += self.restore(job_id)
        self._redis("set", f"{P}built", "1")
        return restored

    def is_built(self) -> bool:
        """Whether Redis holds what a rebuild put there: not so once it was wiped."""
        return bool(self._redis("exists", f"{P}built"))

    def expire_leases(self) -> _Moves:
        """Takes jobs from workers that gave no sign of life. Returns (id, old state, new state) of each."""
        moved = [(str(i), str(old), str(new)) for i, old, new in self._run("expire", MAX_LOSSES)]
        for job_id, _, _ in moved:
            self.store_state(job_id)
        return moved

    def unstored(self) -> _Texts:
        """Jobs whose last transition the storage may not have."""
        return sorted(self._redis("smembers", f"{P}unstored"))

    # Inside

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    def _record(self, job_id: str) -> dict[str, str]:
        if not valid_job_id(job_id):
            raise UnknownJob(job_id)
        record: dict[str, str] = self._redis("hgetall", f"{P}job:{job_id}")
        if not record and self.restore(job_id):
            record = self._redis("hgetall", f"{P}job:{job_id}")
        if not record:
            raise UnknownJob(job_id)
        return record

    def _position(self, after: str | None) -> tuple[int, str] | None:
        if not self.is_built():
            self.rebuild()
        if after is None:
            return None
        return int(self._record(after)["created_at"]), after

    def _newest_first(self, kind: str | None, status: str | None) -> Iterator[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        wanted = set(self._redis("zrange", f"{P}status:{status}", 0, -1)) if status else None
        for one in (kind,) if kind else KINDS:
            entries = self._redis("zrange", f"{P}kind:{one}", 0, -1, withscores=True)
            found += [(job_id, int(score)) for job_id, score in entries if wanted is None or job_id in wanted]
        yield from sorted(found, key=lambda pair: (pair[1], pair[0]), reverse=True)

    def _redis(self, method: str, *arguments: Any, **options: Any) -> Any:
        with reaching_redis():
            return getattr(self.redis, method)(*arguments, **options)

    def _run(self, script: str, *arguments: Any) -> Any:
        with reaching_redis():
            return self._scripts[script](args=arguments)


def _pairs(fields: dict[str, str]) -> _Texts:
    return [text for pair in fields.items() for text in pair]
