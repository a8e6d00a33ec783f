"""A state machine that calls the job store in any order."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from job_support import ACTIONS, COMMITS, events_of, run_out

from worker.jobs.claims import Claim
from worker.jobs.records import (
    HELD,
    StaleClaim,
    TransitionRefused,
)
from worker.jobs.store import JobStore


class AnyCalls(RuleBasedStateMachine):
    """Every call succeeds or is refused, at most one claim can commit, and fences only grow."""

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
        # Progress between losses keeps them from adding up to a failure.
        self.store.redis.hset(f"betavae:job:{self.job_id}", mapping={"losses": 0, "stalls": 0})
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
        assert [j.id for j in self.store.page("train")] == [self.job_id]
        assert self.store.counts()[self.status] == 1
        assert events_of(self.store, self.job_id)[-1].data["status"] == self.status


def test_any_calls_in_any_order(job_store: JobStore) -> None:
    class Machine(AnyCalls):
        store = job_store

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
