"""Jobs in any state, and every call that changes them, for the tests of the job store."""

from collections.abc import Callable
from typing import Any

from worker.jobs.claims import Claim
from worker.jobs.records import Event
from worker.jobs.store import JobStore

Make = Callable[..., JobStore]


def bring_to(store: JobStore, status: str, kind: str = "train") -> tuple[str, Claim | None]:
    """Returns a new job in a state, and the last claim on it."""
    job_id = store.create(kind, {"n": 1}).id
    if status == "queued":
        return job_id, None
    claim = store.claim(job_id, "worker")
    assert claim is not None
    if status in ("pausing", "paused"):
        store.pause(job_id)
    if status in ("cancelling", "cancelled"):
        store.cancel(job_id)
    if status == "succeeded":
        claim.succeed()
    if status == "failed":
        claim.fail("diverged", "the loss became nan")
    if status == "paused":
        claim.paused()
    if status == "cancelled":
        claim.cancelled()
    assert store.get(job_id).status == status
    return job_id, claim


def events_of(store: JobStore, job_id: str, after: str | None = None) -> list[Event]:
    """Returns the present events of a job, after one of them or from the first."""
    return store.wait_events(job_id, after, seconds=0)


def run_out(store: JobStore, job_id: str) -> None:
    """Lets the lease of a held job end now."""
    assert store.redis.zadd("betavae:leases", {job_id: 1}, xx=True, ch=True) == 1


ACTIONS = {
    "cancel": {
        "queued": "cancelled",
        "paused": "cancelled",
        "running": "cancelling",
    },
    "pause": {"running": "pausing"},
    "resume": {"paused": "queued"},
    "retry": {"failed": "queued", "cancelled": "queued"},
}
"""Each action on a job: the states that allow it, and the state that follows."""

COMMITS: dict[str, Callable[[Claim], Any]] = {
    "renew": lambda claim: claim.renew(),
    "progress": lambda claim: claim.progress({"step": 99}),
    "event": lambda claim: claim.event("checkpoint", {"step": 99}),
    "succeed": lambda claim: claim.succeed({"model": "x"}),
    "fail": lambda claim: claim.fail("x", "y"),
    "hand_back": lambda claim: claim.hand_back("x"),
}
"""Every call of a claim that commits something."""
