"""A worker's claim on a job: a lease that it renews, and a fence that every commit carries.

This module loads no torch.
"""

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

from worker.jobs.records import Job, JobStoreUnavailable, StaleClaim

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


@dataclass
class Claim:
    """The right to work on one job. Every method raises StaleClaim once another worker may hold the job."""

    store: ClaimStore
    job: Job
    worker: str
    fence: int
    ended: bool = False
    """The value is True once the holder has begun to end the claim."""

    @property
    def log_prefix(self) -> str:
        """The start of each log line about the job."""
        return f"job {self.job.id}:"

    @property
    def id(self) -> str:
        """The id of the job."""
        return self.job.id

    def renew(self) -> Flags:
        """Extends the lease."""
        return self._commit()

    def progress(self, progress: dict[str, Any], metrics: dict[str, Any] | None = None) -> Flags:
        """Records progress and metrics with an event, and extends the lease.

        Args:
            progress: Fields of the job's progress, `step` among them.
            metrics: The newest metrics; None leaves the recorded ones.
        """
        fields = {"progress": json.dumps(progress)}
        if metrics is not None:
            fields["metrics"] = json.dumps(metrics)
        data = {"progress": progress, "metrics": metrics or {}}
        return self._commit("progress", data, step=progress.get("step"), fields=fields)

    def event(self, event_type: str, data: dict[str, Any] | None = None, **fields: Any) -> Flags:
        """Adds an event to the job's log and sets fields of the record.

        Args:
            event_type: Type of the event.
            data: Content of the event.
            **fields: New values of record fields, which are stored as JSON.
        """
        return self._commit(event_type, data or {}, fields={name: json.dumps(value) for name, value in fields.items()})

    def made(self, model: str) -> Flags:
        """Records the id of the model that the job made, before the job ends."""
        return self._commit("model", {"model": model}, fields={"model": model})

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

    def hand_back(self, reason: str) -> None:
        """Requeues the job; a job that is pausing or cancelling becomes paused or cancelled instead.

        Raises:
            JobStoreUnavailable: Redis is away for too long. The job is requeued when its lease ends.
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
                left = self.store.end_claim(self, to, data, fields)
                break
            except JobStoreUnavailable as error:
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
    """A thread that renews a claim while a block works, and keeps the claim's flags where a loop reads them for free.

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
        self._thread = threading.Thread(target=self._run, name=f"claim {claim.id}", daemon=True)

    def __enter__(self) -> "ClaimKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> Flags:
        """Returns the requests to the holder.

        Redis is asked only when the lease may have run out, which happens when this process was frozen.
        """
        if not self.lost and time.monotonic() - self._renewed > self._lease_seconds:
            self._renew()
        return self.flags

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
        while not self.lost and not self._stop.wait(every_seconds):
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
