"""Accepted jobs: their messages, idempotency keys, names and pages."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from job_support import Make, bring_to

from worker.jobs.records import (
    IdempotencyConflict,
    Job,
    UnknownJob,
)
from worker.jobs.store import JobStore
from worker.stores.storage import LocalStorage


def test_a_message_is_sent_for_every_job_that_begins_to_wait(make_job_store: Make) -> None:
    sent: list[str] = []
    store = make_job_store(send=lambda job: sent.append(job.id))
    job_id, claim = bring_to(store, "running")
    assert claim is not None
    claim.hand_back("worker stopping")
    store.cancel(job_id)
    store.retry(job_id)
    assert sent == [job_id] * 3


def test_a_job_is_accepted_even_if_its_message_cannot_be_sent(make_job_store: Make) -> None:
    def send(job: Job) -> None:
        raise OSError("no broker")

    store = make_job_store(send=send)
    assert store.get(store.create("train", {}).id).status == "queued"


def test_an_idempotency_key_gives_the_first_job(job_store: JobStore, storage: LocalStorage) -> None:
    first = job_store.create("train", {"a": 1}, idempotency_key="k")
    assert job_store.create("train", {"a": 1}, idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        job_store.create("train", {"a": 2}, idempotency_key="k")
    assert job_store.create("train", {"a": 1}, idempotency_key="other").id != first.id
    assert len(storage.list("jobs")) == 2


def test_a_key_is_free_again_once_its_job_is_deleted(job_store: JobStore) -> None:
    job = job_store.create("train", {}, idempotency_key="k")
    job_store.cancel(job.id)
    job_store.delete(job.id)
    assert job_store.create("train", {"b": 1}, idempotency_key="k").id != job.id


def test_a_key_has_one_job_even_if_the_service_dies_before_redis_knows_it(
    job_store: JobStore, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API is killed between the job's file and its record; Redis was wiped, restarted, or stays as it is."""
    run = job_store._run

    def die(script: str, *arguments: Any) -> Any:
        if script == "create":
            raise KeyboardInterrupt
        return run(script, *arguments)

    for wiped in (False, True):
        key = f"key {wiped}"
        monkeypatch.setattr(job_store, "_run", die)
        with pytest.raises(KeyboardInterrupt):
            job_store.create("train", {"a": 1}, idempotency_key=key)
        monkeypatch.setattr(job_store, "_run", run)
        if wiped:
            job_store.redis.flushall()
        job = job_store.create("train", {"a": 1}, idempotency_key=key)
        assert job_store.create("train", {"a": 1}, idempotency_key=key) == job
        job_store.redis.flushall()
        assert job_store.create("train", {"a": 1}, idempotency_key=key).id == job.id
        with pytest.raises(IdempotencyConflict):
            job_store.create("train", {"a": 2}, idempotency_key=key)
    job_store.rebuild()
    assert len(job_store.page("train")) == len(storage.list("jobs")) == 2


def test_a_key_of_a_deleted_job_has_one_job_again(job_store: JobStore) -> None:
    first = job_store.create("train", {}, idempotency_key="k")
    job_store.cancel(first.id)
    job_store.delete(first.id)
    second = job_store.create("train", {}, idempotency_key="k")
    job_store.redis.flushall()  # How many were deleted is forgotten with it.
    assert job_store.create("train", {}, idempotency_key="k").id == second.id
    assert [job.id for job in job_store.page("train")] == [second.id]


def test_requests_at_the_same_time_with_one_key_make_one_job(job_store: JobStore, storage: LocalStorage) -> None:
    def create(i: int) -> str:
        try:
            return job_store.create("train", {"a": i % 2}, idempotency_key="k").id
        except IdempotencyConflict:
            return ""

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(create, range(40)))
    assert len(ids - {""}) == 1
    (job,) = job_store.page("train")
    assert storage.read_json(f"jobs/{job.id}/job.json")["request"] == job.request
    assert storage.list("jobs") == [job.id]


def test_a_named_job_is_made_once(job_store: JobStore) -> None:
    first = job_store.create("traversal", {"a": 1}, id="abc")
    assert job_store.create("traversal", {"a": 1}, id="abc") == first


def test_jobs_are_listed_newest_first_in_pages(job_store: JobStore) -> None:
    ids = [job_store.create("train", {"i": i}).id for i in range(5)]
    job_store.create("traversal", {})
    job_store.cancel(ids[2])
    everything = job_store.page("train")
    assert {job.id for job in everything} == set(ids)
    assert [j.created_at for j in everything] == sorted((j.created_at or "" for j in everything), reverse=True)
    pages, after = [], None
    while page := job_store.page("train", limit=2, after=after):
        pages += page
        after = page[-1].id
    assert pages == everything
    assert [job.id for job in job_store.page("train", "cancelled")] == [ids[2]]
    assert job_store.counts()["queued"] == 5
    with pytest.raises(UnknownJob):
        job_store.page(after="j-none")
