"""The id of a request: in the answer, in the log, and in the record and the message of its job."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from api_support import Service, service

from worker.jobs.connections import connect
from worker.jobs.queue import QUEUE_PREFIX
from worker.stores.logs import set_up_logging
from worker.stores.settings import Settings

Read = Callable[[], list[dict[str, Any]]]
TRAINING: dict[str, Any] = {"dataset": "dsprites", "config": {"num_steps": 10}}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path_factory.mktemp("ids"), redis_process) as running:
        yield running


def test_every_answer_has_an_id_of_its_own(api: Service) -> None:
    paths = ("/healthz", "/healthz", "/models", "/", "/docs", "/nope", "/openapi.json")
    ids = [api.client.get(path).headers["x-request-id"] for path in paths]
    assert len(set(ids)) == len(paths)
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)


@pytest.mark.parametrize("given", ["a", "Trace-01.b_c", "x" * 64])
def test_an_id_that_is_given_is_kept(api: Service, given: str) -> None:
    assert api.client.get("/healthz", headers={"X-Request-ID": given}).headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "a/b", "a,b", "é".encode()])
def test_an_id_that_could_break_a_line_is_replaced(api: Service, given: str | bytes) -> None:
    made = api.client.get(
        "/healthz", headers=[(b"X-Request-ID", given if isinstance(given, bytes) else given.encode())]
    )
    assert len(made.headers["x-request-id"]) == 32


def test_two_ids_are_replaced(api: Service) -> None:
    made = api.client.get("/healthz", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
    assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nope", {}, 404),
        ("PUT", "/models", {}, 405),
        ("GET", "/models", {"Host": "evil.example"}, 421),
        ("POST", "/train-jobs", {"Content-Type": "application/json"}, 422),
        ("GET", "/models?limit=0", {}, 422),
    ],
)
def test_a_problem_names_its_request(
    api: Service, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = api.client.request(method, path, headers={**headers, "X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"], answer.json()["request_id"]) == (status, "mine", "mine")


def test_the_answer_to_a_bug_names_its_request(api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.health.workers_alive", lambda _: 1 / 0)
    answer = api.client.get("/readyz", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"], answer.json()["request_id"]) == (500, "mine", "mine")


def test_a_job_and_its_message_carry_the_id_of_their_request(api: Service) -> None:
    assert api.settings.redis_url is not None
    job = api.client.post("/train-jobs", json=TRAINING, headers={"X-Request-ID": "mine"}).json()
    assert job["request_id"] == "mine"
    redis = connect(api.settings.redis_url)
    messages = [json.loads(message)["headers"] for message in redis.lrange(f"{QUEUE_PREFIX}train", 0, -1)]
    assert [one["request_id"] for one in messages if one["job_id"] == job["id"]] == ["mine"]
    redis.flushall()
    assert api.client.get(f"/train-jobs/{job['id']}").json()["request_id"] == "mine"
    redis.close()


@pytest.fixture
def log_json(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], Read]]:
    """Lets the log be JSON from a call on, which returns a function that returns its lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start() -> Read:
        set_up_logging(Settings(log_format="json"))
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_the_log_has_a_line_for_each_answer_and_one_for_a_job(api: Service, log_json: Callable[[], Read]) -> None:
    read = log_json()
    job = api.client.post("/train-jobs", json=TRAINING, headers={"X-Request-ID": "mine"}).json()
    lines = {line["logger"]: line for line in read()}
    access, accepted = lines["app.access"], lines["worker.jobs.store"]
    assert access["message"] == "POST /train-jobs 202"
    assert (access["method"], access["path"], access["status"]) == ("POST", "/train-jobs", 202)
    assert isinstance(access["seconds"], float)
    assert (access["request_id"], accepted["request_id"], accepted["job_id"]) == ("mine", "mine", job["id"])


def test_a_line_break_in_a_path_stays_in_its_line(api: Service, log_json: Callable[[], Read]) -> None:
    read = log_json()
    assert httpx.get(f"{api.url}/models/a%0Ab").status_code == 404
    assert [line["path"] for line in read() if line["logger"] == "app.access"] == ["/models/a\nb"]
