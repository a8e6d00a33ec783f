"""Sweeps, and their states, which follow from those of their members. This module loads no torch."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Self, TypeVar

from worker.jobs.records import FINISHED, HELD, Job, JobState, TransitionRefused, state_text

FORMAT_VERSION = 1
PAUSED, CANCELLED = "paused", "cancelled"
"""Reasons to hold a sweep, which then releases none of its waiting members."""
DELETED = "deleted"
"""The state of a member whose job was deleted."""

AnyJob = TypeVar("AnyJob", bound=JobState, covariant=True)


class UnknownSweep(KeyError):
    """There is no sweep with this id."""

    def __str__(self) -> str:
        return f"There is no sweep with the id {self.args[0]}."


class SweepRefused(TransitionRefused):
    """The sweep's state does not allow the requested action."""

    def __init__(self, sweep_id: str, status: str, action: str) -> None:
        super().__init__(sweep_id, status, action)
        self.args = (f"Sweep {sweep_id} {state_text(status)}; it cannot {action}.",)


def new_sweep_id() -> str:
    """Returns a new id that cannot be guessed."""
    return f"s-{secrets.token_hex(8)}"


def sweep_id_of_key(idempotency_key: str, generation: int) -> str:
    """Returns the id of the one sweep that an Idempotency-Key makes.

    Args:
        idempotency_key: The key.
        generation: The number of sweeps of this key that were deleted.
    """
    return f"s-{hashlib.sha256(f'sweep {generation} {idempotency_key}'.encode()).hexdigest()[:16]}"


def member_job_id(sweep_id: str, index: int) -> str:
    """Returns the id of a member's job, so that a member that is released twice is one job."""
    return f"j-{hashlib.sha256(f'{sweep_id} {index}'.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training of a sweep: the settings in which it differs, and its job as it will be made."""

    name: str
    settings: dict[str, Any]
    request: dict[str, Any]
    estimate: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class SweepHead:
    """What a list shows of a sweep, without the settings of its members."""

    id: str
    name: str
    created_at: str
    """ISO 8601 in UTC."""
    dataset: str
    num_members: int
    webhook: bool = False
    """Whether a message is sent to an address when it ends."""

    @property
    def job_ids(self) -> list[str]:
        """The ids of the members' jobs, which exist once they are released."""
        return [member_job_id(self.id, index) for index in range(self.num_members)]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as it was accepted, which never changes."""

    id: str
    name: str
    created_at: str
    """ISO 8601 in UTC."""
    request: dict[str, Any]
    """What was asked for: dataset, preset, config, grid or members, evaluate, max_running, make_default and webhook."""
    members: list[Member]
    request_digest: str = ""

    @property
    def head(self) -> SweepHead:
        """What a list shows of it."""
        return SweepHead(
            id=self.id,
            name=self.name,
            created_at=self.created_at,
            dataset=self.request["dataset"],
            num_members=len(self.members),
            webhook=bool(self.request.get("webhook")),
        )

    @property
    def job_ids(self) -> list[str]:
        """The ids of the members' jobs, which exist once they are released."""
        return self.head.job_ids

    def to_json(self) -> dict[str, Any]:
        """Returns the content of sweep.json."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Reads the content of sweep.json."""
        known = {name: values[name] for name in ("id", "name", "created_at", "request")}
        members = [Member(**member) for member in values["members"]]
        return cls(**known, members=members, request_digest=values.get("request_digest", ""))


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """What changes of a sweep and has to last."""

    waiting: list[int]
    """Positions of the members that are to be released, resumed or retried, in this order."""
    hold: str | None = None
    """PAUSED or CANCELLED; None releases members."""
    last_event_state: str = ""
    """SweepView.event_state of the last event of the sweep."""
    comparison: str | None = None
    """Id of the newest job that compares the models."""
    ends: int = 0
    """The number of times that the sweep has ended."""
    ended_at: str | None = None
    """When it ended the last time, in UTC."""
    announced: int = 0
    """The number of the last end whose message was taken, or given up."""

    def to_json(self) -> dict[str, Any]:
        """Returns the content of state.json."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class SweepView(Generic[AnyJob]):
    """A sweep at one moment, with its members' whole jobs or with their states alone."""

    head: SweepHead
    state: SweepState
    jobs: Sequence[AnyJob | None]
    """The members' jobs; None where there is none yet or any more."""
    comparison: Job | None = None
    """The job that compares the models, if they are all there."""
    statuses: list[str] = field(init=False)
    """The state of each member."""

    def __post_init__(self) -> None:
        waiting = set(self.state.waiting)
        idle = self.state.hold or "queued"
        found = [
            idle if index in waiting else DELETED if job is None else job.status for index, job in enumerate(self.jobs)
        ]
        object.__setattr__(self, "statuses", found)

    @property
    def is_live(self) -> bool:
        """True while a member waits for a worker or has one, or is about to be released."""
        return any(status in (*HELD, "queued") for status in self.statuses)

    @property
    def is_comparing(self) -> bool:
        """True while the members have ended and their models are compared, or are about to be."""
        if self.is_live or not self.models:
            return False
        return self.comparison is None or not self.comparison.is_finished

    @property
    def status(self) -> str:
        """The state of the sweep, in the words of a job's states."""
        return _status(self.statuses, self.state.hold, self._has_begun, self.is_comparing)

    @property
    def event_state(self) -> str:
        """The state of the sweep, and whether it is unfinished; a new event is due whenever this changes."""
        return self.status if self.is_finished else f"{self.status}, unfinished"

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the models could not be compared; None otherwise."""
        job = self.comparison
        return job.error if job is not None and job.status == "failed" else None

    @property
    def _has_begun(self) -> bool:
        return any(job is not None and job.attempts > 0 for job in self.jobs)

    @property
    def is_finished(self) -> bool:
        """True if the sweep has ended, and its models are compared."""
        return self.status in FINISHED and not self.is_comparing

    @property
    def models(self) -> list[tuple[int, str]]:
        """The position and the model of each member that has made one."""
        return [
            (index, job.model)
            for index, (job, status) in enumerate(zip(self.jobs, self.statuses, strict=True))
            if job is not None and status == "succeeded" and job.model
        ]

    def progress(self) -> dict[str, Any]:
        """Returns the share that is done, the number of members in each state, and the phase."""
        fractions = [
            1.0 if status in (*FINISHED, DELETED) else float((job.progress if job else {}).get("fraction") or 0.0)
            for job, status in zip(self.jobs, self.statuses, strict=True)
        ]
        counts: dict[str, int] = {}
        for status in self.statuses:
            counts[status] = counts.get(status, 0) + 1
        return {
            "fraction": round(sum(fractions) / len(fractions), 4),
            "members": counts,
            "phase": "comparing" if self.is_comparing else "training" if self.is_live else None,
        }


def _status(statuses: Sequence[str], hold: str | None, has_begun: bool, comparing: bool) -> str:
    """Returns the state of a sweep.

    Args:
        statuses: The states of its members.
        hold: What it is held as.
        has_begun: Whether a worker has begun a member.
        comparing: Whether its models are being compared.
    """
    kinds = set(statuses)
    if hold == CANCELLED:
        return "cancelling" if kinds & {*HELD, "queued"} else CANCELLED
    if hold == PAUSED and kinds & {PAUSED, "queued", *HELD}:
        return "pausing" if kinds & set(HELD) else PAUSED
    if kinds & {*HELD, "queued"}:
        return "running" if has_begun else "queued"
    if PAUSED in kinds:
        return PAUSED
    if comparing:
        return "running"
    if "succeeded" in kinds:
        return "succeeded"
    return "failed" if "failed" in kinds else CANCELLED
