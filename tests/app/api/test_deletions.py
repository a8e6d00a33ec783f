"""Deletions while requests are answered that need what is deleted: one of the two is refused, whichever is first."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_support import Service, assert_problem, picture, service, worker_here, zip_of_pictures

from worker.jobs.deletions import FIELDS, needs_of
from worker.jobs.store import JobStore, JobStoreUnavailable
from worker.runtime import Runtime
from worker.stores.datasets import DatasetRegistry
from worker.stores.models import ModelRegistry
from worker.tasks import work_on

SMALL = {"image_size": 32, "latent_dim": 3, "batch_size": 8, "num_steps": 20, "log_steps": 5, "preview_steps": 10}

Ask = Callable[[Service, str], httpx.Response]
"""Sends a request whose job needs what is deleted; the second argument is the id of a model with a run."""


@pytest.fixture(scope="module")
def trained(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A data folder with a data set `shapes` of 40 pictures and a job on it that has succeeded, whose run can go on."""
    home = tmp_path_factory.mktemp("trained") / "home"
    with service(home, redis_process, device="cpu") as running:
        files = {"file": ("a.zip", zip_of_pictures(40))}
        assert running.client.post("/datasets", data={"name": "shapes"}, files=files).status_code == 201
        job = running.client.post("/train-jobs", json={"dataset": "shapes", "config": SMALL}).json()
        with worker_here(running.settings) as runtime:
            work_on(runtime, job["id"])
        done: dict[str, Any] = running.client.get(job["links"]["self"]).json()
    assert done["status"] == "succeeded", done["error"]
    return home, done


@pytest.fixture
def run(trained: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """The job that has succeeded."""
    return trained[1]


@pytest.fixture
def api(redis_process: str, tmp_path: Path, trained: tuple[Path, dict[str, Any]]) -> Iterator[Service]:
    """The service without workers, on a copy of the data folder."""
    shutil.copytree(trained[0], tmp_path / "home")
    with service(tmp_path / "home", redis_process, device="cpu") as running:
        yield running


@pytest.fixture
def worker(api: Service) -> Iterator[Runtime]:
    """The runtime of a worker in this process."""
    with worker_here(api.settings) as runtime:
        yield runtime


def train(api: Service, model: str) -> httpx.Response:
    return api.client.post("/train-jobs", json={"dataset": "shapes", "config": SMALL})


def train_from(api: Service, model: str) -> httpx.Response:
    body = {"dataset": "shapes", "from": model, "config": {"num_steps": 10}}
    return api.client.post("/train-jobs", json=body)


def train_longer(api: Service, model: str) -> httpx.Response:
    return api.client.post("/train-jobs", json={"from": model, "more_steps": 10})


def sweep(api: Service, model: str) -> httpx.Response:
    return api.client.post("/sweeps", json={"dataset": "shapes", "config": SMALL, "grid": {"seed": [0, 1, 2]}})


def sweep_from(api: Service, model: str) -> httpx.Response:
    body = {"dataset": "shapes", "from": model, "config": {"num_steps": 10}, "grid": {"seed": [0, 1]}}
    return api.client.post("/sweeps", json=body)


def evaluate(api: Service, model: str) -> httpx.Response:
    return api.client.post(f"/models/{model}/evaluations", json={"dataset": "shapes"})


def pack(api: Service, model: str) -> httpx.Response:
    return api.client.post("/datasets/shapes/packs", json={"image_size": 16})


def traverse(api: Service, model: str) -> httpx.Response:
    headers = {"Prefer": "wait=0"}
    return api.client.post("/traversals", data={"model": model}, files={"image": picture()}, headers=headers)


CASES: list[tuple[str, Ask]] = [
    ("dataset", train), ("dataset", train_longer), ("dataset", sweep), ("dataset", evaluate), ("dataset", pack),
    ("model", train_from), ("model", sweep_from), ("model", evaluate), ("model", traverse),
    ("run", train_longer),
]  # fmt: skip
each_case = pytest.mark.parametrize(("kind", "ask"), CASES, ids=[f"{kind}-{ask.__name__}" for kind, ask in CASES])


def url_of(kind: str, run: dict[str, Any]) -> str:
    """Returns the address of what is deleted."""
    addresses = {"dataset": "/datasets/shapes", "model": f"/models/{run['model']}", "run": f"/train-jobs/{run['id']}"}
    return addresses[kind]


def job_ids(api: Service) -> set[str]:
    """Returns the ids of all jobs, as a Redis that was wiped would have them too."""
    return {path.name for path in (api.settings.home / "jobs").iterdir() if (path / "request.json").exists()}


def num_sweeps(api: Service) -> int:
    return len(api.client.get("/sweeps").json()["sweeps"])


def refused(answer: httpx.Response, kind: str) -> None:
    """Checks that an answer says that what it needs is not there."""
    code = {"dataset": "unknown_dataset", "model": "unknown_model", "run": "invalid_request"}[kind]
    fields = [error["field"] for error in assert_problem(answer, 422 if kind == "run" else 404, code).get("errors", [])]
    assert fields == (["more_steps"] if kind == "run" else [])


@each_case
def test_what_is_deleted_before_the_job_is_made_refuses_the_request(
    api: Service, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str, ask: Ask
) -> None:
    """The whole deletion lies between the request's look at what it needs and its job."""
    before = job_ids(api)
    answers: list[int] = []
    ping = JobStore.ping

    def delete_first(store: JobStore) -> None:
        monkeypatch.undo()
        answers.append(api.client.delete(url_of(kind, run)).status_code)
        ping(store)

    monkeypatch.setattr(JobStore, "ping", delete_first)
    refused(ask(api, run["model"]), kind)
    assert answers == [204]
    assert job_ids(api) <= before
    assert num_sweeps(api) == 0


@each_case
def test_no_job_is_accepted_while_what_it_needs_is_deleted(
    api: Service, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str, ask: Ask
) -> None:
    before = job_ids(api)
    answers: list[httpx.Response] = []
    owner: Any = {"dataset": DatasetRegistry, "model": ModelRegistry, "run": JobStore}[kind]
    delete = owner.delete

    def ask_first(store: Any, id: str) -> None:
        answers.append(ask(api, run["model"]))
        delete(store, id)

    monkeypatch.setattr(owner, "delete", ask_first)
    assert api.client.delete(url_of(kind, run)).status_code == 204
    assert_problem(answers[0], 409, "in_use")
    assert job_ids(api) <= before
    assert num_sweeps(api) == 0
    monkeypatch.undo()
    refused(ask(api, run["model"]), kind)


@each_case
def test_nothing_is_deleted_that_an_accepted_job_needs(api: Service, run: dict[str, Any], kind: str, ask: Ask) -> None:
    assert ask(api, run["model"]).status_code == 202
    if ask is pack:  # A deletion ends a packing.
        assert api.client.delete(url_of(kind, run)).status_code == 204
    else:
        assert_problem(api.client.delete(url_of(kind, run)), 409, "in_use")


AGAIN: list[tuple[str, Ask]] = [
    ("dataset", train), ("dataset", sweep), ("dataset", evaluate), ("model", evaluate), ("run", train_longer),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ask"), AGAIN, ids=[f"{kind}-{ask.__name__}" for kind, ask in AGAIN])
@pytest.mark.parametrize("is_over", [True, False], ids=["deleted", "being deleted"])
def test_a_cancelled_job_is_not_queued_again_without_what_it_needs(
    api: Service, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str, ask: Ask, is_over: bool
) -> None:
    links = ask(api, run["model"]).json()["links"]
    assert api.client.post(links["cancel"]).status_code == 200
    answers: list[httpx.Response] = []
    owner: Any = {"dataset": DatasetRegistry, "model": ModelRegistry, "run": JobStore}[kind]
    delete = owner.delete

    def retry_first(store: Any, id: str) -> None:
        answers.append(api.client.post(links["retry"]))
        delete(store, id)

    if not is_over:
        monkeypatch.setattr(owner, "delete", retry_first)
    assert api.client.delete(url_of(kind, run)).status_code == 204
    if is_over and kind != "run":  # A run may have been copied before.
        assert_problem(api.client.post(links["retry"]), 404, f"unknown_{kind}")
    elif not is_over:
        assert_problem(answers[0], 409, "in_use")
    assert is_over or api.client.get(links["self"]).json()["status"] == "cancelled"


def test_a_member_that_waits_keeps_its_data_set(api: Service, worker: Runtime) -> None:
    """Between the end of one member and the release of the next, no job needs the data set."""
    body = {"dataset": "shapes", "config": SMALL, "grid": {"seed": [0, 1]}, "max_running": 1}
    made = api.client.post("/sweeps", json=body).json()
    worker.jobs.cancel(made["members"][0]["job"])
    assert api.client.get("/train-jobs?status=queued").json()["jobs"] == []
    assert_problem(api.client.delete("/datasets/shapes"), 409, "in_use")
    api.client.post(made["links"]["cancel"])
    assert api.client.delete("/datasets/shapes").status_code == 204


def test_a_sweep_whose_run_goes_on_elsewhere_is_kept(api: Service, worker: Runtime) -> None:
    body = {"dataset": "shapes", "config": SMALL, "grid": {"seed": [0]}}
    made = api.client.post("/sweeps", json=body).json()
    work_on(worker, made["members"][0]["job"])
    worker.sweeps.advance(made["id"])
    api.client.post(made["links"]["cancel"])
    model = api.client.get(made["links"]["self"]).json()["members"][0]["model"]
    longer = train_longer(api, model).json()
    assert_problem(api.client.delete(made["links"]["self"]), 409, "in_use")
    api.client.post(longer["links"]["cancel"])
    assert api.client.delete(made["links"]["self"]).status_code == 204


def test_a_new_data_set_of_the_same_name_can_be_trained_on_at_once(api: Service) -> None:
    for _ in range(2):
        assert api.client.delete("/datasets/shapes").status_code == 204
        files = {"file": ("a.zip", zip_of_pictures(30))}
        assert api.client.post("/datasets", data={"name": "shapes"}, files=files).status_code == 201
        job = train(api, "").json()
        assert job["status"] == "queued"
        assert api.client.post(job["links"]["cancel"]).status_code == 200


def test_a_deletion_that_fails_leaves_everything_usable(
    api: Service, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(registry: DatasetRegistry, id: str) -> None:
        raise JobStoreUnavailable("Redis is away")

    monkeypatch.setattr(DatasetRegistry, "delete", fail)
    assert_problem(api.client.delete("/datasets/shapes"), 503, "job_store_unavailable")
    assert train(api, "").status_code == 202


def test_the_needs_of_a_request() -> None:
    request = {"dataset": "shapes", "from": None, "models": ["m-1", "m-2"], "model": "m-3", "run": "j-1", "seed": 0}
    assert set(needs_of(request)) == {
        ("dataset", "shapes"), ("model", "m-1"), ("model", "m-2"), ("model", "m-3"), ("run", "j-1"),
    }  # fmt: skip
    assert {kind for kind, _ in needs_of(request)} == set(FIELDS)
