"""Evaluation of a model over HTTP, from the request to the scores in the answer and in the model."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_support import LATENT_DIM, Service, assert_problem, service, worker_here, zip_of_pictures
from job_support import events_of

from training.metrics.evaluation import evaluate_model
from training.metrics.names import METRICS
from worker.runtime import Runtime
from worker.tasks import work_on

CHEAP = ["mig", "modularity"]


@pytest.fixture(scope="module")
def factors_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a square in a grid of 6 × 5 places, eight times each with other noise, and its factors."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(5), indexing="ij"), -1).reshape(-1, 2).repeat(8, axis=0)
    images = rng.integers(0, 30, (len(grid), 32, 32), dtype=np.uint8)
    for picture, (x, y) in zip(images, grid, strict=True):
        picture[4 * y : 4 * y + 8, 4 * x : 4 * x + 8] += 200
    path = tmp_path_factory.mktemp("sets") / "squares.npz"
    np.savez(path, images=images, factors=grid)
    return path


@pytest.fixture
def api(redis_process: str, tmp_path: Path, factors_file: Path) -> Iterator[Service]:
    """The HTTP process without workers, with data sets `squares` (two factors) and `plain` (none)."""
    with service(tmp_path / "home", redis_process, device="cpu", lease_seconds=0.4) as running:
        for name, filename, data in [
            ("squares", "squares.npz", factors_file.read_bytes()),
            ("plain", "plain.zip", zip_of_pictures(12)),
        ]:
            made = running.client.post("/datasets", data={"name": name}, files={"file": (filename, data)})
            assert made.status_code == 201, made.text
        yield running


@pytest.fixture
def worker(api: Service) -> Iterator[Runtime]:
    """A worker in this process, which works when `work_on` is called."""
    with worker_here(api.settings) as runtime:
        yield runtime


def ask(api: Service, model: str = "tiny", headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    answer = api.client.post(f"/models/{model}/evaluations", json=body, headers=headers or {})
    assert answer.status_code == 202, answer.text
    resource: dict[str, Any] = answer.json()
    assert answer.headers["location"] == resource["links"]["self"] == f"/models/{model}/evaluations/{resource['id']}"
    assert int(answer.headers["retry-after"]) > 0
    return resource


def see(api: Service, resource: dict[str, Any]) -> dict[str, Any]:
    answer = api.client.get(resource["links"]["self"])
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_scores_come_with_intervals_and_stay_with_the_model(api: Service, worker: Runtime) -> None:
    asked = ask(api, dataset="squares", metrics=CHEAP, seed=3)
    assert (asked["status"], asked["result"], asked["metrics"], asked["seed"]) == ("queued", None, CHEAP, 3)
    work_on(worker, asked["id"])
    done = see(api, asked)
    assert (done["status"], done["error"]) == ("succeeded", None)
    result = done["result"]
    assert result["scores"].keys() == set(CHEAP)
    for score in result["scores"].values():
        low, high = score["interval"]
        assert 0 <= low <= score["value"] <= high <= 1
    assert result["num_images"] == 240
    assert result["factor_names"]
    assert len(result["kl_per_dimension"]) == LATENT_DIM
    assert 0 < result["bernoulli_floor"] < result["reconstruction_loss"]
    assert result["saved"]
    metrics = api.client.get("/models/tiny").json()["metrics"]
    for name, score in result["scores"].items():
        assert metrics[name] == {**score, "dataset": "squares", "seed": 3}
    assert [e["id"] for e in api.client.get("/models/tiny/evaluations").json()["evaluations"]] == [asked["id"]]
    assert api.client.get("/models/tiny-rgb/evaluations").json()["evaluations"] == []
    fractions = [e.data["progress"]["fraction"] for e in events_of(worker.jobs, asked["id"]) if e.type == "progress"]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)


def test_the_same_seed_gives_the_same_scores(api: Service, worker: Runtime) -> None:
    found = []
    for metrics in (["mig"], CHEAP):
        asked = ask(api, dataset="squares", metrics=metrics)
        work_on(worker, asked["id"])
        found.append(see(api, asked)["result"]["scores"]["mig"])
    assert found[0] == found[1]


def test_a_set_without_factors_gives_losses_and_active_dimensions(api: Service, worker: Runtime) -> None:
    """A set without a pack is packed with the preprocessing of the model, which takes RGB."""
    asked = ask(api, "tiny-rgb", dataset="plain")
    assert asked["metrics"] == list(METRICS)
    work_on(worker, asked["id"])
    result = see(api, asked)["result"]
    assert result["scores"] == {}
    assert result["reconstruction_loss"] > 0
    assert all(0 <= k < LATENT_DIM for k in result["active_dimensions"])


def test_a_model_that_ships_keeps_its_description(api: Service, worker: Runtime) -> None:
    shipped = next(m["id"] for m in api.client.get("/models").json()["models"] if m["shipped"])
    before = api.client.get(f"/models/{shipped}").json()["metrics"]
    asked = ask(api, shipped, dataset="squares", metrics=["mig"])
    work_on(worker, asked["id"])
    result = see(api, asked)["result"]
    assert result["scores"]["mig"]["value"] is not None
    assert not result["saved"]
    assert api.client.get(f"/models/{shipped}").json()["metrics"] == before


def test_a_rename_during_an_evaluation_is_kept(api: Service, worker: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is renamed while it is evaluated keeps the new name and gets the scores."""
    asked = ask(api, dataset="squares", metrics=["mig"])

    def rename_then_evaluate(*arguments: Any, **options: Any) -> Any:
        assert api.client.patch("/models/tiny", json={"name": "Renamed"}).status_code == 200
        return evaluate_model(*arguments, **options)

    monkeypatch.setattr("worker.evaluations.evaluate_model", rename_then_evaluate)
    work_on(worker, asked["id"])
    model = api.client.get("/models/tiny").json()
    assert model["name"] == "Renamed"
    assert "mig" in model["metrics"]


@pytest.mark.parametrize("wish", ["cancel", "stop the worker"])
def test_an_evaluation_stops_when_a_stop_is_requested(
    api: Service, worker: Runtime, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    """A request ends an evaluation that would go on for ever, and the model stays as it was."""
    asked = ask(api, dataset="squares")
    runs = threading.Event()

    def endless(*_: object, on_progress: Any, **__: object) -> None:
        while True:
            on_progress("encoding", 0, 1)
            runs.set()

    monkeypatch.setattr("worker.evaluations.evaluate_model", endless)
    thread = threading.Thread(target=work_on, args=(worker, asked["id"]))
    thread.start()
    try:
        assert runs.wait(60)
        if wish == "cancel":
            assert_problem(api.client.delete("/models/tiny"), 409, "in_use")
            assert_problem(api.client.delete(asked["links"]["self"]), 409, "transition_refused")
            assert api.client.post(asked["links"]["cancel"]).json()["status"] in ("cancelling", "cancelled")
        else:
            worker.stopping.set()
    finally:
        worker.stopping.set()
        thread.join(60)
    assert not thread.is_alive()
    assert see(api, asked)["status"] == ("cancelled" if wish == "cancel" else "queued")
    assert api.client.get("/models/tiny").json()["metrics"] == {}
    if wish == "cancel":
        assert api.client.post(asked["links"]["retry"]).json()["status"] == "queued"
        assert api.client.post(asked["links"]["cancel"]).json()["status"] == "cancelled"
        assert api.client.delete(asked["links"]["self"]).status_code == 204
        assert_problem(api.client.get(asked["links"]["self"]), 404, "unknown_job")


def test_an_impossible_evaluation_fails_with_a_code(api: Service, worker: Runtime) -> None:
    damaged = api.settings.home / "models" / "tiny" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    asked = ask(api, dataset="squares")
    work_on(worker, asked["id"])
    done = see(api, asked)
    assert (done["status"], done["result"]) == ("failed", None)
    assert done["error"]["code"] == "invalid_model"


def test_a_key_replays_the_first_answer_and_a_waiting_client_gets_the_state_in_time(api: Service) -> None:
    key = {"Idempotency-Key": "one", "Prefer": "wait=1"}
    first = ask(api, headers=key, dataset="squares")
    assert ask(api, headers=key, dataset="squares")["id"] == first["id"]
    again = api.client.post("/models/tiny/evaluations", json={"dataset": "plain"}, headers=key)
    assert_problem(again, 409, "idempotency_conflict")
    assert_problem(api.client.get(f"/train-jobs/{first['id']}"), 404, "unknown_job")
    assert_problem(api.client.get(f"/models/tiny-rgb/evaluations/{first['id']}"), 404, "unknown_job")


@pytest.mark.parametrize(
    ("model", "body", "status", "code", "field"),
    [
        ("nope", {"dataset": "squares"}, 404, "unknown_model", ""),
        ("tiny", {"dataset": "nope"}, 404, "unknown_dataset", ""),
        ("tiny", {}, 422, "invalid_request", "dataset"),
        ("tiny", {"dataset": 3}, 422, "invalid_request", "dataset"),
        ("tiny", {"dataset": "squares", "metrics": ["migg"]}, 422, "invalid_request", "metrics"),
        ("tiny", {"dataset": "squares", "metrics": "mig"}, 422, "invalid_request", "metrics"),
        ("tiny", {"dataset": "squares", "metrics": True}, 422, "invalid_request", "metrics"),
        ("tiny", {"dataset": "squares", "seed": -1}, 422, "invalid_request", "seed"),
        ("tiny", {"dataset": "squares", "seed": True}, 422, "invalid_request", "seed"),
        ("tiny", {"dataset": "squares", "colour": 1}, 422, "invalid_request", "colour"),
    ],
)
def test_a_wrong_request_is_a_problem_and_makes_no_job(
    api: Service, model: str, body: dict[str, Any], status: int, code: str, field: str
) -> None:
    problem = assert_problem(api.client.post(f"/models/{model}/evaluations", json=body), status, code)
    assert [error["field"] for error in problem.get("errors", ())] == ([field] if field else [])
    assert api.client.get("/models/tiny/evaluations").json()["evaluations"] == []


# The body of a training job


def test_a_training_job_shows_what_it_starts_from_and_what_it_will_compute(api: Service) -> None:
    config = {"image_size": 32, "latent_dim": LATENT_DIM}
    asked = {"dataset": "squares", "config": config, "from": "tiny", "evaluate": ["sap", "mig"]}
    job = api.client.post("/train-jobs", json=asked).json()
    assert (job["from"], job["evaluate"]) == ("tiny", ["mig", "sap"])
    assert_problem(api.client.delete("/models/tiny"), 409, "in_use")
    form = {"config": '{"image_size": 32}', "evaluate": "true"}
    job = api.client.post("/train-jobs", data=form, files={"file": ("a.zip", zip_of_pictures(3))}).json()
    assert (job["from"], job["evaluate"]) == (None, list(METRICS))
    assert api.client.post("/train-jobs", json={"dataset": "squares"}).json()["evaluate"] == []


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"from": "nope"}, 404, "unknown_model", ""),
        ({"from": 3}, 422, "invalid_request", "from"),
        ({"from": "tiny", "config": {"latent_dim": 10}}, 422, "invalid_request", "from"),
        ({"evaluate": ["migg"]}, 422, "invalid_request", "evaluate"),
        ({"evaluate": 0}, 422, "invalid_request", "evaluate"),
        ({"evaluate": "mig"}, 422, "invalid_request", "evaluate"),
    ],
)
def test_a_wrong_start_or_score_makes_no_training_job(
    api: Service, body: dict[str, Any], status: int, code: str, field: str
) -> None:
    problem = assert_problem(api.client.post("/train-jobs", json={"dataset": "squares", **body}), status, code)
    assert [error["field"] for error in problem.get("errors", ())] == ([field] if field else [])
    assert api.client.get("/train-jobs").json()["jobs"] == []
