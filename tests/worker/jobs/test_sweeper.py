"""The sweeper repairs interrupted work once, by one sweeper at a time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.jobs import sweeper
from worker.jobs.queue import Sender, beat, heartbeat_key, send_missing, waiting_ids, workers_alive
from worker.jobs.store import JobStore
from worker.jobs.sweeper import LOCK, Sweeper, clean
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage

Make = Callable[..., JobStore]


@pytest.fixture(autouse=True)
def _long_running_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports an uptime that is longer than any lease."""
    server = sweeper._server
    monkeypatch.setattr(sweeper, "_server", lambda client: {**server(client), "uptime_in_seconds": 10_000})


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def store(make_job_store: Make, sent: list[str]) -> JobStore:
    """A store that records the wake-ups that it sends."""
    return make_job_store(send=lambda job: sent.append(job.id))


def age(store: JobStore, job_id: str, status: str, seconds: float = 1e6) -> None:
    """Makes a job appear to have been in its state for longer."""
    store.redis.zincrby(f"betavae:status:{status}", -seconds * 1000, job_id)


def test_a_dead_workers_job_is_requeued_with_a_message(store: JobStore, sent: list[str]) -> None:
    job_id = store.create("train", {}).id
    store.claim(job_id, "worker")
    sent.clear()
    assert Sweeper(store).run_once()
    assert store.get(job_id).status == "running"
    store.redis.zadd("betavae:leases", {job_id: 1})
    assert Sweeper(store, every_seconds=0).run_once() is False  # The first one has the lock.
    store.redis.delete(LOCK)
    assert Sweeper(store).run_once()
    assert store.get(job_id).status == "queued"
    assert sent == [job_id]


def test_holders_get_time_to_renew_after_redis_was_away(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = store.create("train", {}).id
    claim = store.claim(job_id, "worker")
    assert claim is not None
    store.redis.zadd("betavae:leases", {job_id: 1})
    monkeypatch.setattr(sweeper, "_server", lambda client: {"run_id": "new", "uptime_in_seconds": 1})
    one = Sweeper(store)
    one.run_once()
    claim.renew()
    monkeypatch.setattr(sweeper, "_server", lambda client: {"run_id": "new", "uptime_in_seconds": 31})
    one.run_once()
    assert store.get(job_id).status == "running"


def test_one_sweeper_at_a_time_and_the_next_when_it_leaves(store: JobStore) -> None:
    first, second = Sweeper(store), Sweeper(store)
    assert first.run_once()
    assert not second.run_once()
    assert first.run_once()
    first.stop()
    first._unlock()
    assert second.run_once()


def test_a_job_without_a_message_gets_one(store: JobStore, sent: list[str]) -> None:
    old, new = store.create("train", {}).id, store.create("train", {}).id
    age(store, old, "queued")
    sent.clear()
    Sweeper(store).run_once()
    assert sent == [old]
    assert store.get(new).status == "queued"


def test_a_job_with_a_message_gets_no_second_one(
    redis_client: Any, redis_server: str, storage: LocalStorage, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, redis_url=redis_server)
    store = JobStore(redis_client, storage, send=Sender(settings))
    waiting = store.create("train", {}).id
    fetched = store.create("traversal", {}).id
    lost = store.create("train", {}).id
    queue = "betavae:celery:train"
    messages = [json.loads(m) for m in redis_client.lrange(queue, 0, -1)]
    assert {m["headers"]["job_id"] for m in messages} == {waiting, lost}
    assert waiting_ids(redis_client, "train") == {waiting, lost}
    for message in redis_client.lrange(queue, 0, -1):
        if json.loads(message)["headers"]["job_id"] == lost:
            redis_client.lrem(queue, 1, message)
    message = redis_client.lpop("betavae:celery:render")
    redis_client.hset("betavae:celery:unacked", "tag", json.dumps([json.loads(message), "", "render"]))
    for job_id in (waiting, fetched, lost):
        age(store, job_id, "queued")
    assert send_missing(store) == 1
    assert waiting_ids(redis_client, "train") == {waiting, fetched, lost}
    assert send_missing(store) == 0


def test_a_wiped_redis_is_rebuilt_at_the_next_pass(store: JobStore, sent: list[str]) -> None:
    jobs = [store.create("train", {"i": i}) for i in range(3)]
    store.cancel(jobs[0].id)
    one = Sweeper(store)
    one.run_once()
    store.redis.flushall()
    one.run_once()
    assert store.counts() | {"queued": 2, "cancelled": 1} == store.counts()


def test_a_state_that_could_not_be_stored_is_stored_later(
    store: JobStore, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = store.create("train", {}).id
    with monkeypatch.context() as patch:

        def full(*_: object, **options: object) -> None:
            raise OSError("no space left")

        patch.setattr(storage, "write_json", full)
        store.cancel(job_id)
    assert store.unstored() == [job_id]
    Sweeper(store).run_once()
    assert store.unstored() == []
    store.redis.flushall()
    assert store.get(job_id).status == "cancelled"


def test_old_traversal_jobs_and_orphaned_files_are_removed(store: JobStore, storage: LocalStorage) -> None:
    ids = {kind: store.create(kind, {}).id for kind in ("train", "traversal")}
    fresh = store.create("traversal", {}).id
    for job_id in (*ids.values(), fresh):
        claim = store.claim(job_id, "worker")
        assert claim is not None
        claim.succeed()
    for job_id in ids.values():
        age(store, job_id, "succeeded")
    storage.write_bytes("jobs/j-orphan/checkpoints/00000001-1.safetensors", b"x")
    clean(store)
    assert {job.id for job in store.page()} == {ids["train"], fresh}
    assert set(storage.list("jobs")) == {ids["train"], fresh}


def test_only_workers_that_consume_are_counted(redis_client: Any) -> None:
    assert workers_alive(redis_client) == {"train": 0, "render": 0, "calls": 0}
    beat(redis_client, heartbeat_key("render", "a", 1))
    beat(redis_client, heartbeat_key("render", "b", 1))
    assert workers_alive(redis_client) == {"train": 0, "render": 2, "calls": 0}
    assert 0 < redis_client.ttl(heartbeat_key("render", "a", 1)) <= 15
