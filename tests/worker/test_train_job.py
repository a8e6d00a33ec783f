"""Training as a job, from the request to a model, with every kind of interruption."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_support import events_of, run_out
from PIL import Image

from models.convolutions import loader as convolutions
from models.files import load_model
from models.info import Preprocessing
from training.checkpoints import write_checkpoint
from training.config import all_settings, config_to_json
from training.device import DeviceError, pick_device
from training.presets import resolve
from worker.dataset_job import request_pack
from worker.jobs.queue import workers_alive
from worker.jobs.records import Job
from worker.runtime import Runtime, open_runtime
from worker.stores.backups import back_up, restore
from worker.stores.settings import Settings
from worker.tasks import work_on

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures of a square in different places, and one file that is not a picture."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i in range(40):
        pixels = np.zeros((32, 32), np.uint8)
        x, y = rng.integers(2, 24, 2)
        pixels[y : y + 6, x : x + 6] = 255
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def settings(tmp_path: Path, redis_server: str) -> Settings:
    return Settings(home=tmp_path / "home", redis_url=redis_server, device="cpu", lease_seconds=0.4)


@pytest.fixture
def services(settings: Settings, pictures: Path) -> Iterator[Runtime]:
    """The runtime of a worker, with a data set `squares`."""
    services = open_runtime(settings)
    services.datasets.add_path("squares", pictures)
    yield services
    services.jobs.redis.close()


Create = Callable[..., Job]


@pytest.fixture
def create(services: Runtime) -> Create:
    """A factory of training jobs; keyword arguments are settings of the training."""

    def make(
        dataset: str = "squares", *, start: str | None = None, evaluate: tuple[str, ...] = (), **settings: Any
    ) -> Job:
        defaults = {
            "image_size": 32,
            "latent_dim": 2,
            "batch_size": 4,
            "num_steps": 6,
            "log_steps": 1,
            "preview_steps": 0,
            "validation_fraction": 0.0,
        }
        if "num_epochs" in settings:
            del defaults["num_steps"]
        config = config_to_json(resolve(None, defaults | settings, from_model=start is not None))
        request = {"dataset": dataset, "preset": None, "config": config, "from": start, "evaluate": list(evaluate)}
        return services.jobs.create("train", request, name="Squares")

    return make


def test_a_job_becomes_a_model(services: Runtime, create: Create) -> None:
    job = create()
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert done.progress["step"] == done.progress["num_steps"] == 6
    assert done.progress["fraction"] == 1.0
    assert done.progress["images_per_second"] > 0
    assert {"reconstruction_loss", "kl", "capacity"} <= done.metrics.keys()
    assert len(done.metrics["kl_per_dimension"]) == 2
    assert done.model is not None
    info, folder = services.models.get(done.model)
    assert (info.name, info.step, info.dataset["id"], info.dataset["num_images"]) == ("Squares", 6, "squares", 40)
    assert load_model(folder).info == info
    types = [event.type for event in events_of(services.jobs, job.id)]
    assert types[:2] == ["queued", "running"]
    assert types[-1] == "succeeded"
    assert {"packing", "progress", "checkpoint"} <= set(types)
    record = services.datasets.get("squares")
    assert (record.status, record.num_images, record.num_rejected) == ("ready", 40, 1)


def test_a_job_of_an_earlier_version_becomes_a_model(services: Runtime, create: Create) -> None:
    """Jobs of earlier versions have the settings of every objective."""
    request = create(objective="beta", beta=2.0).request
    of_every_objective = {name: field.default for name, field in all_settings().items()} | {"beta": 4.0}
    config = of_every_objective | request["config"]
    job = services.jobs.create("train", {**request, "config": config}, name="Squares")
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    info, _ = services.models.get(done.model or "")
    assert (info.training["objective"], info.training["beta"]) == ("beta", 2.0)
    assert "gamma" not in info.training


def test_a_job_says_its_length_before_it_begins_and_its_phase_as_it_works(
    services: Runtime, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown = create(num_steps=6), create(num_epochs=2.0)
    lengths = [services.jobs.get(job.id).to_json()["progress"]["num_steps"] for job in (known, unknown)]
    assert lengths == [6, None]
    seen = []
    commit = services.jobs.commit_claim

    def watch(claim: Any, *arguments: Any) -> str:
        status = commit(claim, *arguments)
        if claim.id == known.id:
            seen.append(services.jobs.get(claim.id).to_json()["progress"])
        return status

    monkeypatch.setattr(services.jobs, "commit_claim", watch)
    work_on(services, known.id)
    phases = list(dict.fromkeys(progress["phase"] for progress in seen if progress["phase"]))
    assert phases == ["packing", "training", "naming"]
    assert {progress["num_steps"] for progress in seen} == {6}
    packing = [progress for progress in seen if progress["phase"] == "packing"]
    assert packing[-1]["phase_fraction"] == 1.0
    assert {progress["step"] for progress in packing} == {0}
    done = services.jobs.get(known.id).to_json()["progress"]
    assert (done["step"], done["phase"], done["phase_fraction"]) == (6, None, None)


def test_a_job_without_a_number_of_channels_takes_the_pictures(
    services: Runtime, create: Create, tmp_path: Path
) -> None:
    assert services.jobs.get(create().id).request["config"]["num_channels"] is None
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "colours.npy", pixels)
    services.datasets.add_upload("colours", tmp_path / "colours.npy", filename="colours.npy")
    for dataset, asked, num_channels in (("squares", None, 1), ("colours", None, 3), ("colours", 1, 1)):
        job = create(dataset, num_channels=asked)
        work_on(services, job.id)
        info, _ = services.models.get(services.jobs.get(job.id).model or "")
        assert info.network.num_channels == info.preprocessing.num_channels == num_channels
        assert info.training["num_channels"] == num_channels


def test_a_warning_comes_once_whatever_its_numbers(
    services: Runtime, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "training.monitor.Watch.look", lambda self, step, metrics: [f"far: {step / 7:.2f} nats", "slow"]
    )
    job = create()
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert len(done.warnings) == 2
    assert done.warnings[1] == "slow"
    assert [event.type for event in events_of(services.jobs, job.id)].count("warning") == 2


def test_a_wake_up_that_comes_twice_does_nothing(services: Runtime, create: Create) -> None:
    job = create()
    for _ in range(2):
        work_on(services, job.id)
    assert services.jobs.get(job.id).attempts == 1
    work_on(services, "j-that-was-deleted")


def in_mid_training(services: Runtime, job_id: str, then: Callable[[], object]) -> None:
    """Works on a job in a thread, and does something when a few steps are done."""
    thread = threading.Thread(target=work_on, args=(services, job_id))
    thread.start()
    position = None
    try:
        while thread.is_alive():
            events = services.jobs.wait_events(job_id, position, 1.0)
            position = events[-1].id if events else position
            if any(event.type == "progress" for event in events):
                then()
                break
    finally:
        thread.join(timeout=60)
    assert not thread.is_alive()


def test_cancelling_stops_a_training(services: Runtime, create: Create) -> None:
    job = create(num_steps=100_000)
    in_mid_training(services, job.id, lambda: services.jobs.cancel(job.id))
    done = services.jobs.get(job.id)
    assert (done.status, done.model) == ("cancelled", None)
    assert not any(not record.shipped for record in services.models.records())


@pytest.mark.parametrize("interruption", ["pause", "stop the worker", "wipe Redis and stop the worker"])
def test_an_interrupted_training_ends_with_the_same_model(
    services: Runtime, settings: Settings, create: Create, interruption: str
) -> None:
    num_steps = 120
    job = create(num_steps=num_steps)

    def interrupt() -> None:
        if interruption == "pause":
            services.jobs.pause(job.id)
            return
        if interruption.startswith("wipe"):
            services.jobs.redis.flushall()
        services.stopping.set()

    in_mid_training(services, job.id, interrupt)
    stopped = services.jobs.get(job.id)
    assert stopped.status == ("paused" if interruption == "pause" else "queued")
    if interruption == "pause":
        services.jobs.resume(job.id)
    work_on(open_runtime(settings), job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.attempts) == ("succeeded", 2)
    assert done.resumed_from_step is not None
    assert 0 < done.resumed_from_step < num_steps
    if not interruption.startswith("wipe"):
        assert stopped.progress["step"] == done.resumed_from_step
        assert stopped.progress["fraction"] == done.resumed_from_step / num_steps

    whole = create(num_steps=num_steps)
    work_on(open_runtime(settings), whole.id)
    models = [services.models.info(services.jobs.get(i).model or "") for i in (job.id, whole.id)]
    assert models[0].weights_sha256 == models[1].weights_sha256


def test_a_training_that_goes_on_keeps_its_number_of_channels(
    services: Runtime, settings: Settings, create: Create, pictures: Path
) -> None:
    job = create(num_steps=120)
    in_mid_training(services, job.id, services.stopping.set)
    for path in pictures.glob("[0-9]*.png"):
        Image.new("RGB", (32, 32), (255, 0, 0)).save(path)
    work_on(open_runtime(settings), job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.attempts) == ("succeeded", 2)
    assert done.resumed_from_step is not None
    assert services.models.info(done.model or "").network.num_channels == 1


def test_a_training_that_goes_on_keeps_its_images(
    services: Runtime, settings: Settings, create: Create, pictures: Path
) -> None:
    """The folder has changed, and another job has packed it anew."""
    whole, job = create(num_steps=120), create(num_steps=120)
    work_on(services, whole.id)
    in_mid_training(services, job.id, services.stopping.set)
    (pictures / "00.png").unlink()
    other = create()
    services = open_runtime(settings)
    work_on(services, other.id)
    work_on(services, job.id)
    done = [services.jobs.get(i) for i in (whole.id, job.id, other.id)]
    assert [(j.status, j.attempts) for j in done] == [("succeeded", 1), ("succeeded", 2), ("succeeded", 1)]
    assert "the run goes on with the 40 that it began with" in "; ".join(done[1].warnings)
    models = [services.models.info(j.model or "") for j in done]
    assert models[0].weights_sha256 == models[1].weights_sha256
    assert [model.dataset["num_images"] for model in models] == [40, 40, 39]
    assert not list(services.settings.home.glob("jobs/*/.pack"))


def test_another_machine_goes_on_with_a_runs_records(
    settings: Settings, pictures: Path, tmp_path: Path, create: Create
) -> None:
    """The storage is remote, so that a machine has only the files that the previous one uploaded."""
    remote = {"storage_url": f"local://{tmp_path / 'remote'}"}
    machines = [
        open_runtime(settings.model_copy(update=remote | {"home": tmp_path / name})) for name in ("first", "second")
    ]
    first, second = machines
    first.datasets.add_path("squares", pictures)
    job = first.jobs.create("train", create(num_steps=120).request, name="Squares")
    in_mid_training(first, job.id, first.stopping.set)
    work_on(second, job.id)
    done = second.jobs.get(job.id)
    assert (done.status, done.attempts) == ("succeeded", 2)
    lines = second.storage.read_bytes(f"jobs/{job.id}/metrics.jsonl").splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if "loss" in record]
    assert steps == list(range(1, 121))
    for services in machines:
        services.jobs.redis.close()


def test_a_holder_that_lost_its_claim_leaves_nothing(services: Runtime, create: Create) -> None:
    job = create(num_steps=100_000)

    def take_away() -> None:
        services.jobs.redis.zadd("betavae:leases", {job.id: 1})
        while not services.jobs.expire_leases():
            services.jobs.redis.zadd("betavae:leases", {job.id: 1})
        assert services.jobs.claim(job.id, "another") is not None

    in_mid_training(services, job.id, take_away)
    now = services.jobs.get(job.id)
    assert (now.status, now.worker, now.fence) == ("running", "another", 2)
    assert not any(not record.shipped for record in services.models.records())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"dataset": "nowhere"}, "unknown_dataset"),
        ({"dataset": "broken"}, "not_a_zip"),
        ({"batch_size": 4, "learning_rate": 10.0, "objective": "beta", "num_steps": 2000}, "diverged"),
    ],
)
def test_an_impossible_training_fails_with_a_code(
    services: Runtime, create: Create, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    zipfile.ZipFile(tmp_path / "broken.zip", "w").close()
    services.datasets.add_path("broken", tmp_path / "broken.zip")
    (tmp_path / "broken.zip").write_bytes(b"no zip any more")
    job = create(**options)
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert done.status == "failed"
    assert done.error is not None
    assert done.error["code"] == code
    assert done.error["message"]


def test_a_bug_fails_the_job_and_not_the_worker(
    services: Runtime, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("worker.train_job.train", bug)
    job = create()
    work_on(services, job.id)
    error = services.jobs.get(job.id).error
    assert error is not None
    assert error["code"] == "internal_error"


def test_too_little_memory_is_reported_and_not_logged_as_a_bug(
    services: Runtime, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object, **__: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr("worker.train_job.train", too_much)
    monkeypatch.setattr("worker.evaluation_job.evaluate_for_job", too_much)
    request = {"model": "dsprites", "dataset": "squares", "metrics": [], "seed": 0}
    for job, said in (
        (create(), "too little memory for this batch_size: "),
        (services.jobs.create("evaluation", request), "too little memory: "),
    ):
        work_on(services, job.id)
        error = services.jobs.get(job.id).error
        assert error is not None
        assert error["code"] == "out_of_memory"
        assert said in error["message"]


def test_a_worker_that_is_stopping_begins_nothing(services: Runtime, create: Create) -> None:
    job = create()
    services.stopping.set()
    work_on(services, job.id)
    assert services.jobs.get(job.id).status == "queued"


# Start from a model, and evaluation


def test_a_training_that_starts_from_a_model_says_so_and_begins_at_step_0(services: Runtime, create: Create) -> None:
    first = create()
    work_on(services, first.id)
    source = services.jobs.get(first.id).model
    other, wrong, gone = (
        create(start=source, learning_rate=1e-9, optimizer="sgd"),
        create(start=source, latent_dim=3),
        create(start="nobody"),
    )
    for job in (other, wrong, gone):
        work_on(services, job.id)
    done = services.jobs.get(other.id)
    assert (done.status, done.resumed_from_step, done.progress["step"]) == ("succeeded", None, 6)
    assert "started_from" in [event.type for event in events_of(services.jobs, other.id)]
    old, new = (load_model(services.models.get(model or "")[1]) for model in (source, done.model))
    assert source is not None and source in new.info.source
    assert old.info.weights_sha256[:16] in new.info.source
    for name, tensor in old.network.state_dict().items():
        torch.testing.assert_close(new.network.state_dict()[name], tensor, atol=1e-4, rtol=0)
    errors = [services.jobs.get(job.id).error or {} for job in (wrong, gone)]
    assert [error["code"] for error in errors] == ["invalid_config", "unknown_model"]
    assert "latent_dim" in errors[0]["message"]


@pytest.fixture
def labelled(services: Runtime, tmp_path: Path) -> str:
    """The id of a set of pictures with two factors."""
    rng = np.random.default_rng(0)
    factors = np.stack(np.meshgrid(np.arange(5), np.arange(4), indexing="ij"), -1).reshape(-1, 2).repeat(8, axis=0)
    images = rng.integers(0, 255, (len(factors), 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "labelled.npz", images=images, factors=factors)
    return services.datasets.add_path("labelled", tmp_path / "labelled.npz").id


def test_requested_scores_are_in_the_job_and_in_the_model(services: Runtime, create: Create, labelled: str) -> None:
    job = create(labelled, evaluate=("mig", "modularity"))
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert not [text for text in done.warnings if "evaluated" in text]
    assert done.result is not None
    assert done.result["evaluation"]["scores"].keys() == {"mig", "modularity"}
    metrics = services.models.info(done.model or "").metrics
    assert metrics["mig"]["value"] == done.result["evaluation"]["scores"]["mig"]["value"]
    assert metrics["mig"]["dataset"] == labelled
    types = [event.type for event in events_of(services.jobs, job.id)]
    assert types.index("model") < types.index("evaluating") < types.index("succeeded")


def test_an_evaluation_that_fails_is_a_warning(
    services: Runtime, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("worker.evaluations.evaluate_model", bug)
    job = create(evaluate=("mig",))
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert done.status == "succeeded"
    assert sum("could not be evaluated" in text for text in done.warnings) == 1
    assert services.models.exists(done.model or "")


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_training_whose_evaluation_is_stopped_has_made_its_model(
    services: Runtime, settings: Settings, create: Create, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    job = create(evaluate=("mig",))

    def endless(*_: object, on_progress: Any, **__: object) -> None:
        getattr(services.jobs, wish)(job.id)
        while True:
            on_progress("encoding", 0, 1)

    with monkeypatch.context() as context:
        context.setattr("worker.evaluations.evaluate_model", endless)
        work_on(services, job.id)
    stopped = services.jobs.get(job.id)
    assert stopped.status == {"cancel": "cancelled", "pause": "paused"}[wish]
    assert stopped.model is not None
    services.models.rename(stopped.model, "Mine")
    if wish == "pause":
        services.jobs.resume(job.id)
        work_on(open_runtime(settings), job.id)
        done = services.jobs.get(job.id)
        assert (done.status, done.model) == ("succeeded", stopped.model)
        assert "evaluation" in (done.result or {})
    assert services.models.info(stopped.model).name == "Mine"


# Packing


def test_a_set_is_packed_once_for_all_jobs_that_need_it(services: Runtime, create: Create) -> None:
    preprocessing = Preprocessing(image_size=32, num_channels=1)
    packing = request_pack(services.jobs, "squares", preprocessing)
    assert request_pack(services.jobs, "squares", preprocessing) == packing
    work_on(services, packing.id)
    done = services.jobs.get(packing.id)
    assert (done.status, done.result and done.result["num_images"]) == ("succeeded", 40)
    job = create()
    work_on(services, job.id)
    assert "packing" not in [event.type for event in events_of(services.jobs, job.id)]
    again = request_pack(services.jobs, "squares", preprocessing)
    assert (again.status, again.attempts) == ("queued", 0)


def test_one_packing_at_a_time_in_a_process(services: Runtime) -> None:
    packing = request_pack(services.jobs, "squares", Preprocessing(image_size=32, num_channels=1))
    with services.packing:
        work_on(services, packing.id)
        assert services.jobs.get(packing.id).status == "queued"
    work_on(services, packing.id)
    assert services.jobs.get(packing.id).status == "succeeded"


def test_the_request_of_a_packing_is_the_preprocessing(services: Runtime) -> None:
    preprocessing = Preprocessing(image_size=64, num_channels=3, crop="none", crop_size=20)
    job = request_pack(services.jobs, "squares", preprocessing)
    assert job.request == {"dataset": "squares", "preprocessing": preprocessing.model_dump()}
    assert job.id == "pack-squares-64px-rgb-crop20-whole"


# Devices


def test_devices_are_picked_or_refused_in_one_line() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    missing = "cuda:99" if torch.cuda.is_available() else "cuda:0"
    for name in (missing, "gpu", "mps"):
        with pytest.raises(DeviceError) as error:
            pick_device(name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)


# A real worker


def start_worker(queue: str, settings: Settings, **more: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BETAVAE_")}
    environment |= {"BETAVAE_HOME": str(settings.home), "BETAVAE_REDIS_URL": settings.redis_url or "", **more}
    return subprocess.Popen(
        [sys.executable, "-m", "worker", queue],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_real_worker_trains_stops_on_sigterm_and_goes_on(
    services: Runtime, settings: Settings, create: Create
) -> None:
    create_sent = open_runtime(settings)
    job = create(num_steps=100_000)
    create_sent.jobs.send(job)

    def wait_for(event_type: str, after: str | None) -> str:
        while True:
            assert worker.poll() is None
            for event in services.jobs.wait_events(job.id, after, 1.0):
                after = event.id
                if event.type == event_type:
                    return after

    worker = start_worker("train", settings, BETAVAE_DEVICE="cpu")
    try:
        position = wait_for("progress", None)
        assert workers_alive(services.jobs.redis)["train"] == 1
        worker.send_signal(signal.SIGTERM)
        printed, log = worker.communicate(timeout=60)
        assert worker.returncode == 0
        assert "MainProcess" not in f"{printed} {log}"  # This is a text of Celery.
        assert services.jobs.get(job.id).status == "queued"
        assert workers_alive(services.jobs.redis)["train"] == 0
        story = [f"job {job.id}: running (train, attempt 1)", f"job {job.id}: queued (worker stopping)", "stopped"]
        assert [line for line in story if line in log] == story
        assert f"convolutions {convolutions.describe()}" in log
        assert "Traceback" not in log

        worker = start_worker("train", settings, BETAVAE_DEVICE="cpu")
        wait_for("resumed", position)
        services.jobs.cancel(job.id)
        wait_for("cancelled", position)
    finally:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"BETAVAE_PROT": "1"}, "worker train: BETAVAE_PROT is not a setting; did you mean BETAVAE_PORT?"),
        ({"BETAVAE_REDIS_URL": ""}, "worker train: BETAVAE_REDIS_URL is not set"),
        ({"BETAVAE_DEVICE": "cuda:9"}, "worker train: device 'cuda:9'"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(
    settings: Settings, variables: dict[str, str], line: str
) -> None:
    worker = start_worker("train", settings, **variables)
    _, log = worker.communicate(timeout=120)
    assert worker.returncode == 2
    assert len(log.splitlines()) == 1
    assert log.startswith(line)


def after_first_progress(services: Runtime, job_id: str, act: Callable[[str], Job]) -> threading.Thread:
    """Starts a thread that acts on a job when it reports its first progress."""

    def follow() -> None:
        position = None
        while True:
            for event in services.jobs.wait_events(job_id, position, 1.0):
                position = event.id
                if event.type == "progress":
                    act(job_id)
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def test_a_training_that_is_asked_to_finish_becomes_a_model_early(services: Runtime, create: Create) -> None:
    job = create(num_steps=100_000, preview_steps=50)
    asking = after_first_progress(services, job.id, services.jobs.finish)
    work_on(services, job.id)
    asking.join()
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert done.model is not None
    assert 100 < done.progress["num_steps"] < 100_000
    assert done.progress["step"] == done.progress["num_steps"]
    assert "finishing" in [event.type for event in events_of(services.jobs, job.id)]


def test_a_cancelled_training_can_still_become_a_model(services: Runtime, create: Create) -> None:
    job = create(num_steps=100_000)
    cancelling = after_first_progress(services, job.id, services.jobs.cancel)
    work_on(services, job.id)
    cancelling.join()
    assert services.jobs.get(job.id).status == "cancelled"
    services.jobs.finish(job.id)
    work_on(services, job.id)
    done = services.jobs.get(job.id)
    assert (done.status, done.error) == ("succeeded", None)
    assert done.model is not None
    assert done.resumed_from_step is not None


def test_a_backup_of_a_training_under_way_goes_on_elsewhere(
    create: Create, services: Runtime, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is made between two steps, and is worked on with a Redis that knows nothing of the job."""
    job, copy = create(num_steps=12), io.BytesIO()

    def write_and_back_up(folder: Path, checkpoint: Any, *arguments: Any, **options: Any) -> Path:
        path = write_checkpoint(folder, checkpoint, *arguments, **options)
        if checkpoint.step == 5:
            back_up(settings.home, copy)
        return path

    monkeypatch.setattr("worker.train_job.write_checkpoint", write_and_back_up)
    eager = open_runtime(settings.model_copy(update={"checkpoint_seconds": 1e-9}))
    work_on(eager, job.id)
    whole = eager.models.info(eager.jobs.get(job.id).model or "")
    services.jobs.redis.flushall()
    copy.seek(0)
    restore(copy, tmp_path / "elsewhere")
    elsewhere = open_runtime(settings.model_copy(update={"home": tmp_path / "elsewhere"}))
    elsewhere.jobs.rebuild()
    assert elsewhere.jobs.get(job.id).status == "running"
    run_out(elsewhere.jobs, job.id)
    elsewhere.jobs.expire_leases()
    work_on(elsewhere, job.id)
    done = elsewhere.jobs.get(job.id)
    assert (done.status, done.attempts, done.resumed_from_step, done.progress["step"]) == ("succeeded", 2, 5, 12)
    assert elsewhere.models.info(done.model or "").weights_sha256 == whole.weights_sha256
    for runtime in (eager, elsewhere):
        runtime.jobs.redis.close()
