"""Job records: the table of transitions, and the events of the log."""

import anyio
import pytest
from job_support import ACTIONS, bring_to, events_of

from worker.jobs.connections import connect_async
from worker.jobs.events import follow_events
from worker.jobs.records import (
    FINISHED,
    STATES,
    TRANSITIONS,
    TransitionRefused,
    UnknownJob,
)
from worker.jobs.store import JobStore
from worker.stores.storage import LocalStorage


@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_does_what_the_table_says_or_is_refused(job_store: JobStore, action: str, status: str) -> None:
    job_id, _ = bring_to(job_store, status)
    num_events = len(events_of(job_store, job_id))
    expected = ACTIONS[action].get(status)
    if expected is None:
        with pytest.raises(TransitionRefused) as refused:
            getattr(job_store, action)(job_id)
        assert refused.value.status == status
        assert job_store.get(job_id).status == status
        assert len(events_of(job_store, job_id)) == num_events
    else:
        assert expected in TRANSITIONS[status]
        assert getattr(job_store, action)(job_id).status == expected
        assert [e.type for e in events_of(job_store, job_id)][num_events:] == [expected]


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
        assert job_store.page() == []
        with pytest.raises(UnknownJob):
            job_store.get(job_id)
    else:
        with pytest.raises(TransitionRefused):
            job_store.delete(job_id)
        assert job_store.get(job_id).status == status


def test_ids_of_any_form_are_unknown_without_a_job(job_store: JobStore) -> None:
    for job_id in ("j-0", "../x", "", "a b", "x" * 500, "*"):
        with pytest.raises(UnknownJob):
            job_store.get(job_id)
        with pytest.raises(UnknownJob):
            job_store.cancel(job_id)
        with pytest.raises(UnknownJob):
            events_of(job_store, job_id)


def test_progress_is_recorded_with_an_event(job_store: JobStore) -> None:
    job_id, claim = bring_to(job_store, "running")
    assert claim is not None
    claim.progress({"step": 5, "num_steps": 10, "fraction": 0.5}, {"kl": 2.5})
    job = job_store.get(job_id)
    assert job.progress["step"] == 5
    assert job.metrics["kl"] == 2.5
    event = events_of(job_store, job_id)[-1]
    assert (event.type, event.data["progress"]["step"], event.data["status"]) == ("progress", 5, "running")


def test_events_can_be_read_from_any_point(job_store: JobStore) -> None:
    job_id, _ = bring_to(job_store, "succeeded")
    events = events_of(job_store, job_id)
    assert [e.type for e in events] == ["queued", "running", "succeeded"]
    for i, event in enumerate(events):
        assert events_of(job_store, job_id, event.id) == events[i + 1 :]
    assert events_of(job_store, job_id, "no event id") == events
    assert job_store.wait_events(job_id, events[0].id, 0.05) == events[1:]
    assert job_store.wait_events(job_id, events[-1].id, 0.01) == []


@pytest.mark.parametrize("after", [None, "last"])
def test_following_ends_with_the_job(job_store: JobStore, redis_server: str, after: str | None) -> None:
    job_id, _ = bring_to(job_store, "succeeded")
    position = events_of(job_store, job_id)[-1].id if after else None

    async def follow() -> list[str]:
        client = connect_async(redis_server)
        events = [e async for e in follow_events(client, job_store, job_id, position, idle_seconds=0.05)]
        await client.aclose()
        return [e.type for e in events if e]

    assert anyio.run(follow) == ([] if after else ["queued", "running", "succeeded"])
