"""Sweeps over real jobs: who is released when, what each call does in each state, and what survives."""

from collections.abc import Callable
from typing import Any

import pytest

from worker.jobs.records import IdempotencyConflict, Job
from worker.jobs.store import JobStore
from worker.stores.ids import AmbiguousName
from worker.sweeps.records import Member, Sweep, SweepRefused, SweepView, UnknownSweep
from worker.sweeps.store import SweepStore


class Rig:
    """A store of sweeps whose messages are kept in `sent`, and a worker that ends jobs as it is told."""

    def __init__(self, make_job_store: Callable[..., JobStore]) -> None:
        self.sent: list[str] = []
        self.jobs = make_job_store(send=self._send)
        self.sweeps = SweepStore(self.jobs)

    def _send(self, job: Job) -> None:
        self.sent.append(job.id)

    def create(self, count: int = 4, *, max_running: int | None = 2, name: str = "faces", **options: Any) -> Sweep:
        members = [Member(name=f"{name} {k}", settings={"seed": k}, request={"config": {}}) for k in range(count)]
        request = {"dataset": "squares", "max_running": max_running, "make_default": False}
        return self.sweeps.create(request, members, name=name, **options)

    def run(self, job_id: str, end: str = "succeeded") -> None:
        """Works on a job as a worker does, and lets the sweep go on."""
        claim = self.jobs.claim(job_id, "worker")
        assert claim is not None
        if end == "failed":
            claim.fail("diverged", "the loss became nan")
        else:
            claim.succeed({}, model=f"m-{job_id}")
        self.sweeps.advance(claim.job.request["sweep"]["id"])

    def view(self, sweep: Sweep) -> SweepView[Job]:
        return self.sweeps.view(sweep)

    def finish(self, sweep: Sweep) -> None:
        """Ends every member and the comparison."""
        for job_id in sweep.job_ids:
            self.run(job_id)
        comparison = self.view(sweep).comparison
        assert comparison is not None
        self.run(comparison.id)


@pytest.fixture
def rig(make_job_store: Callable[..., JobStore]) -> Rig:
    return Rig(make_job_store)


def test_a_later_job_does_not_wait_for_the_whole_sweep(rig: Rig) -> None:
    sweep = rig.create(5)
    single = rig.jobs.create("train", {}).id
    assert rig.sent == [*sweep.job_ids[:2], single]
    assert rig.view(sweep).statuses == ["queued"] * 5
    rig.run(sweep.job_ids[0])
    assert rig.sent == [*sweep.job_ids[:2], single, sweep.job_ids[2]]
    rig.sweeps.advance(sweep.id)
    rig.sweeps.advance_all()
    assert len(rig.sent) == 4
    view = rig.view(sweep)
    assert view.statuses == ["succeeded", "queued", "queued", "queued", "queued"]
    assert view.status == "running"
    assert view.progress() == {"fraction": 0.2, "members": {"succeeded": 1, "queued": 4}, "phase": "training"}
    assert rig.jobs.get(sweep.job_ids[2]).request == {"config": {}, "sweep": {"id": sweep.id, "index": 2}}


def test_without_a_limit_there_is_one_member_for_each_training_worker(rig: Rig) -> None:
    assert len(rig.create(3, max_running=None).members) == 3
    assert len(rig.sent) == 1
    rig.jobs.redis.set("betavae:workers:train:a-1", "{}")
    rig.jobs.redis.set("betavae:workers:train:b-1", "{}")
    rig.sweeps.advance_all()
    assert len(rig.sent) == 2


def test_a_member_that_fails_does_not_fail_the_sweep(rig: Rig) -> None:
    sweep = rig.create(2)
    rig.run(sweep.job_ids[0], "failed")
    rig.run(sweep.job_ids[1])
    view = rig.view(sweep)
    assert (view.status, view.is_comparing, view.progress()["phase"]) == ("running", True, "comparing")
    assert view.comparison is not None
    assert rig.sent[-1] == view.comparison.id
    assert view.comparison.request["models"] == [f"m-{sweep.job_ids[1]}"]
    rig.run(view.comparison.id)
    assert (rig.view(sweep).status, rig.view(sweep).is_finished) == ("succeeded", True)
    # A member that is retried makes a model more, which is compared too.
    assert rig.sweeps.retry(sweep.id).statuses == ["queued", "succeeded"]
    rig.run(sweep.job_ids[0])
    again = rig.view(sweep).comparison
    assert again is not None
    assert again.request["models"] == [f"m-{job_id}" for job_id in sweep.job_ids]
    assert rig.jobs.many([view.comparison.id]) == [None]


def test_a_sweep_has_not_ended_before_its_comparison_is_requested(rig: Rig) -> None:
    """A member ends a moment before its worker lets the sweep go on."""
    sweep = rig.create(1)
    claim = rig.jobs.claim(sweep.job_ids[0], "worker")
    assert claim is not None
    claim.succeed({}, model="m")
    view = rig.view(sweep)
    assert (view.comparison, view.status, view.is_finished) == (None, "running", False)
    rig.sweeps.advance(sweep.id)
    assert rig.view(sweep).comparison is not None


def test_a_sweep_without_a_model_has_failed(rig: Rig) -> None:
    sweep = rig.create(2)
    for job_id in sweep.job_ids:
        rig.run(job_id, "failed")
    view = rig.view(sweep)
    assert (view.status, view.comparison) == ("failed", None)
    assert rig.sweeps.retry(sweep.id).status == "running"
    with pytest.raises(SweepRefused, match=f"Sweep {sweep.id} is running; it cannot be retried."):
        rig.sweeps.retry(sweep.id)


def test_a_failed_comparison_is_retried(rig: Rig) -> None:
    sweep = rig.create(1)
    rig.run(sweep.job_ids[0])
    comparison = rig.view(sweep).comparison
    assert comparison is not None
    rig.run(comparison.id, "failed")
    assert rig.view(sweep).status == "succeeded"
    assert rig.sweeps.retry(sweep.id).is_comparing
    rig.run(comparison.id)
    with pytest.raises(SweepRefused):
        rig.sweeps.retry(sweep.id)


def test_a_comparison_is_cancelled_and_made_later(rig: Rig) -> None:
    sweep = rig.create(1)
    rig.run(sweep.job_ids[0])
    with pytest.raises(SweepRefused, match="is running; it cannot be deleted; cancel it first"):
        rig.sweeps.delete(sweep.id)
    view = rig.sweeps.cancel(sweep.id)
    assert (view.status, view.is_finished) == ("succeeded", True)
    assert rig.sweeps.retry(sweep.id).is_comparing
    rig.sweeps.cancel(sweep.id)
    rig.sweeps.delete(sweep.id)
    assert rig.jobs.storage.list("jobs") == []


def test_a_paused_sweep_starts_nothing_and_goes_on_with_what_ran(rig: Rig) -> None:
    sweep = rig.create(4)
    claim = rig.jobs.claim(sweep.job_ids[0], "worker")
    assert claim is not None
    view = rig.sweeps.pause(sweep.id)
    assert view.statuses == ["pausing", "queued", "paused", "paused"]
    assert view.status == "pausing"
    with pytest.raises(SweepRefused):
        rig.sweeps.resume(sweep.id)
    claim.paused()
    queued = rig.jobs.get(sweep.job_ids[1])
    assert not rig.sweeps.may_begin(queued)
    rig.sweeps.advance(sweep.id)
    assert rig.view(sweep).status == "paused"
    # The member that was released before is paused by the worker that takes it.
    second = rig.jobs.claim(sweep.job_ids[1], "worker")
    assert second is not None
    rig.sweeps.advance(sweep.id)
    second.paused()
    assert rig.view(sweep).statuses == ["paused"] * 4
    assert len(rig.sent) == 2
    view = rig.sweeps.resume(sweep.id)
    assert view.statuses == ["queued"] * 4
    assert rig.sent[2:] == sweep.job_ids[:2]
    assert rig.sweeps.may_begin(queued)


def test_a_cancelled_sweep_keeps_what_it_has_and_can_be_retried(rig: Rig) -> None:
    sweep = rig.create(4)
    rig.run(sweep.job_ids[0])
    claim = rig.jobs.claim(sweep.job_ids[1], "worker")
    assert claim is not None
    view = rig.sweeps.cancel(sweep.id)
    assert view.statuses == ["succeeded", "cancelling", "cancelled", "cancelled"]
    assert view.status == "cancelling"
    with pytest.raises(SweepRefused, match="is cancelling; it cannot be deleted; cancel it first"):
        rig.sweeps.delete(sweep.id)
    with pytest.raises(SweepRefused):
        rig.sweeps.retry(sweep.id)
    claim.cancelled()
    rig.sweeps.advance(sweep.id)
    view = rig.view(sweep)
    assert view.status == "cancelled"
    assert view.comparison is not None  # The one model that there is.
    rig.run(view.comparison.id)
    with pytest.raises(SweepRefused):
        rig.sweeps.cancel(sweep.id)
    assert rig.sweeps.retry(sweep.id).statuses == ["succeeded", "queued", "queued", "queued"]
    assert [rig.jobs.get(job_id).status for job_id in sweep.job_ids[:3]] == ["succeeded", "queued", "queued"]


ACTIONS = ("cancel", "pause", "resume", "retry", "delete")


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        ("queued", {"cancel", "pause"}),
        ("paused", {"cancel", "resume"}),
        ("succeeded", {"delete"}),
        ("cancelled", {"retry", "delete"}),
    ],
)
def test_each_call_in_each_state(rig: Rig, state: str, allowed: set[str]) -> None:
    for action in ACTIONS:
        sweep = rig.create(2, name=f"{state} {action}")
        if state == "succeeded":
            rig.finish(sweep)
        elif state != "queued":
            {"paused": rig.sweeps.pause, "cancelled": rig.sweeps.cancel}[state](sweep.id)
        assert rig.view(sweep).status == state
        try:
            getattr(rig.sweeps, action)(sweep.id)
            done = True
        except SweepRefused:
            done = False
            assert rig.view(sweep).status == state
        assert done == (action in allowed), (state, action)


def test_a_list_reads_no_member_that_waits(rig: Rig) -> None:
    """One look at 50 sweeps would else read thousands of files."""
    sweeps = [rig.create(20, name=name) for name in ("a", "b")]
    rig.run(sweeps[0].job_ids[0])
    rig.sweeps.page(1)  # The indexes are complete from now on.
    read = {"num": 0}
    before = rig.jobs.storage.read_bytes

    def counted(key: str) -> bytes:
        read["num"] += 1
        return before(key)

    rig.jobs.storage.read_bytes = counted  # type: ignore[method-assign]
    heads = rig.sweeps.page(10)
    views = rig.sweeps.views(heads)
    assert read["num"] == 2  # What waits of each.
    assert [(head.name, head.num_members, head.dataset) for head in heads] == [
        ("b", 20, "squares"),
        ("a", 20, "squares"),
    ]
    whole = [rig.view(sweep) for sweep in sweeps[::-1]]
    assert [view.progress() for view in views] == [view.progress() for view in whole]
    assert [view.statuses for view in views] == [view.statuses for view in whole]
    assert [(view.status, view.is_finished, view.models) for view in views] == [
        (view.status, view.is_finished, view.models) for view in whole
    ]
    read["num"] = 0
    assert rig.sweeps.is_open(sweeps[0].id)
    assert read["num"] == 0


def test_a_sweep_is_open_until_it_has_ended(rig: Rig) -> None:
    sweep = rig.create(2)
    assert rig.sweeps.is_open(sweep.id)
    rig.finish(sweep)
    assert not rig.sweeps.is_open(sweep.id)
    other = rig.create(1)
    rig.jobs.redis.flushall()
    for _ in range(2):
        assert [rig.sweeps.is_open(one.id) for one in (sweep, other)] == [False, True]
        rig.sweeps.advance_all()


def test_the_chosen_model_is_that_of_the_newest_comparison(rig: Rig) -> None:
    sweep = rig.create(1)
    rig.run(sweep.job_ids[0])
    comparison = rig.view(sweep).comparison
    assert comparison is not None
    assert rig.sweeps.winner(rig.view(sweep)) is None
    claim = rig.jobs.claim(comparison.id, "worker")
    assert claim is not None
    first, second = ({"model": model, "reason": "its loss"} for model in ("m-1", "m-2"))
    rig.sweeps.storage.write_json(f"sweeps/{sweep.id}/comparison.json", {"winner": first})
    assert rig.sweeps.winner(rig.view(sweep)) == first
    claim.succeed({"winner": second})
    assert rig.sweeps.winner(rig.view(sweep)) == second


def test_a_deleted_sweep_takes_its_jobs_along(rig: Rig) -> None:
    sweep = rig.create(2)
    rig.finish(sweep)
    rig.sweeps.delete(sweep.id)
    assert rig.jobs.many(sweep.job_ids) == [None, None]
    assert rig.jobs.storage.list("jobs") == []
    assert rig.jobs.storage.list("sweeps") == []
    with pytest.raises(UnknownSweep):
        rig.sweeps.get(sweep.id)
    rig.sweeps.advance(sweep.id)
    assert rig.sweeps.page(10) == []


def test_a_wiped_redis_loses_no_sweep(rig: Rig) -> None:
    first, second = rig.create(3, name="first"), rig.create(2, name="second", max_running=1)
    rig.run(first.job_ids[0])
    rig.sweeps.pause(second.id)
    before = [rig.view(sweep).statuses for sweep in (first, second)]
    rig.jobs.redis.flushall()
    assert [sweep.id for sweep in rig.sweeps.page(10)] == [second.id, first.id]
    assert [rig.view(sweep).statuses for sweep in (first, second)] == before
    rig.sweeps.advance_all()
    for job_id in first.job_ids[1:]:
        rig.run(job_id)
    assert rig.view(first).is_comparing


def test_a_release_that_was_cut_off_makes_no_member_twice(rig: Rig) -> None:
    sweep = rig.create(3, max_running=1)
    state = rig.sweeps.storage.path(f"sweeps/{sweep.id}/state.json")  # type: ignore[attr-defined]
    state.unlink()  # The worker was killed between the job and the state.
    rig.sweeps.advance(sweep.id)
    assert set(rig.sent) == {sweep.job_ids[0]}
    rig.run(sweep.job_ids[0])
    assert rig.view(sweep).statuses == ["succeeded", "queued", "queued"]
    assert rig.sent[-1] == sweep.job_ids[1]


def test_a_key_makes_one_sweep_until_it_is_deleted(rig: Rig) -> None:
    first = rig.create(2, idempotency_key="k")
    assert rig.create(2, idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        rig.create(2, idempotency_key="k", max_running=1)
    rig.finish(first)
    rig.sweeps.delete(first.id)
    assert rig.create(2, idempotency_key="k").id != first.id


def test_sweeps_are_found_by_name_and_listed_by_pages(rig: Rig) -> None:
    made = [rig.create(1, name=name) for name in ("a", "b", "a")]
    assert rig.sweeps.find("b").id == made[1].id
    assert rig.sweeps.find(made[0].id).id == made[0].id
    with pytest.raises(AmbiguousName, match="2 sweeps have the name a"):
        rig.sweeps.find("a")
    with pytest.raises(UnknownSweep, match="There is no sweep with the id c"):
        rig.sweeps.find("c")
    ids = [sweep.id for sweep in rig.sweeps.page(10)]
    assert set(ids) == {sweep.id for sweep in made}
    assert [sweep.id for sweep in rig.sweeps.page(1, after=ids[0])] == ids[1:2]
    with pytest.raises(UnknownSweep):
        rig.sweeps.page(1, after="s-none")
