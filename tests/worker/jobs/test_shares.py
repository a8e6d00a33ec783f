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
