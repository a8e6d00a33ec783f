"""A worker's hold on a job: a lease that it renews, and a fence that every commit carries; free of torch."""

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.jobs.records import Job, JobStoreUnavailable, StaleClaim

if TYPE_CHECKING:
    from worker.jobs.store import JobStore

RETRY_SECONDS = 1.0
HAND_BACK_SECONDS = 10.0
"""A worker that is told to stop waits so long for a Redis that is away; then the lease's end gives the job back."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flags:
    """What the rest of the service wants of the holder of a claim."""

    cancel: bool = False
    pause: bool = False


@dataclass
class Claim:
    """The right to work on one job. Every method raises StaleClaim once another worker may have the job."""

    store: "JobStore"
    job: Job
    worker: str
    fence: int
    ended: bool = False
    """Whether the holder has ended it, or is about to."""

    @property
    def log_prefix(self) -> str:
        return f"job {self.job.id}:"

    @property
    def id(self) -> str:
        return self.job.id

    def renew(self) -> Flags:
        """Extends the lease."""
        return self._commit()

    def progress(self, progress: dict[str, Any], metrics: dict[str, Any] | None = None) -> Flags:
        """Records progress (`step` among it) and metrics, with an event; extends the lease."""
        fields = {"progress": json.dumps(progress)}
        if metrics is not None:
            fields["metrics"] = json.dumps(metrics)
        data = {"progress": progress, "metrics": metrics or {}}
        return self._commit("progress", data, step=progress.get("step"), fields=fields)

    def event(self, event_type: str, data: dict[str, Any] | None = None, **fields: Any) -> Flags:
        """Adds an event to the job's log, and sets fields of the record (values are stored as JSON)."""
        return self._commit(event_type, data or {}, fields={name: json.dumps(value) for name, value in fields.items()})

    def made(self, model: str) -> Flags:
        """Records the model that the work has made, though it is not over yet."""
        return self._commit("model", {"model": model}, fields={"model": model})

    def succeed(self, result: dict[str, Any] | None = None, *, model: str | None = None) -> None:
        """The work is done. Waits out a Redis that is away, as the other endings do."""
        fields = {"result": json.dumps(result or {})}
        if model is not None:
            fields["model"] = model
        self._end("succeeded", {"model": model} if model else {}, fields)

    def fail(self, code: str, message: str) -> None:
        """The work cannot be done; code is stable, message is for people."""
        error = {"code": code, "message": message}
        self._end("failed", {"error": error}, {"error": json.dumps(error)})

    def cancelled(self) -> None:
        """A job that was cancelling has stopped."""
        self._end("cancelled", {}, {})

    def paused(self) -> None:
        """A job that was pausing has stopped, with a checkpoint."""
        self._end("paused", {}, {})

    def hand_back(self, reason: str) -> None:
        """Puts the job back into the queue. One that was asked to pause or cancel meanwhile is paused or cancelled.

        Raises: JobStoreUnavailable when Redis is away for too long; the job goes back when its lease ends.
        """
        self._end("queued", {"reason": reason}, {}, longest_seconds=HAND_BACK_SECONDS)

    def _end(
        self, to: str, data: dict[str, Any], fields: dict[str, str], *, longest_seconds: float = float("inf")
    ) -> None:
        """Leaves the held state; a wish that came meanwhile (pausing, cancelling) decides where to."""
        self.ended = True
        began, told = time.monotonic(), False
        while True:
            try:
                left = self.store.end_claim(self, to, data, fields)
                break
            except JobStoreUnavailable as error:
                if time.monotonic() - began > longest_seconds:
                    raise
                if not told:
                    log.warning("%s %s, but: %s; waiting", self.log_prefix, to, error)
                told = True
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
        return Flags(cancel=status == "cancelling", pause=status == "pausing")


class ClaimKeeper:
    """A thread that renews a claim while a block works, and keeps its flags where a loop can read them for nothing.

    Redis may be away for a while: the holder goes on, its fence protects everyone. `lost` is set when the claim is
    another's.
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
        """What is wanted of the holder. Asks Redis only when the lease may have run out: this process was frozen."""
        if not self.lost and time.monotonic() - self._renewed > self._lease_seconds:
            self._renew()
        return self.flags

    def stop_reason(self, stopping: threading.Event) -> str | None:
        """Why the work has to end now: lost, cancel, pause, or shutdown. Args: stopping, set when the worker ends."""
        flags = self.look()
        if self.lost:
            return "lost"
        if flags.cancel:
            return "cancel"
        if flags.pause:
            return "pause"
        return "shutdown" if stopping.is_set() else None

    def _run(self) -> None:
        # Twice a second, so that a cancellation is seen within a second.
        every_seconds = min(0.5, self._lease_seconds / 4)
        while not self.lost and not self._stop.wait(every_seconds):
            self._renew()

    def _renew(self) -> None:
        try:
            self.flags = self.claim.renew()
        except StaleClaim:
            # The last commit of this thread's own block ends the claim too.
            if not self._stop.is_set() and not self.claim.ended:
                log.warning("%s the claim was lost; stopping", self.claim.log_prefix)
                self.lost = True
            return
        except JobStoreUnavailable as error:
            if not self._away:
                log.warning("%s %s; going on", self.claim.log_prefix, error)
            self._away = True
            self._renewed = time.monotonic()  # Asked; not again before another lease time, unless the thread does.
            return
        if self._away:
            log.info("%s Redis is back", self.claim.log_prefix)
        self._away = False
        self._renewed = time.monotonic()
