"""HEAD, OPTIONS and Allow at every path of the API."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import Service, assert_problem, service

from app.dependencies import MAX_STREAMS
from app.main import create_app
from worker.stores.settings import Settings

PATHS: dict[str, set[str]] = {
    path.replace("{", "").replace("}", ""): {method.upper() for method in operations}
    for path, operations in create_app(Settings(home=Path("nowhere"))).openapi()["paths"].items()
}
PATHS |= {"/docs": {"GET"}, "/openapi.json": {"GET"}, "/docs/assets/swagger-ui.css": {"GET"}, "/problems/x": {"GET"}}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path_factory.mktemp("methods"), redis_process) as running:
        yield running


_FIXED = {
    "/models/model_id": ("/models/default", "/models/compare"),
    "/train-jobs/job_id": ("/train-jobs/estimate",),
}


def _expected(path: str) -> set[str]:
    methods = PATHS[path]
    # A fixed path such as /models/default also matches /models/{model_id}, so it has the methods of both.
    for other, fixed in _FIXED.items():
        if path in fixed:
            methods = methods | PATHS[other]
    return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())


@pytest.mark.parametrize("path", PATHS)
def test_allow_names_every_method_of_a_path(api: Service, path: str) -> None:
    options = api.client.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert set(options.headers["allow"].split(", ")) == _expected(path)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - _expected(path):
        answer = api.client.request(method, path)
        assert_problem(answer, 405, "method_not_allowed")
        assert set(answer.headers["allow"].split(", ")) == _expected(path)


@pytest.mark.parametrize("path", [path for path, methods in PATHS.items() if "GET" in methods])
def test_head_is_get_without_the_body(api: Service, path: str) -> None:
    path = path.replace("model_id", "tiny").replace("dataset_id", "dsprites")
    headers = {"X-Request-ID": "same"}
    get, head = api.client.get(path, headers=headers), api.client.head(path, headers=headers)
    assert (head.status_code, head.content) == (get.status_code, b"")
    varying = ("date",) if path != "/metrics" else ("date", "content-length")
    left, right = ({k: v for k, v in answer.headers.items() if k not in varying} for answer in (get, head))
    assert left == right


def test_options_and_head_of_an_unknown_path_are_404(api: Service) -> None:
    assert api.client.options("/nope").status_code == 404
    assert api.client.head("/nope").status_code == 404


def test_head_of_an_event_stream_ends(api: Service) -> None:
    """HEAD of the events of a waiting job answers at once, and takes none of the places for streams."""
    job = api.client.post("/train-jobs", json={"dataset": "dsprites"}).json()
    for _ in range(MAX_STREAMS + 1):
        answer = api.client.head(job["links"]["events"])
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_metrics_count_head_under_its_route(api: Service) -> None:
    api.client.head("/models/tiny")
    assert (
        'betavae_http_requests_total{method="HEAD",route="/models/{model_id}",status="200"}'
        in api.client.get("/metrics").text
    )


def test_a_client_that_has_the_last_event_of_a_job_that_is_over_gets_204(api: Service) -> None:
    body = {"dataset": "dsprites", "config": {"num_steps": 10}}
    url = api.client.post("/train-jobs", json=body).json()["links"]["events"]
    api.client.post(url.replace("events", "cancel"))
    ids = re.findall(r"^id: (\S+)$", api.client.get(url).text, re.MULTILINE)
    assert len(ids) == 2
    over = api.client.get(url, headers={"Last-Event-ID": ids[1]})
    assert (over.status_code, over.content) == (204, b"")
    rest = api.client.get(url, headers={"Last-Event-ID": ids[0]})
    assert (rest.status_code, re.findall(r"^event: (\S+)$", rest.text, re.MULTILINE)) == (200, ["cancelled"])
    for unread in ("0-0", "no id", str(2**64)):
        assert api.client.get(url, headers={"Last-Event-ID": unread}).text.count("event: ") == 2, unread


def test_a_job_that_may_still_report_is_streamed_to_a_client_that_has_all_its_events(api: Service) -> None:
    body = {"dataset": "dsprites", "config": {"num_steps": 10}}
    url = api.client.post("/train-jobs", json=body).json()["links"]["events"]
    headers = {"Last-Event-ID": f"{2**63}-0"}
    with api.client.stream("GET", url, headers=headers) as stream:
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
