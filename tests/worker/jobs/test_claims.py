"""Claims: fences, leases, and what a holder without a lease may do."""

import pytest
from job_support import COMMITS, Make, bring_to, events_of, run_out

from worker.jobs.held import MAX_STALLS
from worker.jobs.records import FIRST_EVENT, Event, StaleClaim, event_position
from worker.jobs.store import JobStore


def test_a_renewal_returns_what_was_requested(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    assert not claim.renew().cancel
    job_store.cancel(job_id)
    assert claim.renew().cancel


def test_the_fence_grows_with_every_claim(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "queued")
    fences = []
    for _ in range(3):
        claim = job_store.claim(job_id, "worker")
        assert claim is not None
        fences.append(claim.fence)
        claim.hand_back("worker stopping")
    assert fences == [1, 2, 3]


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("taken_again", [True, False])
def test_a_holder_whose_lease_ran_out_commits_nothing(job_store: JobStore, commit: str, taken_again: bool) -> None:
    job_id, frozen = bring_to(job_store, "running")
    assert frozen is not None
    run_out(job_store, job_id)
    assert job_store.expire_leases() == [(job_id, "running", "queued")]
    if taken_again:
        assert job_store.claim(job_id, "another") is not None
    before, events = job_store.get(job_id), events_of(job_store, job_id)
    with pytest.raises(StaleClaim):
        COMMITS[commit](frozen)
    assert job_store.get(job_id) == before
    assert events_of(job_store, job_id) == events


@pytest.mark.parametrize(
    ("status", "then"), [("running", "queued"), ("pausing", "paused"), ("cancelling", "cancelled")]
)
def test_an_expired_lease_leads_to_the_state_that_the_holder_was_moving_to(
    job_store: JobStore, status: str, then: str
) -> None:
    job_id, _ = bring_to(job_store, status)
    assert job_store.expire_leases() == []
    run_out(job_store, job_id)
    assert job_store.expire_leases() == [(job_id, status, then)]
    assert job_store.get(job_id).status == then
    assert job_store.expire_leases() == []


def test_renewing_extends_the_lease(make_job_store: Make) -> None:
    store = make_job_store(lease_seconds=1000)
    job_id, claim = bring_to(store, "running")
    assert claim is not None
    run_out(store, job_id)
    claim.renew()
    assert store.expire_leases() == []


def test_a_job_that_kills_its_workers_fails_in_the_end(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "queued")
    for _ in range(5):
        assert job_store.claim(job_id, "worker") is not None
        run_out(job_store, job_id)
        job_store.expire_leases()
    job = job_store.get(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    assert job_store.retry(job_id).status == "queued"


def test_a_job_with_progress_may_lose_any_number_of_workers(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "queued")
    for step in range(12):
        claim = job_store.claim(job_id, "worker")
        assert claim is not None
        claim.progress({"step": step})
        run_out(job_store, job_id)
        job_store.expire_leases()
    assert job_store.get(job_id).status == "queued"


def test_workers_that_made_steps_may_die_more_often(job_store: JobStore) -> None:
    """Each is killed before its first checkpoint, some of them before they are as far as an earlier one."""
    job_id, _ = bring_to(job_store, "queued")
    attempts = 0
    while job_store.get(job_id).status == "queued":
        claim = job_store.claim(job_id, "worker")
        assert claim is not None
        claim.progress({"step": 90 if attempts == 0 else 30})
        run_out(job_store, job_id)
        job_store.expire_leases()
        attempts += 1
    assert attempts == MAX_STALLS  # A job that kills every worker at the same step still ends.
    assert (job_store.get(job_id).error or {})["code"] == "worker_lost"


def test_a_checkpoint_is_progress_even_if_an_earlier_worker_came_further(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "queued")
    for step in range(1, 30):
        claim = job_store.claim(job_id, "worker")
        assert claim is not None
        claim.progress({"step": 1000})
        claim.post_event("checkpoint", {"step": step}, step=step)
        claim.renew()
        run_out(job_store, job_id)
        job_store.expire_leases()
    assert job_store.get(job_id).status == "queued"


def test_a_long_log_is_thinned_and_keeps_every_state(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    for step in range(6000):
        claim.progress({"step": step})
        if step == 50:
            claim.event("warning", {"message": "w"})
    claim.succeed()
    events: list[Event] = []
    while more := events_of(job_store, job_id, events[-1].id if events else None):
        events += more
    types = [event.type for event in events]
    assert [t for t in types if t != "progress"] == ["queued", "running", "warning", "succeeded"]
    steps = [event.data["progress"]["step"] for event in events if event.type == "progress"]
    assert 1000 <= len(steps) <= 2000
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1000:] == list(range(5000, 6000))
    job_store.delete(job_id)
    assert not job_store.redis.keys(f"*{job_id}*events") + job_store.redis.keys(f"*reports:{job_id}")


@pytest.mark.parametrize(
    ("sent", "position"),
    [
        ("5-1", "5-1"),
        (f"{2**64 - 1}-0", f"{2**64 - 1}-0"),
        (f"{2**64}-0", FIRST_EVENT),
        (f"5-{2**64}", FIRST_EVENT),
        ("x", FIRST_EVENT),
        (None, FIRST_EVENT),
    ],
)
def test_a_position_that_redis_cannot_take_means_the_beginning(sent: str | None, position: str) -> None:
    assert event_position(sent) == position


@pytest.mark.parametrize(("action", "then"), [("pause", "paused"), ("cancel", "cancelled")])
@pytest.mark.parametrize("end", ["succeed", "hand_back"])
def test_a_pause_or_cancel_during_the_work_decides_its_end(
    job_store: JobStore, action: str, then: str, end: str
) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    getattr(job_store, action)(job_id)
    COMMITS[end](claim)
    job = job_store.get(job_id)
    assert job.status == then
    assert job.result is None
