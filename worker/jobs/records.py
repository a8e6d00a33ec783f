"""Jobs: their states, the table of transitions, their records, events and errors.

This module loads no torch.
"""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

QUEUE_OF_KIND = {
    "train": "train",
    "traversal": "render",
    "dataset": "render",
    "evaluation": "train",
    "comparison": "train",
}
"""The queue of each kind of job.

An evaluation and the comparison of a sweep take a device and minutes, so they wait among the trainings. A packing would
wait for hours behind a training, so it is on the render queue; a worker packs one data set at a time."""
KINDS = tuple(QUEUE_OF_KIND)
QUEUES = ("train", "render")
"""The queues of jobs, one for each kind of worker process."""
CALLS = "calls"
"""The queue of calls that clients wait for, which a render worker consumes beside its jobs."""

TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "queued", "pausing", "cancelling"}),
    "pausing": frozenset({"paused"}),
    "paused": frozenset({"queued", "cancelled"}),
    "cancelling": frozenset({"cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
}
"""Each state and the states that may follow it; every other transition is refused."""

STATES = tuple(TRANSITIONS)
HELD = ("running", "pausing", "cancelling")
"""States in which a worker holds the job under a lease."""
FINISHED = ("succeeded", "failed", "cancelled")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
FIRST_EVENT = "0-0"


class UnknownJob(KeyError):
    """There is no job with this id."""

    def __str__(self) -> str:
        return f"There is no job with the id {self.args[0]}."


def state_text(status: str) -> str:
    """Returns the predicate of a sentence about a state, such as "is paused" or "has failed"."""
    return f"{'has' if status in ('succeeded', 'failed') else 'is'} {status}"


class TransitionRefused(ValueError):
    """The job's state does not allow the requested action."""

    def __init__(self, job_id: str, status: str, action: str) -> None:
        super().__init__(f"Job {job_id} {state_text(status)}; it cannot {action}.")
        self.job_id, self.status, self.action = job_id, status, action


class IdempotencyConflict(ValueError):
    """The idempotency key was sent with a different request before."""


class StaleClaim(RuntimeError):
    """The claim's fence is old or its job is gone; the holder must stop and commit nothing."""


class JobStoreUnavailable(ConnectionError):
    """Redis does not answer, or cannot write."""


class JobStoreReadOnly(JobStoreUnavailable):
    """Redis answers, but refuses to change anything, since it cannot write its own file: its disk is full."""


def new_job_id() -> str:
    """Returns a new id that cannot be guessed."""
    return f"j-{secrets.token_hex(8)}"


def job_id_of_key(idempotency_key: str, generation: int = 0) -> str:
    """Returns the id of the one job that an Idempotency-Key makes, whatever crashes between two requests.

    Args:
        idempotency_key: The key.
        generation: The number of jobs of this key that were deleted.
    """
    return f"j-{hashlib.sha256(f'{generation} {idempotency_key}'.encode()).hexdigest()[:16]}"


def valid_job_id(job_id: str) -> bool:
    """Returns whether a text can be the id of a job."""
    return _ID.fullmatch(job_id) is not None


def event_position(last_event_id: str | None) -> str:
    """Returns a position in an event log. A text that a client sent and that is not a position means the beginning."""
    if not last_event_id or not _EVENT_ID.fullmatch(last_event_id):
        return FIRST_EVENT
    return last_event_id if all(int(part) < 2**64 for part in last_event_id.split("-")) else FIRST_EVENT


def iso(milliseconds: int | str | None) -> str | None:
    """Returns a time of the Redis server, in milliseconds since 1970, as ISO 8601 in UTC."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Event:
    """One entry of a job's durable log.

    `type` is a state, or estimate, progress, packing, packed, resumed, started_from, checkpoint, warning, model (it was
    registered) or evaluating.
    """

    id: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class JobState:
    """The fields of a job's record that say how far it is."""

    id: str
    kind: str
    status: str
    progress: dict[str, Any] = field(default_factory=dict)
    """The last reported step, num_steps, fraction, images_per_second, eta_seconds, phase and phase_fraction."""
    attempts: int = 0
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job(JobState):
    """A job as it is recorded. Times are ISO 8601 in UTC, by the clock of Redis."""

    request: dict[str, Any]
    name: str = ""
    estimate: dict[str, Any] | None = None
    """The length of a training: num_steps, seconds, passes, and settled, which says whether num_steps is fixed."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """The last reported reconstruction_loss, kl, kl_per_dimension, capacity and others."""
    resumed_from_step: int | None = None
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    warnings: list[str] = field(default_factory=list)
    worker: str | None = None
    fence: int = 0
    version: int = 0
    """The number of transitions that the job has made."""
    idempotency_key: str | None = None
    request_id: str | None = None
    """The id of the HTTP request that made the job; None where the command line made it."""
    created_at: str | None = None
    started_at: str | None = None
    updated_at: str | None = None
    finished_at: str | None = None

    @property
    def queue(self) -> str:
        """The queue that the job waits in."""
        return QUEUE_OF_KIND[self.kind]

    @property
    def is_finished(self) -> bool:
        """True if the job has succeeded, failed or been cancelled."""
        return self.status in FINISHED

    def _whole_progress(self) -> dict[str, Any]:
        """Returns every field of the progress.

        The length of a training is known before it begins, unless it is given in epochs, or open and not settled.
        """
        progress = {**EMPTY_PROGRESS, **self.progress}
        config = self.request.get("config") if self.kind == "train" else None
        if progress["num_steps"] is None and self.request.get("length") is not None:
            progress["num_steps"] = (self.estimate or {}).get("num_steps")
        elif progress["num_steps"] is None and config and config.get("num_epochs") is None:
            progress["num_steps"] = config.get("num_steps")
        if self.status not in HELD:
            progress |= {"phase": None, "phase_fraction": None}
        return progress

    def to_json(self) -> dict[str, Any]:
        """Returns the public fields; the HTTP layer adds `links`."""
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            "request": self.request,
            "estimate": self.estimate,
            "progress": self._whole_progress(),
            "metrics": {**EMPTY_METRICS, **self.metrics},
            "attempts": self.attempts,
            "resumed_from_step": self.resumed_from_step,
            "model": self.model,
            "result": self.result,
            "error": self.error,
            "warnings": self.warnings,
            "worker": self.worker,
            "request_id": self.request_id,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "updated_at": self.updated_at,
            "finished_at": self.finished_at,
        }


EMPTY_PROGRESS: dict[str, Any] = {
    "step": 0,
    "num_steps": None,
    "fraction": 0.0,
    "images_per_second": None,
    "eta_seconds": None,
    "phase": None,
    "phase_fraction": None,
}
EMPTY_METRICS: dict[str, Any] = {
    "reconstruction_loss": None,
    "kl": None,
    "kl_per_dimension": None,
    "capacity": None,
}

_JSON_FIELDS = ("request", "estimate", "progress", "metrics", "result", "error", "warnings")
_INT_FIELDS = ("attempts", "resumed_from_step", "fence", "version")
_TIME_FIELDS = ("created_at", "started_at", "updated_at", "finished_at")
STATE_FIELDS = tuple(one.name for one in fields(JobState))


def job_from_hash(record: dict[str, str]) -> Job:
    """Makes a job from the fields of its Redis hash."""
    return Job(**_read(record) | {name: iso(record.get(name)) for name in _TIME_FIELDS})


def state_from_hash(record: dict[str, str]) -> JobState:
    """Makes a job's state from those fields of its Redis hash that it has (STATE_FIELDS)."""
    return JobState(**_read(record))


def _read(record: dict[str, str]) -> dict[str, Any]:
    """Returns the values of a record by field, without its times."""
    values: dict[str, Any] = {}
    for name in ("id", "kind", "status", "name", "model", "worker", "idempotency_key", "request_id"):
        if name in record:
            values[name] = record[name]
    for name in _JSON_FIELDS:
        if name in record:
            values[name] = json.loads(record[name])
    for name in _INT_FIELDS:
        if name in record:
            values[name] = int(record[name])
    return values


def event_from_entry(entry: tuple[str, dict[str, str]]) -> Event:
    """Makes an event from an entry of a Redis stream."""
    event_id, fields = entry
    data = json.loads(fields["data"])
    return Event(event_id, fields["type"], {**data, "status": fields["status"], "at": iso(fields["at"])})
