"""The length of a training job over HTTP: a budget of time, a length that suits the set, and the estimate."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from api_support import Service, assert_problem, service, zip_of_pictures

from training.config import TrainingConfig
from training.lengths import speed_key
from worker.jobs.connections import connect
from worker.jobs.speeds import Speed, publish_speed


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service without workers, with a data set `shapes` of 40 pictures."""
    with service(tmp_path_factory.mktemp("lengths"), redis_process) as running:
        files = {"file": ("a.zip", zip_of_pictures(40, broken=2))}
        assert running.client.post("/datasets", data={"name": "shapes"}, files=files).status_code == 201
        yield running


@pytest.fixture
def set_speed(api: Service) -> Iterator[Any]:
    """A function that publishes the speed of a worker for the default network on pictures of some channels."""
    client = connect(api.settings.redis_url or "")

    def publish(images_per_second: float, num_channels: int = 3, *, is_of_run: bool = True) -> None:
        key = speed_key(TrainingConfig(num_channels=num_channels))
        publish_speed(client, key, "worker/cpu", Speed(images_per_second, is_of_run))

    yield publish
    for key in client.keys("betavae:speeds:*"):
        client.delete(key)
    client.close()


def train(api: Service, **body: Any) -> dict[str, Any]:
    estimate = api.client.post("/train-jobs/estimate", json={"dataset": "shapes", **body})
    answer = api.client.post("/train-jobs", json={"dataset": "shapes", **body})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert (estimate.status_code, estimate.json()) == (200, job["estimate"])
    assert api.client.get(job["links"]["self"]).json()["estimate"] == job["estimate"]
    assert api.client.get("/train-jobs?limit=1").json()["jobs"][0]["estimate"] == job["estimate"]
    return job


def test_a_job_without_a_length_gets_one_that_suits_the_set_and_the_worker(api: Service, set_speed: Any) -> None:
    set_speed(1000.0)
    job = train(api)
    # 42 files have the suffix of a picture; 2 are kept for validation. 250 passes over 40 are less than 6 000 steps.
    assert job["estimate"] == {"num_steps": 6000, "seconds": 399, "passes": 6000.0, "settled": True}
    assert job["config"]["num_steps"] == job["progress"]["num_steps"] == 6000
    assert job["minutes"] is None


def test_an_estimate_starts_nothing_and_refuses_what_a_job_would(api: Service) -> None:
    before = api.client.get("/train-jobs").json()["jobs"]
    assert api.client.post("/train-jobs/estimate", json={"dataset": "shapes"}).status_code == 200
    answer = api.client.post("/train-jobs/estimate", json={"dataset": "shapes", "config": {"beta": -1}})
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "config.beta"
    assert_problem(api.client.post("/train-jobs/estimate", json={"dataset": "none"}), 404, "unknown_dataset")
    assert api.client.get("/train-jobs").json()["jobs"] == before


def test_a_budget_of_time_is_the_length_of_the_job(api: Service, set_speed: Any) -> None:
    set_speed(1000.0)
    job = train(api, minutes=5)
    assert job["estimate"] == {"num_steps": 4453, "seconds": 300, "passes": 4453.0, "settled": True}
    assert (job["config"]["num_steps"], job["minutes"]) == (4453, 5.0)
    form = {"minutes": "5", "name": "one shot"}
    answer = api.client.post("/train-jobs", data=form, files={"file": ("a.zip", zip_of_pictures(40))})
    assert answer.status_code == 202, answer.text
    assert answer.json()["config"]["num_steps"] == 4453


def test_a_preset_keeps_its_length_and_says_its_time(api: Service, set_speed: Any) -> None:
    set_speed(1000.0, num_channels=1)
    job = train(api, dataset="dsprites", preset="dsprites", config={"num_channels": 1})
    assert job["estimate"] == {"num_steps": 25_000, "seconds": 1615, "passes": 2.2, "settled": True}
    assert job["config"]["restart_step"] == 3000


def test_the_lengths_of_a_preset_are_scaled_to_a_budget(api: Service, set_speed: Any) -> None:
    set_speed(1000.0)
    job = train(api, preset="dsprites", minutes=5, config={"anneal_steps": 700})
    config = job["config"]
    assert (config["num_steps"], config["anneal_steps"]) == (4453, 700)
    assert config["restart_step"] == round(3_000 * 4453 / 25_000)
    assert config["restart_steps"] == round(15_000 * 4453 / 25_000)
    config = train(api, preset="celeba", minutes=5)["config"]
    assert (config["num_steps"], config["num_epochs"]) == (4453, None)
    assert (config["capacity_steps"], config["capacity_epochs"]) == (round(4453 * 150 / 200), None)


def test_a_calibration_gives_an_estimate_that_the_worker_settles(api: Service, set_speed: Any) -> None:
    set_speed(1000.0, is_of_run=False)
    job = train(api, minutes=5)
    assert job["estimate"] == {"num_steps": 4453, "seconds": 300, "passes": 4453.0, "settled": False}
    assert (job["config"]["num_steps"], job["progress"]["num_steps"]) == (4453, 4453)


def test_without_a_known_speed_the_worker_settles_the_length(api: Service) -> None:
    job = train(api, minutes=5)
    assert job["estimate"] == {"num_steps": None, "seconds": 300, "passes": None, "settled": False}
    assert job["config"]["num_steps"] is None
    assert job["progress"]["num_steps"] is None
    job = train(api)
    assert job["estimate"] == {"num_steps": 6000, "seconds": None, "passes": 6000.0, "settled": False}
    job = train(api, config={"num_steps": 6400})
    assert job["estimate"] == {"num_steps": 6400, "seconds": None, "passes": 6400.0, "settled": True}
    job = train(api, config={"num_epochs": 10})
    assert job["estimate"] == {"num_steps": 10, "seconds": None, "passes": 10.0, "settled": True}


def test_the_settings_of_a_job_can_be_posted_again(api: Service) -> None:
    config = train(api, minutes=5)["config"]
    assert train(api, minutes=5, config=config)["estimate"]["settled"] is False


def test_a_repeated_request_gets_its_job_though_the_speed_has_changed(api: Service, set_speed: Any) -> None:
    key = {"Idempotency-Key": "budget"}
    body = {"dataset": "shapes", "minutes": 5}
    set_speed(1000.0)
    first = api.client.post("/train-jobs", json=body, headers=key)
    set_speed(500.0)
    again = api.client.post("/train-jobs", json=body, headers=key)
    assert again.json() == first.json()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"minutes": 0.1}, "is too short for one validation of this set: it takes about 20 s"),
        ({"minutes": 0}, "must be above 0, not 0"),
        ({"minutes": -5}, "must be above 0, not -5"),
        ({"minutes": 1e9}, "must be at most 525600, not 1000000000"),
        ({"minutes": "5"}, "must be a number, not '5'"),
        ({"minutes": True}, "must be a number, not True"),
        ({"minutes": 5, "config": {"num_steps": 100}}, "excludes num_steps and num_epochs; give one of them"),
        ({"minutes": 5, "config": {"num_epochs": 1}}, "excludes num_steps and num_epochs; give one of them"),
    ],
)
def test_a_wrong_budget_is_refused_in_one_sentence(
    api: Service, set_speed: Any, body: dict[str, Any], message: str
) -> None:
    set_speed(10.0)
    answer = api.client.post("/train-jobs", json={"dataset": "shapes", **body})
    assert assert_problem(answer, 422, "invalid_request")["errors"] == [{"field": "minutes", "message": message}]


def test_a_budget_in_a_form_must_be_a_number(api: Service) -> None:
    answer: httpx.Response = api.client.post(
        "/train-jobs", data={"minutes": "five"}, files={"file": ("a.zip", zip_of_pictures(2))}
    )
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "minutes"
