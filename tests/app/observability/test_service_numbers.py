"""Numbers of the whole service in /metrics: queues, trainings, leases, fences, deadlines and the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import Service, service
from prometheus_client.parser import text_string_to_metric_families

from worker.jobs.counters import PACKING_DEADLINES, RENDER_SECONDS, RENDERS
from worker.jobs.queue import open_job_store
from worker.jobs.records import StaleClaim
from worker.jobs.store import JobStore
from worker.stores.children import ParserDied, ParsingChild
from worker.stores.storage import LocalStorage

Numbers = dict[tuple[str, ...], float]


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path, redis_process) as running:
        yield running


@pytest.fixture
def store(api: Service) -> Iterator[JobStore]:
    """The job store of the service."""
    opened = open_job_store(api.settings, LocalStorage(api.settings.home))
    yield opened
    opened.redis.close()


def _numbers(api: Service) -> Numbers:
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    return {(sample.name, *sample.labels.values()): sample.value for one in families for sample in one.samples}


def test_an_idle_service_has_every_number(api: Service) -> None:
    numbers = _numbers(api)
    for queue in ("train", "render"):
        assert numbers[("betavae_queue_age_seconds", queue)] == 0
    assert numbers[("betavae_images_per_second", "train")] == 0
    assert numbers[("betavae_lease_expiries_total",)] == numbers[("betavae_fence_refusals_total",)] == 0
    assert {key[1] for key in numbers if key[0] == "betavae_deadlines_passed_total"} == {"body", "call", "parsing"}
    disk = shutil.disk_usage(api.settings.home)
    assert 0 < numbers[("betavae_disk_free_bytes",)] <= disk.total


def test_the_age_of_a_queue_is_that_of_its_oldest_job(api: Service, store: JobStore) -> None:
    ids = [store.create(kind, {"n": 1}).id for kind in ("train", "train", "traversal")]
    seconds, _ = store.redis.time()
    ages = dict(zip(ids, (5000, 7000, 300), strict=True))
    store.redis.zadd("betavae:status:queued", {job_id: (seconds - age) * 1000 for job_id, age in ages.items()})
    numbers = _numbers(api)
    assert 7000 <= numbers[("betavae_queue_age_seconds", "train")] < 7100
    assert 300 <= numbers[("betavae_queue_age_seconds", "render")] < 400


def test_the_speeds_of_running_trainings_are_added_up(api: Service, store: JobStore) -> None:
    for speed in (None, 812.5, 100.0):
        claim = store.claim(store.create("train", {"n": 1}).id, "worker")
        assert claim is not None
        claim.progress({"step": 1, "images_per_second": speed})
    assert _numbers(api)[("betavae_images_per_second", "train")] == 912.5
    assert claim is not None
    claim.succeed()
    assert _numbers(api)[("betavae_images_per_second", "train")] == 812.5


def test_a_lost_worker_counts_as_a_lease_and_its_commit_as_a_refusal(api: Service, store: JobStore) -> None:
    job_id = store.create("train", {"n": 1}).id
    lost = store.claim(job_id, "lost")
    assert lost is not None
    store.redis.zadd("betavae:leases", {job_id: 1})
    store.expire_leases()
    for commit in (lost.renew, lambda: lost.succeed({})):
        with pytest.raises(StaleClaim):
            commit()
    numbers = _numbers(api)
    assert numbers[("betavae_lease_expiries_total",)] == 1
    assert numbers[("betavae_fence_refusals_total",)] == 2


def test_a_renewal_after_the_holders_own_end_is_no_refusal(api: Service, store: JobStore) -> None:
    claim = store.claim(store.create("train", {"n": 1}).id, "worker")
    assert claim is not None
    claim.succeed({})
    with pytest.raises(StaleClaim):
        claim.renew()
    assert _numbers(api)[("betavae_fence_refusals_total",)] == 0


def test_a_file_that_is_read_for_too_long_counts_as_a_passed_deadline(api: Service) -> None:
    before = _numbers(api)[("betavae_deadlines_passed_total", "parsing")]
    child = ParsingChild()
    with pytest.raises(ParserDied, match=r"more than 0\.01 s"):
        child.ask({"task": "nothing"}, seconds=0.01)  # Python takes longer to start.
    assert _numbers(api)[("betavae_deadlines_passed_total", "parsing")] == before + 1


def test_the_counters_of_workers_are_shown(api: Service, store: JobStore) -> None:
    store.count({PACKING_DEADLINES: 1, f"{RENDERS}frames": 1, f"{RENDER_SECONDS}frames": 0.25})
    store.count({f"{RENDERS}frames": 1, f"{RENDER_SECONDS}frames": 0.5})
    numbers = _numbers(api)
    assert numbers[("betavae_deadlines_passed_total", "packing")] == 1
    assert numbers[("betavae_render_seconds_count", "frames")] == 2
    assert numbers[("betavae_render_seconds_sum", "frames")] == 0.75
