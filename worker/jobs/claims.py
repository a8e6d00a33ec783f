"""A worker's claim on a job: a lease that it renews, and a fence that every commit carries.

This module loads no torch.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from worker.jobs.records import Job, JobStoreUnavailable, StaleClaim

PROGRESS = "progress"
RETRY_SECONDS = 1.0
HAND_BACK_SECONDS = 10.0
"""Longest time that a stopping worker waits for Redis to hand a job back; after that, the lease's end requeues it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flags:
    """The requests to a job that a worker holds."""

    cancel: bool = False
    pause: bool = False
    finish: bool = False


class ClaimStore(Protocol):
    """The part of the job store that a claim needs."""

    lease_seconds: float

    def commit_claim(
        self, claim: "Claim", event_type: str, data: dict[str, Any], step: int | None, fields: dict[str, str]
    ) -> str:
        """Renews the claim's lease and records what its holder reports; see JobStore.commit_claim."""

    def end_claim(self, claim: "Claim", to: str, data: dict[str, Any], fields: dict[str, str]) -> str:
        """Moves the job to its next state; see JobStore.end_claim."""

    def count(self, amounts: Mapping[str, float]) -> None:
        """Adds to counters; see JobStore.count."""

    def store_hand_back(self, job_id: str, fence: int, progress: str | None) -> None:
        """Requeues the job in the storage alone; see DurableRecords.store_hand_back."""


@dataclass(eq=False)
class _Report:
    """Something that a holder reports, and that waits to be sent."""

    event_type: str
    data: dict[str, Any]
    step: int | None
    fields: dict[str, str]


@dataclass
class Claim:
    """The right to work on one job. Every method that sends raises StaleClaim once another worker may hold the job.

    `post_progress` and `post_event` only put a report into a queue, which the next call that sends empties. A loop that
    posts never waits for Redis, and of the progress that waits only the newest is kept.
    """

    store: ClaimStore
    job: Job
    worker: str
    fence: int
    ended: bool = False
    """The value is True once the holder has begun to end the claim."""
    posted: threading.Event = field(default_factory=threading.Event)
    """The event is set while reports wait."""
    _reports: list[_Report] = field(default_factory=list)
    _progress: str | None = None
    _queueing: threading.Lock = field(default_factory=threading.Lock)
    _sending: threading.Lock = field(default_factory=threading.Lock)

    @property
    def log_prefix(self) -> str:
        """The start of each log line about the job."""
        return f"job {self.job.id}:"

    @property
    def id(self) -> str:
        """The id of the job."""
        return self.job.id

    def renew(self) -> Flags:
        """Extends the lease, and sends the reports that wait."""
        with self._sending:
            flags = self._send_reports()
            return flags or self._commit()

    def progress(self, progress: dict[str, Any], metrics: dict[str, Any] | None = None) -> Flags:
        """Records progress and metrics, as `post_progress`, and extends the lease."""
        self.post_progress(progress, metrics)
        return self.renew()

    def post_progress(self, progress: dict[str, Any], metrics: dict[str, Any] | None = None) -> None:
        """Lets progress and metrics be recorded with an event; progress that waits already is dropped.

        Args:
            progress: Fields of the job's progress, `step` among them.
            metrics: The newest metrics; None leaves the recorded ones.
        """
        fields = {"progress": json.dumps(progress)}
        if metrics is not None:
            fields["metrics"] = json.dumps(metrics)
        data = {"progress": progress, "metrics": metrics or {}}
        self._post(_Report(PROGRESS, data, progress.get("step"), fields))

    def event(self, event_type: str, data: dict[str, Any] | None = None, **fields: Any) -> Flags:
        """Adds an event to the job's log, as `post_event`, and extends the lease."""
        self.post_event(event_type, data, **fields)
        return self.renew()

    def post_event(
        self, event_type: str, data: dict[str, Any] | None = None, *, step: int | None = None, **fields: Any
    ) -> None:
        """Lets an event be added to the job's log, and fields of the record be set.

        Args:
            event_type: Type of the event.
            data: Content of the event.
            step: The training step that was reached; None where there is none.
            **fields: New values of record fields, which are stored as JSON.
        """
        self._post(_Report(event_type, data or {}, step, {name: json.dumps(value) for name, value in fields.items()}))

    def made(self, model: str) -> Flags:
        """Records the id of the model that the job made, before the job ends."""
        self._post(_Report("model", {"model": model}, None, {"model": model}))
        return self.renew()

    def _post(self, report: _Report) -> None:
        with self._queueing:
            self._progress = report.fields.get("progress", self._progress)
            if report.event_type == PROGRESS:
                self._reports = [waiting for waiting in self._reports if waiting.event_type != PROGRESS]
            self._reports.append(report)
            self.posted.set()

    def _send_reports(self) -> Flags | None:
        """Sends the reports that wait, in their order. Returns the requests to the holder, None without a report.

        A report that cannot be sent waits on.
        """
        flags = None
        while True:
            with self._queueing:
                if not self._reports:
                    self.posted.clear()
                    return flags
                report = self._reports[0]
            flags = self._commit(report.event_type, report.data, step=report.step, fields=report.fields)
            with self._queueing:
                if report in self._reports:  # Newer progress may have taken its place.
                    self._reports.remove(report)

    def succeed(self, result: dict[str, Any] | None = None, *, model: str | None = None) -> None:
        """Ends the claim of a job that is done. Like the other endings, this waits while Redis is away."""
        fields = {"result": json.dumps(result or {})}
        if model is not None:
            fields["model"] = model
        self._end("succeeded", {"model": model} if model else {}, fields)

    def fail(self, code: str, message: str) -> None:
        """Ends the claim of a job that cannot be done.

        Args:
            code: A stable code for programs.
            message: A sentence for people.
        """
        error = {"code": code, "message": message}
        self._end("failed", {"error": error}, {"error": json.dumps(error)})

    def cancelled(self) -> None:
        """Ends the claim of a cancelling job that has stopped."""
        self._end("cancelled", {}, {})

    def paused(self) -> None:
        """Ends the claim of a pausing job that has written a checkpoint and stopped."""
        self._end("paused", {}, {})

    def stopped(self, reason: str) -> None:
        """Ends the claim of work that stopped for a reason of `ClaimKeeper.stop_reason`.

        Args:
            reason: lost, cancel, pause or shutdown.

        Raises:
            StaleClaim: The claim is lost.
        """
        if reason == "lost":
            raise StaleClaim(f"job {self.id} has another holder")
        if reason == "cancel":
            self.cancelled()
        elif reason == "pause":
            self.paused()
        else:
            self.hand_back("worker stopping")

    def hand_back(self, reason: str) -> None:
        """Requeues the job; a job that is pausing or cancelling becomes paused or cancelled instead.

        If Redis is away, perhaps because everything stops at the same time, the storage has the job as queued, so that
        it is requeued when Redis starts again.

        Raises:
            JobStoreUnavailable: Redis is away for too long. The job is requeued when Redis starts, or its lease ends.
        """
        self._end("queued", {"reason": reason}, {}, longest_seconds=HAND_BACK_SECONDS)

    def _end(
        self, to: str, data: dict[str, Any], fields: dict[str, str], *, longest_seconds: float = float("inf")
    ) -> None:
        """Leaves the held state; a pause or cancel requested meanwhile determines the next state."""
        self.ended = True
        began, logged = time.monotonic(), False
        while True:
            try:
                with self._sending:
                    self._send_reports()
                    left = self.store.end_claim(self, to, data, fields)
                break
            except JobStoreUnavailable as error:
                if to == "queued" and not logged:
                    self.store.store_hand_back(self.job.id, self.fence, self._progress)
                if time.monotonic() - began > longest_seconds:
                    raise
                if not logged:
                    log.warning("%s %s, but this cannot be recorded: %s; waiting", self.log_prefix, to, error)
                logged = True
                time.sleep(RETRY_SECONDS)
        log.info("%s %s%s", self.log_prefix, left, f" ({data['reason']})" if data.get("reason") else "")

    def _commit(
        self,
        event_type: str = "",
        data: dict[str, Any] | None = None,
        *,
        step: int | None = None,
        fields: dict[str, str] | None = None,
    ) -> Flags:
        status = self.store.commit_claim(self, event_type, data or {}, step, fields or {})
        return Flags(cancel=status == "cancelling", pause=status == "pausing", finish=status == "finishing")


class ClaimKeeper:
    """A thread that renews a claim and sends its reports while a block works.

    It keeps the claim's flags where a loop reads them for free.

    While Redis is away the holder goes on: the fence keeps it from overwriting another worker's commits. `lost` becomes
    True when another worker may hold the job.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.flags = Flags()
        self.lost = False
        self._lease_seconds = claim.store.lease_seconds
        self._renewed = time.monotonic()
        self._away = False
        self._stop = threading.Event()
        run = partial(copy_context().run, self._run)  # Its log lines name the request and the job.
        self._thread = threading.Thread(target=run, name=f"claim {claim.id}", daemon=True)

    def __enter__(self) -> "ClaimKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.claim.posted.set()
        self._thread.join()

    def look(self) -> Flags:
        """Returns the requests to the holder.

        Redis is asked only when the lease may have run out, which happens when this process was frozen.
        """
        if not self.lost and time.monotonic() - self._renewed > self._lease_seconds:
            self._renew()
        return self.flags

    def holds(self) -> bool:
        """Returns whether this worker still holds the job. Redis is asked, unless it was away a moment ago."""
        if not self.lost and not self._away:
            self._renew()
        return not self.lost

    def stop_reason(self, stopping: threading.Event) -> str | None:
        """Returns why the work has to end now: lost, cancel, pause or shutdown; None if it may go on.

        Args:
            stopping: Event that is set when the worker ends.
        """
        flags = self.look()
        if self.lost:
            return "lost"
        if flags.cancel:
            return "cancel"
        if flags.pause:
            return "pause"
        return "shutdown" if stopping.is_set() else None

    def _run(self) -> None:
        # The claim is renewed twice a second, so that a cancellation is seen within a second.
        every_seconds = min(0.5, self._lease_seconds / 4)
        while not self.lost and not self._stop.is_set():
            if self.claim.posted.wait(every_seconds) and self._away:
                self._stop.wait(every_seconds)  # Reports that cannot be sent wait on.
            if not self._stop.is_set():
                self._renew()

    def _renew(self) -> None:
        try:
            self.flags = self.claim.renew()
        except StaleClaim:
            # The last commit of the block that this thread serves makes the claim stale too.
            if not self._stop.is_set() and not self.claim.ended:
                log.warning("%s the claim was lost; stopping", self.claim.log_prefix)
                self.lost = True
            return
        except JobStoreUnavailable as error:
            if not self._away:
                log.warning("%s %s; going on", self.claim.log_prefix, error)
            self._away = True
            self._renewed = time.monotonic()  # `look` asks again after another lease time, unless this thread does.
            return
        if self._away:
            log.info("%s Redis is back", self.claim.log_prefix)
        self._away = False
        self._renewed = time.monotonic()
