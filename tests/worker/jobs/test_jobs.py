"""Job records: the table of transitions, claims and fences, idempotency, and what survives a wiped Redis."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.jobs.connections import connect
from worker.jobs.events import follow_events
from worker.jobs.records import FINISHED, HELD, STATES, TRANSITIONS
from worker.jobs.store import (
    Claim,
    IdempotencyConflict,
    Job,
    JobStore,
    JobStoreUnavailable,
    StaleClaim,
    TransitionRefused,
    UnknownJob,
)
from worker.stores.storage import LocalStorage

Make = Callable[..., JobStore]


def bring_to(store: JobStore, status: str, kind: str = "train") -> tuple[str, Claim | None]:
    """A new job in a state, and the last claim on it."""
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


@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_does_what_the_table_says_or_is_refused(job_store: JobStore, action: str, status: str) -> None:
    job_id, _ = bring_to(job_store, status)
    num_events = len(job_store.events(job_id))
    expected = ACTIONS[action].get(status)
    if expected is None:
        with pytest.raises(TransitionRefused) as refused:
            getattr(job_store, action)(job_id)
        assert refused.value.status == status
        assert job_store.get(job_id).status == status
        assert len(job_store.events(job_id)) == num_events
    else:
        assert expected in TRANSITIONS[status]
        assert getattr(job_store, action)(job_id).status == expected
        assert [e.type for e in job_store.events(job_id)][num_events:] == [expected]


@pytest.mark.parametrize("start", STATES)
@pytest.mark.parametrize("end", STATES)
def test_every_pair_of_states_against_the_table(job_store: JobStore, start: str, end: str) -> None:
    job_id, _ = bring_to(job_store, start)
    sources = " ".join(s for s in STATES if end in TRANSITIONS[s])
    outcome, status = job_store._run("transition", job_id, sources, end, "", "{}")
    assert status == start
    assert outcome == ("ok" if end in TRANSITIONS[start] else "refused")
    assert job_store.get(job_id).status == (end if outcome == "ok" else start)


@pytest.mark.parametrize("status", STATES)
def test_only_a_waiting_job_can_be_claimed(job_store: JobStore, status: str) -> None:
    job_id, _ = bring_to(job_store, status)
    assert (job_store.claim(job_id, "other") is not None) == (status == "queued")


@pytest.mark.parametrize("status", STATES)
def test_only_a_finished_job_can_be_deleted(job_store: JobStore, storage: LocalStorage, status: str) -> None:
    job_id, _ = bring_to(job_store, status)
    if status in FINISHED:
        job_store.delete(job_id)
        assert not storage.exists(f"jobs/{job_id}")
        assert job_store.list() == []
        with pytest.raises(UnknownJob):
            job_store.get(job_id)
    else:
        with pytest.raises(TransitionRefused):
            job_store.delete(job_id)
        assert job_store.get(job_id).status == status


def test_unknown_ids_are_unknown_whatever_they_look_like(job_store: JobStore) -> None:
    for job_id in ("j-0", "../x", "", "a b", "x" * 500, "*"):
        with pytest.raises(UnknownJob):
            job_store.get(job_id)
        with pytest.raises(UnknownJob):
            job_store.cancel(job_id)
        with pytest.raises(UnknownJob):
            job_store.events(job_id)


def test_progress_is_recorded_with_an_event(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    claim.progress({"step": 5, "num_steps": 10, "fraction": 0.5}, {"kl": 2.5})
    job = job_store.get(job_id)
    assert job.progress["step"] == 5
    assert job.metrics["kl"] == 2.5
    event = job_store.events(job_id)[-1]
    assert (event.type, event.data["progress"]["step"], event.data["status"]) == ("progress", 5, "running")


def test_events_can_be_read_from_any_point(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "succeeded")
    events = job_store.events(job_id)
    assert [e.type for e in events] == ["queued", "running", "succeeded"]
    for i, event in enumerate(events):
        assert job_store.events(job_id, event.id) == events[i + 1 :]
    assert job_store.events(job_id, "no event id") == events
    assert job_store.wait_events(job_id, events[0].id, 0.05) == events[1:]
    assert job_store.wait_events(job_id, events[-1].id, 0.01) == []


@pytest.mark.parametrize("after", [None, "last"])
def test_following_ends_with_the_job(job_store: JobStore, redis_server: str, after: str | None) -> None:
    import anyio

    from worker.jobs.connections import connect_async

    job_id, _ = bring_to(job_store, "succeeded")
    position = job_store.events(job_id)[-1].id if after else None

    async def follow() -> list[str]:
        client = connect_async(redis_server)
        events = [e async for e in follow_events(client, job_store, job_id, position, idle_seconds=0.05)]
        await client.aclose()
        return [e.type for e in events if e]

    assert anyio.run(follow) == ([] if after else ["queued", "running", "succeeded"])


# Claims


def test_a_wish_comes_back_with_the_renewal(job_store: JobStore) -> None:
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


def run_out(store: JobStore, job_id: str) -> None:
    """Lets the lease of a held job end now."""
    assert store.redis.zadd("betavae:leases", {job_id: 1}, xx=True, ch=True) == 1


COMMITS: dict[str, Callable[[Claim], Any]] = {
    "renew": lambda claim: claim.renew(),
    "progress": lambda claim: claim.progress({"step": 99}),
    "event": lambda claim: claim.event("checkpoint", {"step": 99}),
    "succeed": lambda claim: claim.succeed({"model": "x"}),
    "fail": lambda claim: claim.fail("x", "y"),
    "hand_back": lambda claim: claim.hand_back("x"),
}


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("taken_again", [True, False])
def test_a_holder_whose_lease_ran_out_commits_nothing(job_store: JobStore, commit: str, taken_again: bool) -> None:
    job_id, frozen = bring_to(job_store, "running")
    assert frozen is not None
    run_out(job_store, job_id)
    assert job_store.expire_leases() == [(job_id, "running", "queued")]
    if taken_again:
        assert job_store.claim(job_id, "another") is not None
    before, events = job_store.get(job_id), job_store.events(job_id)
    with pytest.raises(StaleClaim):
        COMMITS[commit](frozen)
    assert job_store.get(job_id) == before
    assert job_store.events(job_id) == events


@pytest.mark.parametrize(
    ("status", "then"), [("running", "queued"), ("pausing", "paused"), ("cancelling", "cancelled")]
)
def test_a_lease_that_runs_out_leads_where_the_holder_was_going(job_store: JobStore, status: str, then: str) -> None:
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


def test_a_job_that_gets_on_may_lose_any_number_of_workers(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "queued")
    for step in range(12):
        claim = job_store.claim(job_id, "worker")
        assert claim is not None
        claim.progress({"step": step})
        run_out(job_store, job_id)
        job_store.expire_leases()
    assert job_store.get(job_id).status == "queued"


@pytest.mark.parametrize(("wish", "then"), [("pause", "paused"), ("cancel", "cancelled")])
@pytest.mark.parametrize("end", ["succeed", "hand_back"])
def test_work_that_ends_after_a_wish_ends_as_wished(job_store: JobStore, wish: str, then: str, end: str) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    getattr(job_store, wish)(job_id)
    COMMITS[end](claim)
    job = job_store.get(job_id)
    assert job.status == then
    assert job.result is None


# Messages


def test_a_message_is_sent_for_every_job_that_begins_to_wait(make_job_store: Make) -> None:
    sent: list[str] = []
    store = make_job_store(send=lambda job: sent.append(job.id))
    job_id, claim = bring_to(store, "running")
    assert claim is not None
    claim.hand_back("worker stopping")
    store.cancel(job_id)
    store.retry(job_id)
    assert sent == [job_id] * 3


def test_a_job_is_accepted_though_its_message_cannot_be_sent(make_job_store: Make) -> None:
    def send(job: Job) -> None:
        raise OSError("no broker")

    store = make_job_store(send=send)
    assert store.get(store.create("train", {}).id).status == "queued"


# Asking again


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


def test_a_named_job_is_made_once(job_store: JobStore) -> None:
    first = job_store.create("traversal", {"a": 1}, id="abc")
    assert job_store.create("traversal", {"a": 1}, id="abc") == first


def test_jobs_are_listed_newest_first_in_pages(job_store: JobStore) -> None:
    ids = [job_store.create("train", {"i": i}).id for i in range(5)]
    job_store.create("traversal", {})
    job_store.cancel(ids[2])
    everything = job_store.list("train")
    assert {job.id for job in everything} == set(ids)
    assert [j.created_at for j in everything] == sorted((j.created_at or "" for j in everything), reverse=True)
    pages, after = [], None
    while page := job_store.list("train", limit=2, after=after):
        pages += page
        after = page[-1].id
    assert pages == everything
    assert [job.id for job in job_store.list("train", "cancelled")] == [ids[2]]
    assert job_store.counts()["queued"] == 5
    with pytest.raises(UnknownJob):
        job_store.list(after="j-none")


# What lasts


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
        claim.progress({"step": 7})  # Its holder goes on as if nothing had been.
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


def test_a_wipe_keeps_lists_and_idempotency_keys(job_store: JobStore) -> None:
    first = job_store.create("train", {"a": 1}, idempotency_key="k")
    bring_to(job_store, "succeeded")
    job_store.redis.flushall()
    assert len(job_store.list()) == 2
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


def test_a_redis_that_went_back_in_time_catches_up(job_store: JobStore) -> None:
    """The append-only file may lack the last second: here the claim, and what came after it."""
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


def test_damaged_files_cost_only_their_own_job(job_store: JobStore, storage: LocalStorage) -> None:
    good = job_store.create("train", {"a": 1}).id
    bad = job_store.create("train", {"a": 2}).id
    storage.write_bytes(f"jobs/{bad}/job.json", b"{ not json")
    job_store.redis.flushall()
    assert [job.id for job in job_store.list()] == [good]


def test_nothing_is_accepted_while_redis_is_away(storage: LocalStorage) -> None:
    store = JobStore(connect("unix:///nowhere/r.sock"), storage)
    for call in (
        lambda: store.create("train", {}),
        lambda: store.list(),
        lambda: store.get("j-1"),
        lambda: store.counts(),
        lambda: store.ping(),
    ):
        with pytest.raises(JobStoreUnavailable):
            call()
    assert storage.list("jobs") == []


# Any calls in any order


class AnyCalls(RuleBasedStateMachine):
    """Every call either is refused or does what was asked; at most one claim can commit; fences only grow."""

    store: JobStore

    @initialize()
    def begin(self) -> None:
        self.store.redis.flushall()
        self.store.storage.delete("jobs")
        self.job_id = self.store.create("train", {"a": 1}).id
        self.status = "queued"
        self.claims: list[Claim] = []
        self.attempts = 0

    @rule(action=st.sampled_from(sorted(ACTIONS)))
    def act(self, action: str) -> None:
        expected = ACTIONS[action].get(self.status)
        try:
            getattr(self.store, action)(self.job_id)
        except TransitionRefused:
            assert expected is None
        else:
            assert expected is not None
            self.status = expected

    @rule()
    def claim(self) -> None:
        claim = self.store.claim(self.job_id, "worker")
        assert (claim is not None) == (self.status == "queued")
        if claim is not None:
            assert all(claim.fence > old.fence for old in self.claims)
            self.claims.append(claim)
            self.status = "running"
            self.attempts += 1

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), commit=st.sampled_from(sorted(COMMITS)))
    def commit(self, data: st.DataObject, commit: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        valid = claim is self.claims[-1] and self.status in HELD
        try:
            COMMITS[commit](claim)
        except StaleClaim:
            assert not valid
            return
        assert valid
        if commit in ("succeed", "fail", "hand_back"):
            normal = {"succeed": "succeeded", "fail": "failed", "hand_back": "queued"}[commit]
            self.status = {"running": normal, "pausing": "paused", "cancelling": "cancelled"}[self.status]

    @precondition(lambda self: self.status in HELD)
    @rule()
    def lease_runs_out(self) -> None:
        # Progress between losses, so that they do not add up to a failure.
        self.store.redis.hset(f"betavae:job:{self.job_id}", "losses", 0)
        run_out(self.store, self.job_id)
        self.store.expire_leases()
        self.status = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}[self.status]

    @rule()
    def wipe_redis(self) -> None:
        self.store.redis.flushall()

    @rule()
    def rebuild(self) -> None:
        self.store.rebuild()

    @invariant()
    def the_record_is_what_it_should_be(self) -> None:
        job = self.store.get(self.job_id)
        assert (job.status, job.attempts) == (self.status, self.attempts)
        assert [j.id for j in self.store.list("train")] == [self.job_id]
        assert self.store.counts()[self.status] == 1
        assert self.store.events(self.job_id)[-1].data["status"] == self.status


def test_any_calls_in_any_order(job_store: JobStore) -> None:
    class Machine(AnyCalls):
        store = job_store

    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
