"""A Redis that was frozen: it accepts connections and answers nothing."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from job_support import bring_to, events_of, run_out
from redis_support import serve_redis

from worker.jobs import clock
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.clock import Breaker, Clock, on_clock
from worker.jobs.connections import connect, reaching_redis
from worker.jobs.records import JobStoreUnavailable, StaleClaim
from worker.jobs.store import JobStore
from worker.jobs.sweeper import Sweeper
from worker.stores.storage import LocalStorage


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    """A client, as the API and the workers have, of a server that may be frozen."""
    with serve_redis(tmp_path) as url:
        client = connect(url, patient=False)
        yield client
        client.close()


@contextmanager
def frozen(client: Any) -> Iterator[None]:
    """Freezes the server of a client while the block runs."""
    pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(JobStoreUnavailable) as refused, reaching_redis():
        call()
    return str(refused.value)


def test_reports_wait_without_their_holder_and_old_progress_is_dropped(client: Any, tmp_path: Path) -> None:
    store = JobStore(client, LocalStorage(tmp_path / "home"), lease_seconds=30)
    claim = store.claim(store.create("train", {}).id, "worker")
    assert claim is not None
    with ClaimKeeper(claim):
        with frozen(client):
            for step in range(500):
                claim.post_progress({"step": step}, {"kl": float(step)})
                if step in (100, 300):
                    claim.post_event("warning", {"message": str(step)}, warnings=[str(step)])
        claim.succeed()
    job = store.get(claim.id)
    assert (job.status, job.progress, job.metrics, job.warnings) == ("succeeded", {"step": 499}, {"kl": 499.0}, ["300"])
    events = events_of(store, claim.id)
    assert [event.data["message"] for event in events if event.type == "warning"] == ["100", "300"]
    steps = [event.data["progress"]["step"] for event in events if event.type == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 499
    assert len(steps) < 50
    assert events[-1].type == "succeeded"


def test_a_report_that_could_not_be_sent_is_sent_later(client: Any, tmp_path: Path) -> None:
    store = JobStore(client, LocalStorage(tmp_path / "home"))
    claim = store.claim(store.create("train", {}).id, "worker")
    assert claim is not None
    with frozen(client), pytest.raises(JobStoreUnavailable):
        claim.event("checkpoint", {"step": 3})
    claim.renew()
    assert [event.type for event in events_of(store, claim.id)] == ["queued", "running", "checkpoint"]


def test_while_one_call_tries_a_silent_redis_the_others_fail_at_once(client: Any) -> None:
    breaker = Breaker()

    def call(_: int = 0) -> str:
        with on_clock(breaker):
            return refusal(client.ping)

    with frozen(client):
        assert "does not answer" in call()
        with ThreadPoolExecutor(20) as pool:
            texts = list(pool.map(call, range(20)))
    # Each of the twenty may also have come when the one before had ended, and then it has tried itself.
    assert sum("Redis is silent" in text for text in texts) > 10
    with on_clock(breaker):
        for _ in range(3):
            with reaching_redis():
                assert client.ping()


def test_the_calls_of_a_request_share_one_clock(client: Any) -> None:
    spent = Clock(Breaker(), seconds=0.0)
    with pytest.raises(JobStoreUnavailable, match="too slow"), spent.call():
        client.ping()
    with on_clock(Breaker()):
        own = clock.current_clock()
        assert own is not None
        for _ in range(20):
            with reaching_redis():
                client.ping()
        own._spent = clock.REQUEST_SECONDS
        assert "too slow" in refusal(client.ping)
        clock.restart_clock()
        with reaching_redis():
            client.ping()
    with reaching_redis():  # Outside a request there is no clock.
        client.ping()


@pytest.mark.parametrize(("asked", "then"), [("", "queued"), ("pause", "paused")])
def test_a_job_is_handed_back_although_redis_stops_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, then: str
) -> None:
    """All processes are stopped at once; the lease of an hour does not have to run out after the next start."""
    storage = LocalStorage(tmp_path / "home")
    monkeypatch.setattr("worker.jobs.claims.HAND_BACK_SECONDS", 0.0)
    with serve_redis(tmp_path, append=True) as url:
        store = JobStore(connect(url, patient=False), storage, lease_seconds=3600)
        claim = store.claim(store.create("train", {}).id, "worker")
        assert claim is not None
        claim.post_progress({"step": 70})
        if asked:
            store.pause(claim.id)
        store.redis.connection_pool.disconnect()
    with pytest.raises(JobStoreUnavailable):
        claim.hand_back("worker stopping")
    with serve_redis(tmp_path, append=True) as url:
        store = JobStore(connect(url), storage, lease_seconds=3600)
        assert store.get(claim.id).status in ("running", "pausing")
        Sweeper(store).run_once()
        job = store.get(claim.id)
        assert (job.status, job.attempts, job.progress) == (then, 1, {"step": 70})
        with pytest.raises(StaleClaim):
            Claim(store, job, "worker", claim.fence).renew()
        if not asked:
            again = store.claim(claim.id, "another")
            assert again is not None
            assert again.fence > claim.fence
        store.redis.close()


def test_a_holder_that_was_replaced_hands_nothing_back(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    run_out(job_store, job_id)
    job_store.expire_leases()
    assert job_store.claim(job_id, "another") is not None
    job_store.store_hand_back(job_id, claim.fence, None)
    assert job_store.storage.read_json(f"jobs/{job_id}/state.json")["status"] == "running"


def test_only_so_many_calls_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MAX_CALLS", 1)
    monkeypatch.setattr(clock, "PATIENCE_SECONDS", 0.01)
    breaker = Breaker()
    with breaker.call(), pytest.raises(JobStoreUnavailable, match="too many"), breaker.call():
        pass
    with breaker.call():
        pass
