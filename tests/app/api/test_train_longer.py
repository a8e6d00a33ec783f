"""A training job that starts from a model's weights with its network, or goes on with the model's run."""

from collections.abc import Iterator
from typing import Any

import pytest
from api_support import LATENT_DIM, Service, assert_problem, service, worker_here, zip_of_pictures

from worker.runtime import Runtime
from worker.tasks import work_on

SMALL = {"image_size": 32, "latent_dim": 3, "batch_size": 8, "num_steps": 20, "log_steps": 5, "preview_steps": 10}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service without workers, with a data set `shapes` of 40 pictures."""
    with service(tmp_path_factory.mktemp("longer"), redis_process, device="cpu") as running:
        files = {"file": ("a.zip", zip_of_pictures(40))}
        assert running.client.post("/datasets", data={"name": "shapes"}, files=files).status_code == 201
        yield running


@pytest.fixture(scope="module")
def worker(api: Service) -> Iterator[Runtime]:
    """The runtime of a worker in this process."""
    with worker_here(api.settings) as runtime:
        yield runtime


def train(api: Service, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/train-jobs", json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.fixture(scope="module")
def trained(api: Service, worker: Runtime) -> dict[str, Any]:
    """A job of 20 steps that has succeeded."""
    job = train(api, dataset="shapes", config=SMALL, name="first")
    work_on(worker, job["id"])
    done: dict[str, Any] = api.client.get(job["links"]["self"]).json()
    assert done["status"] == "succeeded", done["error"]
    return done


def test_a_job_takes_its_network_from_the_model(api: Service) -> None:
    config = train(api, **{"dataset": "shapes", "from": "tiny-rgb", "config": {"num_steps": 10}})["config"]
    assert (config["image_size"], config["num_channels"], config["latent_dim"]) == (32, 3, LATENT_DIM)
    answer = api.client.post("/train-jobs", json={"dataset": "shapes", "from": "tiny", "config": {"latent_dim": 10}})
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "from"


def test_a_run_goes_on_in_a_new_job(api: Service, worker: Runtime, trained: dict[str, Any]) -> None:
    longer = {"from": trained["model"], "more_steps": 10}
    estimate = api.client.post("/train-jobs/estimate", json=longer).json()
    job = train(api, **longer)
    assert job["estimate"] == estimate
    assert (job["name"], job["dataset"], job["extend_to"]) == ("first", "shapes", 30)
    assert job["estimate"]["num_steps"] == 10
    work_on(worker, job["id"])
    done = api.client.get(job["links"]["self"]).json()
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert done["resumed_from_step"] == 20
    assert done["progress"]["step"] == done["progress"]["num_steps"] == 30
    first, longer = (api.client.get(f"/models/{model}").json() for model in (trained["model"], done["model"]))
    assert (first["step"], longer["step"]) == (20, 30)
    assert longer["training"] == first["training"]
    lines = api.client.get(job["links"]["metrics"]).text
    assert '"step": 20' in lines
    assert '"step": 30' in lines
    again = train(api, **{"from": done["model"], "more_steps": 5, "name": "still longer"})
    assert (again["name"], again["extend_to"]) == ("still longer", 35)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"from": "tiny"}, "the service has no run of the model tiny; without more_steps its weights are trained"),
        ({}, "needs from, the model whose run goes on"),
        (
            {"from": "tiny", "config": {"seed": 1}, "minutes": 5},
            "goes on with the settings of the run; leave out config, minutes",
        ),
    ],
)
def test_a_run_that_cannot_go_on_is_explained(api: Service, body: dict[str, Any], message: str) -> None:
    answer = api.client.post("/train-jobs", json={**body, "more_steps": 10})
    assert assert_problem(answer, 422, "invalid_request")["errors"] == [{"field": "more_steps", "message": message}]


def test_the_number_of_more_steps_is_checked(api: Service) -> None:
    answer = api.client.post("/train-jobs", json={"from": "tiny", "more_steps": 0})
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "more_steps"
    answer = api.client.post("/train-jobs", json={"from": "nope", "more_steps": 10})
    assert_problem(answer, 404, "unknown_model")
