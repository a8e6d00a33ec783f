"""A model, a data set or a job is accepted by its name wherever one thing alone has it."""

from collections.abc import Iterator
from typing import Any

import pytest
from api_support import Service, add_model, assert_problem, picture, service, zip_of_pictures

from worker.stores.storage import LocalStorage

CONFIG = {"num_steps": 10, "num_channels": 3}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a data set "My Shapes", a model "Fine Model" and two models "Twin"."""
    home = tmp_path_factory.mktemp("names")
    with service(home, redis_process) as running:
        for model_id, name in (("tiny", "Fine Model"), ("tiny-a", "Twin"), ("tiny-b", "Twin")):
            add_model(LocalStorage(home), model_id)
            assert running.client.patch(f"/models/{model_id}", json={"name": name}).status_code == 200
        files = {"file": ("a.zip", zip_of_pictures(4))}
        assert running.client.post("/datasets", data={"name": "My Shapes"}, files=files).json()["id"] == "my-shapes"
        yield running


def test_a_model_is_found_by_its_name(api: Service) -> None:
    assert api.client.get("/models/Fine Model").json()["id"] == "tiny"
    assert api.client.patch("/models/Fine Model", json={"dimension_labels": []}).json()["id"] == "tiny"
    assert api.client.get("/models/Fine Model/evaluations").json() == {"evaluations": []}
    assert api.client.get("/models/Fine Model/export?format=card").status_code == 200
    answer = api.client.put("/models/default", json={"id": "Fine Model"})
    assert (answer.json()["id"], answer.json()["default"]) == ("tiny", True)
    job = api.client.post("/models/Fine Model/evaluations", json={"dataset": "My Shapes"}).json()
    assert (job["model"], job["dataset"]) == ("tiny", "my-shapes")
    assert job["links"]["self"].startswith("/models/tiny/")


@pytest.mark.parametrize("as_query", [False, True])
def test_a_traversal_takes_the_name_of_a_model(api: Service, as_query: bool) -> None:
    name = {"model": "Fine Model"}
    answer = api.client.post(
        "/traversals",
        params=name if as_query else {},
        data={} if as_query else name,
        files={"image": ("a.png", picture())},
        headers={"Prefer": "wait=0"},
    )
    assert answer.status_code == 202, answer.text
    assert answer.json()["model"] == "tiny"


def test_a_data_set_is_found_by_its_name(api: Service) -> None:
    assert api.client.get("/datasets/My Shapes").json()["id"] == "my-shapes"
    assert api.client.get("/datasets/My Shapes/rejected").status_code == 200
    body = {"dataset": "My Shapes", "from": "Fine Model", "config": {"num_steps": 10}}
    job = api.client.post("/train-jobs", json=body).json()
    assert (job["dataset"], job["from"]) == ("my-shapes", "tiny")
    assert_problem(api.client.delete("/datasets/My Shapes"), 409, "in_use")


def test_a_job_is_found_by_its_name(api: Service) -> None:
    body = {"dataset": "my-shapes", "name": "one of a kind", "config": CONFIG}
    job_id = api.client.post("/train-jobs", json=body).json()["id"]
    assert api.client.get("/train-jobs/one of a kind").json()["id"] == job_id
    assert api.client.get("/train-jobs/one of a kind/previews").status_code == 200
    assert api.client.post("/train-jobs/one of a kind/cancel").json()["status"] == "cancelled"
    second = api.client.post("/train-jobs", json=body).json()["id"]
    problem = assert_problem(api.client.get("/train-jobs/one of a kind"), 409, "ambiguous_name")
    assert {error["message"] for error in problem["errors"]} == {job_id, second}
    assert api.client.delete(f"/train-jobs/{job_id}").status_code == 204
    assert api.client.get("/train-jobs/one of a kind").json()["id"] == second


def test_an_ambiguous_name_is_refused_with_the_candidates(api: Service) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/models/Twin", {}),
        ("PUT", "/models/default", {"json": {"id": "Twin"}}),
        ("POST", "/traversals", {"data": {"model": "Twin", "seed": "1"}}),
        ("POST", "/train-jobs", {"json": {"dataset": "my-shapes", "from": "Twin", "config": CONFIG}}),
        ("DELETE", "/models/Twin", {}),
    ]
    for method, path, options in requests:
        problem = assert_problem(api.client.request(method, path, **options), 409, "ambiguous_name")
        assert "2 models have the name Twin: " in problem["detail"]
        assert {error["message"] for error in problem["errors"]} == {"tiny-a", "tiny-b"}
    assert {model["id"] for model in api.client.get("/models").json()["models"]} >= {"tiny-a", "tiny-b"}


def test_an_id_goes_before_a_name(api: Service) -> None:
    assert api.client.patch("/models/tiny-rgb", json={"name": "tiny"}).status_code == 200
    assert api.client.get("/models/tiny").json()["name"] == "Fine Model"


def test_an_unknown_name_is_not_found(api: Service) -> None:
    for path, code in (("/models", "unknown_model"), ("/datasets", "unknown_dataset"), ("/train-jobs", "unknown_job")):
        assert_problem(api.client.get(f"{path}/No Such Name"), 404, code)
