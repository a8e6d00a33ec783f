"""What the worker that holds a job does with its record: it claims it, reports, and ends the claim. Free of torch."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from worker.jobs import files as job_files
from worker.jobs.claims import Claim
from worker.jobs.counters import FENCE_REFUSALS, LEASE_EXPIRIES, count
from worker.jobs.durable import DurableRecords, as_arguments
from worker.jobs.records import HELD, TRANSITIONS, Job, StaleClaim, TransitionRefused
from worker.stores.storage import Storage

MAX_LOSSES = 5
"""Number of workers in a row that may die on a job without a step before the job fails."""
MAX_STALLS = 20
"""Number of workers in a row that may die on a job without progress, even if they made steps, before it fails."""

log = logging.getLogger(__name__)


class HeldJobs(DurableRecords):
    """Claims queued jobs, keeps claims and ends them. Every method raises JobStoreUnavailable when Redis is away."""

    def __init__(
        self,
        client: Any,
        storage: Storage,
        *,
        send: Callable[[Job], None] | None = None,
        lease_seconds: float = 30.0,
    ) -> None:
        """Takes the places of the records and the way to the queues.

        Args:
            client: A Redis client from `connect`.
            storage: Where jobs last.
            send: Puts the wake-up of a queued job on its queue; None sends no messages.
            lease_seconds: Length of a lease, in seconds.
        """
        super().__init__(client, storage, lease_seconds=lease_seconds)
        self._send = send

    def send(self, job: Job) -> None:
        """Puts the job's wake-up on its queue. If that fails, the sweeper sends it later."""
        if self._send is None:
            return
        try:
            self._send(job)
        except Exception as error:
            log.warning("job %s: no message could be sent (%s); the sweeper will send it", job.id, error)

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Claims a queued job for a worker.

        Args:
            job_id: Id of the job.
            worker: Name of the worker.

        Returns:
            The claim, or None if the job is not queued, since its message came twice or late.

        Raises:
            UnknownJob: There is no such job.
        """
        record = self._record(job_id)
        if record["kind"] == "train" and int(record["version"]) < job_files.stored_version(self.storage, job_id):
            self.restore(job_id)  # Redis lost its last second, and no fence may be used twice.
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
        """Renews a claim's lease and records what its holder reports.

        Args:
            claim: The claim.
            event_type: Type of the event to add; empty adds none.
            data: Content of the event.
            step: The training step that was reached; None where there is none.
            fields: New values of record fields.

        Returns:
            The job's state, or `finishing` if it is running and was asked to finish.

        Raises:
            StaleClaim: Another worker may hold the job.
        """
        step_text = "" if step is None else str(step)
        arguments = [
            claim.id,
            claim.fence,
            self._lease_ms,
            event_type,
            json.dumps(data),
            step_text,
            *as_arguments(fields),
        ]
        status = self._run("commit", *arguments)
        if status is None:
            self._restore_if_lost(claim.id)
            status = self._run("commit", *arguments)
        if status is None:
            if not claim.ended:  # The thread that renews a claim may come after its end.
                count(self.redis, {FENCE_REFUSALS: 1})
            raise StaleClaim(f"job {claim.id} has another holder")
        return str(status)

    def end_claim(self, claim: Claim, to: str, data: dict[str, Any], fields: dict[str, str]) -> str:
        """Ends a claim: moves the job to its next state, which a pause or cancel requested meanwhile determines.

        Args:
            claim: The claim.
            to: The next state of a running job.
            data: Content of the transition's event.
            fields: New values of record fields.

        Returns:
            The new state: paused if the job was pausing, cancelled if it was cancelling, else `to`.

        Raises:
            StaleClaim: Another worker may hold the job.
        """
        instead = {"pausing": "paused", "cancelling": "cancelled"}
        checked = False
        for _ in range(4):
            sources = " ".join(s for s in HELD if to in TRANSITIONS[s])
            arguments = [claim.id, sources, to, claim.fence, json.dumps(data), *as_arguments(fields)]
            outcome, status = self._run("transition", *arguments)
            if outcome == "stale" and not checked:
                self._restore_if_lost(claim.id)
                checked = True
                continue
            if outcome == "stale":
                count(self.redis, {FENCE_REFUSALS: 1})
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

    def expire_leases(self) -> list[tuple[str, str, str]]:
        """Takes jobs from workers whose lease ran out.

        Returns:
            The id, the old state and the new state of each job.
        """
        moved = [(str(i), str(old), str(new)) for i, old, new in self._run("expire", MAX_LOSSES, MAX_STALLS)]
        if moved:
            count(self.redis, {LEASE_EXPIRIES: len(moved)})
        for job_id, _, _ in moved:
            self.store_state(job_id)
        return moved

    def count(self, amounts: Mapping[str, float]) -> None:
        """Adds to the counters of worker.jobs.counters."""
        count(self.redis, amounts)
