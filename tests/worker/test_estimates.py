"""The length of a training job, settled on its worker or before, and the speed that it follows from."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_support import events_of

from training.config import TrainingConfig, config_from_json, config_to_json
from training.lengths import open_length, speed_key
from training.presets import resolve
from worker.estimates import calibrate, record_speed
from worker.jobs.records import Job
from worker.jobs.speeds import Speed, known_speed, place_of, publish_speed
from worker.runtime import Runtime, open_runtime
from worker.stores.settings import Settings
from worker.tasks import work_on

SMALL = {"image_size": 32, "num_channels": 1, "latent_dim": 2, "batch_size": 4, "log_steps": 1, "preview_steps": 0}
NO_VALIDATION = {"validation_fraction": 0.0}


@pytest.fixture
def settings(tmp_path: Path, redis_server: str) -> Settings:
    return Settings(home=tmp_path / "home", redis_url=redis_server, device="cpu")


@pytest.fixture
def services(settings: Settings, tmp_path: Path) -> Iterator[Runtime]:
    """The runtime of a worker, with a data set `noise` of 40 pictures."""
    services = open_runtime(settings)
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8))
    services.datasets.add_upload("noise", tmp_path / "noise.npy", filename="noise.npy")
    yield services
    services.jobs.redis.close()


Create = Callable[..., Job]


@pytest.fixture
def create(services: Runtime) -> Create:
    """A factory of jobs; keyword arguments are settings of the training."""

    def make(minutes: float | None, estimate: dict[str, Any] | None = None, **settings: Any) -> Job:
        given = SMALL | NO_VALIDATION | settings
        length = open_length(given, has_preset=False, minutes=minutes)
        request = {
            "dataset": "noise",
            "config": config_to_json(resolve(None, given)),
            "length": None if length is None else length.to_json(),
        }
        return services.jobs.create("train", request, name="Noise", estimate=estimate)

    return make


def publish(services: Runtime, job: Job, images_per_second: float) -> None:
    """Records a speed of this machine for a job."""
    key = speed_key(config_from_json(job.request["config"]))
    publish_speed(services.jobs.redis, key, place_of("cpu"), Speed(images_per_second, is_of_run=True))


def test_a_budget_becomes_a_length_when_the_job_begins(services: Runtime, create: Create) -> None:
    job = create(minutes=0.1)
    publish(services, job, 40.0)
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    # Two of six seconds are kept for other work; 4 s at 40 images/s are 40 batches of 4, four passes over 40 images.
    assert done.estimate == {"num_steps": 40, "seconds": 19, "passes": 4.0, "settled": True}
    assert done.progress["num_steps"] == 40
    assert services.models.info(done.model or "").step == 40
    events = events_of(services.jobs, job.id)
    assert [e.data["num_steps"] for e in events if e.type == "estimate"] == [40]
    assert services.models.info(done.model or "").training["capacity_steps"] == 20


def test_a_length_that_was_settled_before_stays(services: Runtime, create: Create) -> None:
    settled = {"num_steps": 12, "seconds": 1, "passes": 1.2, "settled": True}
    job = create(minutes=0.1, estimate=settled)
    assert services.jobs.get(job.id).to_json()["progress"]["num_steps"] == 12
    publish(services, job, 40.0)
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.progress["step"]) == ("succeeded", 12)


def test_a_run_with_a_budget_resumes_bit_for_bit_whatever_the_speed_is_then(
    services: Runtime, settings: Settings, create: Create
) -> None:
    whole, job = create(minutes=0.1), create(minutes=0.1)
    publish(services, whole, 120.0)
    work_on(services, whole.id)
    thread = threading.Thread(target=work_on, args=(services, job.id))
    thread.start()
    position = None
    while thread.is_alive():
        events = services.jobs.wait_events(job.id, position, 1.0)
        position = events[-1].id if events else position
        if any(event.type == "progress" for event in events):
            services.jobs.redis.flushall()
            services.stopping.set()
            break
    thread.join()
    later = open_runtime(settings)
    publish(later, job, 4000.0)
    work_on(later, job.id)
    done = [later.jobs.get(i) for i in (whole.id, job.id)]
    assert [(j.status, j.attempts, j.progress["step"]) for j in done] == [("succeeded", 1, 120), ("succeeded", 2, 120)]
    assert done[0].estimate == done[1].estimate
    models = [later.models.info(j.model or "") for j in done]
    assert models[0].weights_sha256 == models[1].weights_sha256
    later.jobs.redis.close()


def test_a_budget_too_short_for_one_validation_fails_the_job(services: Runtime, create: Create) -> None:
    job = create(minutes=0.1)
    publish(services, job, 1.0)
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert done.status == "failed"
    assert done.error == {
        "code": "invalid_config",
        "message": "minutes: is too short for one validation of this set: it takes about 55 s",
    }


@pytest.fixture
def short_runs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets six steps count as a run that is worth an estimate, and none as one whose own speed is recorded."""
    monkeypatch.setattr("worker.estimates.SHORT_STEPS", 6)
    monkeypatch.setattr("worker.estimates._TELLING_SECONDS", float("inf"))


@pytest.mark.usefixtures("short_runs_count")
def test_an_unknown_speed_is_measured(services: Runtime, create: Create) -> None:
    job = create(minutes=None, num_steps=6)
    key = speed_key(config_from_json(job.request["config"]))
    assert known_speed(services.jobs.redis, key) is None
    work_on(services, job.id)
    known = known_speed(services.jobs.redis, key, place_of("cpu"))
    assert known is not None
    assert not known.is_of_run
    speed = known.images_per_second
    done = services.jobs.get(job.id)
    assert done.estimate == {"num_steps": 6, "seconds": round(6 * 4 / speed + 15), "passes": 0.6, "settled": True}


def test_a_short_run_of_a_given_length_is_not_measured(services: Runtime, create: Create) -> None:
    job = create(minutes=None, num_steps=6)
    work_on(services, job.id)
    assert services.jobs.get(job.id).estimate == {"num_steps": 6, "seconds": None, "passes": 0.6, "settled": True}
    assert known_speed(services.jobs.redis, speed_key(config_from_json(job.request["config"]))) is None


def test_only_a_long_training_corrects_the_speed(services: Runtime) -> None:
    config = resolve(None, {"batch_size": 64, "num_channels": 1})
    redis, key = services.jobs.redis, speed_key(config)
    calibrated = Speed(100.0, is_of_run=False)
    publish_speed(redis, key, place_of("cpu"), calibrated)
    record_speed(services, config, "cpu", num_steps=1000, seconds=29.0)
    assert known_speed(redis, key) == calibrated
    record_speed(services, config, "cpu", num_steps=1000, seconds=64.0)
    corrected = Speed(1000.0, is_of_run=True)
    assert known_speed(redis, key) == known_speed(redis, key, place_of("cpu")) == corrected
    assert known_speed(redis, key, "elsewhere/cpu") is None
    assert 0 < redis.ttl(f"betavae:speeds:{key}") <= 30 * 24 * 3600


@pytest.mark.usefixtures("short_runs_count")
def test_a_calibration_is_repeated_when_a_job_begins(services: Runtime, create: Create) -> None:
    job = create(minutes=None, num_steps=6)
    key = speed_key(config_from_json(job.request["config"]))
    too_slow = Speed(0.001, is_of_run=False)
    publish_speed(services.jobs.redis, key, place_of("cpu"), too_slow)
    work_on(services, job.id)
    assert known_speed(services.jobs.redis, key) != too_slow


def test_a_worker_is_calibrated_for_the_default_network(services: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(config: TrainingConfig, device: str) -> float:
        measured.append(config)
        return 500.0

    monkeypatch.setattr("worker.estimates.measure_speed", measure)
    calibrate(services, "cpu")
    calibrate(services, "cpu")
    assert [config.num_channels for config in measured] == [3, 1]
    assert known_speed(services.jobs.redis, speed_key(resolve(None, {}))) == Speed(500.0, is_of_run=False)
