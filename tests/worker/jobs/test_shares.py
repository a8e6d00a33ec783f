"""What a client has in flight."""

from typing import Any

import pytest
from job_support import Make, bring_to

from worker.jobs.shares import Shares, TooManyInFlight


def test_unfinished_jobs_count_until_they_end(redis_client: Any, make_job_store: Make) -> None:
    store, shares = make_job_store(), Shares(redis_client)
    states = ("queued", "running", "paused")
    jobs = [bring_to(store, state)[0] for state in states]
    for job in jobs:
        shares.take("ann", "train", job, most=3)
    shares.take("ann", "train", jobs[0], most=3)  # It counts once.
    with pytest.raises(TooManyInFlight, match="3 unfinished trainings"):
        shares.take("ann", "train", "another", most=3)
    shares.take("bob", "train", "another", most=3)
    shares.take("ann", "traversal", "another", most=3)
    store.cancel(jobs[2])
    shares.take("ann", "train", "another", most=3)
    with pytest.raises(TooManyInFlight):
        shares.take("ann", "train", "one more", most=3)


def test_a_job_that_is_about_to_be_queued_again_counts(redis_client: Any, make_job_store: Make) -> None:
    store, shares = make_job_store(), Shares(redis_client)
    job, _ = bring_to(store, "failed")
    redis_client.hset(f"betavae:job:{job}", "finished_at", 1)  # A millisecond later it is long ago, too.
    shares.take("ann", "train", job, most=1)
    with pytest.raises(TooManyInFlight):
        shares.take("ann", "train", "another", most=1)
    store.retry(job)
    with pytest.raises(TooManyInFlight):
        shares.take("ann", "train", "another", most=1)
    store.cancel(job)
    shares.take("ann", "train", "another", most=1)


def test_a_sweep_counts_until_it_has_ended(redis_client: Any) -> None:
    shares = Shares(redis_client)
    redis_client.sadd("betavae:sweeps:open", "s-1")
    shares.take("ann", "sweep", "s-1", most=1, seconds=0)
    with pytest.raises(TooManyInFlight, match="1 unfinished sweeps"):
        shares.take("ann", "sweep", "s-2", most=1)
    redis_client.srem("betavae:sweeps:open", "s-1")
    shares.take("ann", "sweep", "s-2", most=1)


def test_work_without_a_job_counts_until_it_is_left_or_its_time_is_over(redis_client: Any) -> None:
    shares = Shares(redis_client)
    shares.take("ann", "call", "lost", most=2, seconds=0)
    shares.take("ann", "call", "first", most=2, seconds=60)
    shares.take("ann", "call", "second", most=2, seconds=60)
    with pytest.raises(TooManyInFlight, match="2 calls of models"):
        shares.take("ann", "call", "third", most=2, seconds=60)
    shares.leave("ann", "call", "first")
    shares.take("ann", "call", "third", most=2, seconds=60)
    assert redis_client.ttl("betavae:client:call:ann") > 0
