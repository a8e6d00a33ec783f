"""A request to finish: who may be asked, what becomes of it, and that it lasts."""

import pytest
from job_support import bring_to, events_of

from worker.jobs.records import STATES, TransitionRefused, UnknownJob
from worker.jobs.store import JobStore

REQUEUED = ("paused", "failed", "cancelled")


@pytest.mark.parametrize("status", STATES)
def test_a_training_that_has_begun_can_be_asked(job_store: JobStore, status: str) -> None:
    job_id, _ = bring_to(job_store, status)
    has_begun = job_store.get(job_id).started_at is not None
    if has_begun and status in (*REQUEUED, "running", "queued"):
        assert job_store.finish(job_id).status == ("queued" if status in REQUEUED else status)
        assert events_of(job_store, job_id)[-1].type == ("queued" if status in REQUEUED else "finishing")
    else:
        with pytest.raises(TransitionRefused, match="only a training that has begun"):
            job_store.finish(job_id)


def test_the_holder_hears_of_it_with_its_next_commit(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    assert not claim.renew().finish
    job_store.finish(job_id)
    assert claim.renew().finish
    assert claim.progress({"step": 3}).finish


def test_a_pause_or_cancel_goes_before_it(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    job_store.finish(job_id)
    job_store.cancel(job_id)
    flags = claim.renew()
    assert flags.cancel
    assert not flags.finish


@pytest.mark.parametrize("status", ["running", "paused"])
def test_the_request_lasts_when_redis_is_wiped(job_store: JobStore, status: str) -> None:
    job_id, _ = bring_to(job_store, status)
    job_store.finish(job_id)
    job_store.redis.flushdb()
    assert job_store.restore(job_id)
    assert job_store.redis.hget(f"betavae:job:{job_id}", "finish") == "1"


def test_an_unknown_job_is_unknown(job_store: JobStore) -> None:
    with pytest.raises(UnknownJob):
        job_store.finish("j-0000000000000000")
