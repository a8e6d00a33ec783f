"""What a job is: states, the table of transitions, the record, its events, and what can go wrong; free of torch."""

import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

KINDS = ("train", "traversal", "dataset", "evaluation")
QUEUE_OF_KIND = {"train": "train", "traversal": "render", "dataset": "render", "evaluation": "train"}
"""An evaluation takes a device and minutes, so it waits its turn among the trainings.

Packing is on the render queue, since it would wait for hours behind a training; a worker packs one at a time."""
QUEUES = ("train", "render")

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
"""Every state, and the states that may follow it. Anything else is refused."""

STATES = tuple(TRANSITIONS)
HELD = ("running", "pausing", "cancelling")
"""States in which a worker holds the job by a lease."""
FINISHED = ("succeeded", "failed", "cancelled")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
FIRST_EVENT = "0-0"


class UnknownJob(KeyError):
    """There is no job with this id."""

    def __str__(self) -> str:
        return f"There is no job with the id {self.args[0]}."


class TransitionRefused(ValueError):
    """The job's state does not allow what was asked."""

    def __init__(self, job_id: str, status: str, action: str) -> None:
        super().__init__(f"Job {job_id} is {status}; it cannot {action}.")
        self.job_id, self.status, self.action = job_id, status, action


class IdempotencyConflict(ValueError):
    """The idempotency key came with another request before."""


class StaleClaim(RuntimeError):
    """The claim's fence is old or its job is gone: whoever holds it must stop and commit nothing."""


class JobStoreUnavailable(ConnectionError):
    """Redis does not answer, or cannot write."""


def new_job_id() -> str:
    """A new id that nobody can guess."""
    return f"j-{secrets.token_hex(8)}"


def valid_job_id(job_id: str) -> bool:
    """Whether the text can be a job's id; anything else is an unknown job."""
    return _ID.fullmatch(job_id) is not None


def event_position(last_event_id: str | None) -> str:
    """A position in an event log; what is no position (a client sent it) means the beginning."""
    return last_event_id if last_event_id and _EVENT_ID.fullmatch(last_event_id) else FIRST_EVENT


def iso(milliseconds: int | str | None) -> str | None:
    """A server time as ISO 8601, UTC."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Event:
    """One entry of a job's durable log. `type` is a state, or progress, packing, resumed, started_from, checkpoint,
    warning, model (registered), evaluating."""

    id: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is recorded. Times are ISO 8601, UTC, by the clock of Redis."""

    id: str
    kind: str
    status: str
    request: dict[str, Any]
    name: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    """step, num_steps, fraction, images_per_second, eta_seconds; phase, and phase_fraction where it is another."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """reconstruction_loss, kl, kl_per_dimension, capacity and more, as last reported."""
    attempts: int = 0
    resumed_from_step: int | None = None
    model: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    warnings: list[str] = field(default_factory=list)
    worker: str | None = None
    fence: int = 0
    idempotency_key: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    updated_at: str | None = None
    finished_at: str | None = None

    @property
    def queue(self) -> str:
        return QUEUE_OF_KIND[self.kind]

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    def _whole_progress(self) -> dict[str, Any]:
        """Every field of the progress. The length of a training is known before it begins, unless it is in epochs."""
        progress = {**EMPTY_PROGRESS, **self.progress}
        config = self.request.get("config") if self.kind == "train" else None
        if progress["num_steps"] is None and config and config.get("num_epochs") is None:
            progress["num_steps"] = config.get("num_steps")
        if self.status not in HELD:
            progress |= {"phase": None, "phase_fraction": None}
        return progress

    def to_json(self) -> dict[str, Any]:
        """The public fields; `links` are the HTTP layer's."""
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            "request": self.request,
            "progress": self._whole_progress(),
            "metrics": {**EMPTY_METRICS, **self.metrics},
            "attempts": self.attempts,
            "resumed_from_step": self.resumed_from_step,
            "model": self.model,
            "result": self.result,
            "error": self.error,
            "warnings": self.warnings,
            "worker": self.worker,
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

_JSON_FIELDS = ("request", "progress", "metrics", "result", "error", "warnings")
_INT_FIELDS = ("attempts", "resumed_from_step", "fence")
_TIME_FIELDS = ("created_at", "started_at", "updated_at", "finished_at")


def job_from_hash(record: dict[str, str]) -> Job:
    """A job from the fields of its Redis hash."""
    values: dict[str, Any] = {}
    for name in ("id", "kind", "status", "name", "model", "worker", "idempotency_key"):
        if name in record:
            values[name] = record[name]
    for name in _JSON_FIELDS:
        if name in record:
            values[name] = json.loads(record[name])
    for name in _INT_FIELDS:
        if name in record:
            values[name] = int(record[name])
    for name in _TIME_FIELDS:
        values[name] = iso(record.get(name))
    return Job(**values)


def event_from_entry(entry: tuple[str, dict[str, str]]) -> Event:
    """An event from a Redis stream entry."""
    event_id, fields = entry
    data = json.loads(fields["data"])
    return Event(event_id, fields["type"], {**data, "status": fields["status"], "at": iso(fields["at"])})
