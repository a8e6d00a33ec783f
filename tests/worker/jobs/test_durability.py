"""Jobs survive a wiped Redis."""

from typing import Any

import pytest
from job_support import COMMITS, bring_to

from worker.jobs.connections import connect
from worker.jobs.records import (
    HELD,
    STATES,
    IdempotencyConflict,
    JobStoreUnavailable,
    UnknownJob,
)
from worker.jobs.store import JobStore
from worker.stores.storage import LocalStorage


@pytest.mark.parametrize("status", STATES)
def test_a_wiped_redis_loses_nothing_that_was_accepted(job_store: JobStore, status: str) -> None:
    job_id, claim = bring_to(job_store, status)
    before = job_store.get(job_id)
    job_store.redis.flushall()
    after = job_store.get(job_id)
    same = ("id", "kind", "request", "status", "created_at", "started_at", "finished_at", "attempts", "error", "result")
    assert {f: getattr(after, f) for f in same} == {f: getattr(before, f) for f in same}
    if status in HELD:
        assert claim is not None
        claim.progress({"step": 7})  # Its holder goes on unchanged.
        assert job_store.get(job_id).progress["step"] == 7
    elif status == "queued":
        again = job_store.claim(job_id, "worker")
        assert again is not None
        assert again.fence > before.fence


def test_a_holder_may_end_its_job_right_after_a_wipe(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    job_store.redis.flushall()
    claim.succeed({"step": 5}, model="faces")
    assert job_store.get(job_id).model == "faces"


@pytest.mark.parametrize("commit", COMMITS)
def test_a_holder_goes_on_after_another_thread_restored_its_job(
    job_store: JobStore, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that renews a claim may restore the job between the other's refused commit and its look."""
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    job_store.redis.flushall()
    run = job_store._run

    def run_and_restore(script: str, *arguments: Any) -> Any:
        answer = run(script, *arguments)
        if script in ("commit", "transition") and answer in (None, ["stale", ""]):
            assert job_store.restore(job_id)
        return answer

    monkeypatch.setattr(job_store, "_run", run_and_restore)
    COMMITS[commit](claim)
    ends = {"succeed": "succeeded", "fail": "failed", "hand_back": "queued"}
    assert job_store.get(job_id).status == ends.get(commit, "running")


def test_a_wipe_keeps_lists_and_idempotency_keys(job_store: JobStore) -> None:
    first = job_store.create("train", {"a": 1}, idempotency_key="k")
    bring_to(job_store, "succeeded")
    job_store.redis.flushall()
    assert len(job_store.page()) == 2
    assert job_store.create("train", {"a": 1}, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyConflict):
        job_store.create("train", {"a": 2}, idempotency_key="k")


def test_the_fence_is_above_every_checkpoint_that_is_there(job_store: JobStore, storage: LocalStorage) -> None:
    job_id = job_store.create("train", {}).id
    storage.write_json(f"jobs/{job_id}/checkpoints/00000010-41.json", {})
    job_store.redis.flushall()
    claim = job_store.claim(job_id, "worker")
    assert claim is not None
    assert claim.fence > 41


def test_a_redis_that_lost_its_last_second_catches_up(job_store: JobStore) -> None:
    """The append-only file may lack the last second, which here is the claim and everything after it."""
    job_id, _ = bring_to(job_store, "queued")
    old = job_store.redis.hgetall(f"betavae:job:{job_id}")
    first = job_store.claim(job_id, "first")
    assert first is not None
    job_store.redis.delete(f"betavae:job:{job_id}")
    job_store.redis.hset(f"betavae:job:{job_id}", mapping=old)
    assert job_store.claim(job_id, "second") is None
    first.renew()
    assert job_store.get(job_id).fence == first.fence


def test_a_deleted_job_stays_deleted_while_its_files_go(job_store: JobStore, storage: LocalStorage) -> None:
    job_id, _ = bring_to(job_store, "succeeded")
    kept = storage.read_bytes(f"jobs/{job_id}/job.json")
    job_store.delete(job_id)
    storage.write_bytes(f"jobs/{job_id}/job.json", kept)
    assert job_store.rebuild() == 0
    with pytest.raises(UnknownJob):
        job_store.get(job_id)


def test_damaged_files_affect_only_their_own_job(job_store: JobStore, storage: LocalStorage) -> None:
    good = job_store.create("train", {"a": 1}).id
    bad = job_store.create("train", {"a": 2}).id
    storage.write_bytes(f"jobs/{bad}/job.json", b"{ not json")
    job_store.redis.flushall()
    assert [job.id for job in job_store.page()] == [good]


def test_nothing_is_accepted_while_redis_is_away(storage: LocalStorage) -> None:
    store = JobStore(connect("unix:///nowhere/r.sock"), storage)
    for call in (
        lambda: store.create("train", {}),
        lambda: store.page(),
        lambda: store.get("j-1"),
        lambda: store.counts(),
        lambda: store.ping(),
    ):
        with pytest.raises(JobStoreUnavailable):
            call()
    assert storage.list("jobs") == []
