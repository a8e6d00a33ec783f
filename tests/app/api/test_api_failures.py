"""Every failure over HTTP has the same shape and leaves nothing behind."""

import io
import json
import os
import re
import signal
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import httpx
import jsonschema_rs
import numpy as np
import pytest
from api_support import Service, assert_problem, http_server, picture, service, zip_of_pictures

from app.api.bodies import FORM_OVERHEAD_BYTES
from app.main import MAX_JSON_BYTES
from app.problems import KINDS
from training.config import TrainingConfig
from training.metrics.names import ALL_METRICS
from training.objectives.registry import OBJECTIVES
from worker.jobs.connections import IMPATIENT, connect

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers, with small limits."""
    home = tmp_path_factory.mktemp("failures")
    limits: dict[str, Any] = {"max_upload_bytes": 200_000, "max_dataset_upload_bytes": 400_000}
    with service(home, redis_process, max_image_pixels=1_000_000, **limits) as running:
        yield running


def _bomb() -> bytes:
    """Returns a PNG of 1 kB that declares 60 000 × 60 000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def _image(data: bytes) -> dict[str, Any]:
    return {"files": {"image": ("a.png", data, "image/png")}, "data": {"model": "tiny"}}


def _job(**config: Any) -> dict[str, Any]:
    return {"json": {"dataset": "dsprites", "config": config}}


CASES: list[tuple[str, str, dict[str, Any], int, str, str]] = [
    # method, path, request, status, code, field that the answer names
    ("GET", "/nope", {}, 404, "not_found", ""),
    ("GET", "/docs/assets/nope.js", {}, 404, "not_found", ""),
    ("GET", "/problems/nope", {}, 404, "not_found", ""),
    ("PUT", "/healthz", {}, 405, "method_not_allowed", ""),
    ("DELETE", "/docs", {}, 405, "method_not_allowed", ""),
    ("GET", "/readyz", {}, 503, "workers_busy", ""),
    ("GET", "/traversals/" + "0" * 32, {}, 404, "unknown_traversal", ""),
    ("GET", "/traversals/xyz", {}, 404, "unknown_traversal", ""),
    ("GET", "/traversals/" + "0" * 32 + "/z_01.gif", {}, 404, "unknown_traversal", ""),
    ("GET", "/traversals/..%2F..%2Fetc/passwd", {}, 404, "not_found", ""),
    ("DELETE", "/traversals/" + "0" * 32, {}, 404, "unknown_traversal", ""),
    ("POST", "/traversals", {}, 415, "unsupported_media_type", ""),
    ("POST", "/traversals", {"json": {"seed": 1}}, 415, "unsupported_media_type", ""),
    ("POST", "/traversals", {"data": {"model": "tiny"}}, 422, "invalid_request", "image"),
    ("POST", "/traversals", {"data": {"model": "nope", "seed": "1"}}, 404, "unknown_model", ""),
    ("POST", "/traversals", {"data": {"model": "../tiny", "seed": "1"}}, 404, "unknown_model", ""),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": "one"}}, 422, "invalid_request", "seed"),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1", "steps": "100000"}},
     422, "invalid_request", "steps"),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1", "start": "nan"}}, 422, "invalid_request", "start"),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1", "colour": "x"}}, 422, "invalid_request", "colour"),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": ["1", "2"]}}, 422, "invalid_request", "seed"),
    ("POST", "/traversals", {"data": {"model": "tiny", "z": "[1, 2]"}}, 422, "invalid_request", "z"),
    ("POST", "/traversals", {"data": {"model": "tiny", "image": "text"}}, 422, "invalid_request", "image"),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1", "format": "bmp"}},
     422, "invalid_request", "format"),
    ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1"}, "headers": {"accept": "text/html"}},
     406, "not_acceptable", ""),
    ("POST", "/traversals", _image(b"junk"), 422, "not_an_image", "image"),
    ("POST", "/traversals", _image(b""), 422, "not_an_image", "image"),
    ("POST", "/traversals", _image(picture()[:100]), 422, "not_an_image", "image"),
    ("POST", "/traversals", _image(_bomb()), 413, "image_too_large", "image"),
    ("POST", "/traversals", _image(b"x" * 300_000), 413, "upload_too_large", ""),
    ("POST", "/traversals", _image(b"x" * 1_000_000), 413, "upload_too_large", ""),
    ("POST", "/traversals", {"content": b"--x", "headers": {"content-type": "multipart/form-data"}},
     400, "bad_request", ""),
    ("POST", "/traversals", {"content": b"junk", "headers": {"content-type": "multipart/form-data; boundary=x"}},
     400, "bad_request", ""),
    ("GET", "/train-jobs/nope", {}, 404, "unknown_job", ""),
    ("GET", "/train-jobs/nope/events", {}, 404, "unknown_job", ""),
    ("GET", "/train-jobs/nope/metrics", {}, 404, "unknown_job", ""),
    ("POST", "/train-jobs/nope/cancel", {}, 404, "unknown_job", ""),
    ("DELETE", "/train-jobs/nope", {}, 404, "unknown_job", ""),
    ("GET", "/train-jobs?status=busy", {}, 422, "invalid_request", "status"),
    ("GET", "/train-jobs?limit=0", {}, 422, "invalid_request", "limit"),
    ("GET", "/train-jobs?after=nope", {}, 404, "unknown_job", ""),
    ("POST", "/train-jobs", {"content": b"{", "headers": JSON}, 422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b"[]", "headers": JSON}, 422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b"[" * 100_000, "headers": JSON}, 422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b'{"config": {"gamma": NaN}}', "headers": JSON},
     422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b'{"config": {"gamma": 1e999}}', "headers": JSON},
     422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b'{"name": "\\ud800"}', "headers": JSON}, 422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b'{"config": {"seed": ' + b"9" * 400 + b"}}", "headers": JSON},
     422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b"\xff\xfe", "headers": JSON}, 422, "invalid_request", "body"),
    ("POST", "/train-jobs", {"content": b"{}", "headers": {"content-type": "text/plain"}},
     415, "unsupported_media_type", ""),
    ("POST", "/train-jobs", {"json": {}}, 422, "invalid_request", "dataset"),
    ("POST", "/train-jobs", {"json": {"dataset": 3}}, 422, "invalid_request", "dataset"),
    ("POST", "/train-jobs", {"json": {"dataset": "nope"}}, 404, "unknown_dataset", ""),
    ("POST", "/train-jobs", {"json": {"dataset": "dsprites", "preset": "nope"}}, 422, "invalid_request", "preset"),
    ("POST", "/train-jobs", {"json": {"dataset": "dsprites", "colour": 1}}, 422, "invalid_request", "colour"),
    ("POST", "/train-jobs", {"json": {"dataset": "dsprites", "config": [1]}}, 422, "invalid_request", "config"),
    ("POST", "/train-jobs", {"json": {"dataset": "dsprites", "name": "\0"}}, 422, "invalid_request", "name"),
    ("POST", "/train-jobs", _job(gamma=-1), 422, "invalid_request", "config.gamma"),
    ("POST", "/train-jobs", _job(image_size=100), 422, "invalid_request", "config.image_size"),
    ("POST", "/train-jobs", _job(num_steps="many"), 422, "invalid_request", "config.num_steps"),
    ("POST", "/train-jobs", _job(z_dim=3), 422, "invalid_request", "config.z_dim"),
    ("POST", "/train-jobs", {**_job(), "headers": {"idempotency-key": "k" * 500}}, 422, "invalid_request",
     "Idempotency-Key"),
    ("POST", "/train-jobs", {"files": {"name": (None, "x")}}, 422, "invalid_request", "file"),
    ("POST", "/train-jobs", {"files": {"file": ("a.zip", b"junk")}}, 422, "invalid_dataset", "file"),
    ("POST", "/train-jobs", {"files": {"file": ("a.zip", zip_of_pictures(2))}, "data": {"config": "{"}},
     422, "invalid_request", "config"),
    ("GET", "/datasets/nope", {}, 404, "unknown_dataset", ""),
    ("GET", "/datasets/nope/rejected", {}, 404, "unknown_dataset", ""),
    ("DELETE", "/datasets/nope", {}, 404, "unknown_dataset", ""),
    ("DELETE", "/datasets/dsprites", {}, 409, "read_only", ""),
    ("POST", "/datasets", {"json": {}}, 415, "unsupported_media_type", ""),
    ("POST", "/datasets", {"files": {"file": ("a.zip", zip_of_pictures(2))}}, 422, "invalid_request", "name"),
    ("POST", "/datasets", {"files": {"name": (None, "x")}}, 422, "invalid_request", "file"),
    ("POST", "/datasets", {"files": {"name": (None, "x"), "file": ("a.zip", b"junk")}}, 422, "invalid_dataset", "file"),
    ("POST", "/datasets", {"files": {"name": (None, "x"), "file": ("a.rar", b"junk")}}, 422, "invalid_request", "file"),
    ("POST", "/datasets", {"files": {"name": (None, "x"), "file": ("a.zip", b"x" * 1_000_000)}},
     413, "upload_too_large", ""),
    ("POST", "/datasets?name=x", {"content": b"junk", "headers": {"content-type": "application/zip"}},
     422, "invalid_dataset", "file"),
    ("POST", "/datasets?name=x",
     {"content": iter([b"x" * 100_000] * 10), "headers": {"content-type": "application/zip"}},
     413, "upload_too_large", ""),
    ("POST", "/datasets/dsprites/packs", {"json": {"image_size": 3}}, 422, "invalid_request", "image_size"),
    ("POST", "/datasets/dsprites/packs", {"json": {"colour": 3}}, 422, "invalid_request", "colour"),
    ("POST", "/datasets/nope/packs", {"json": {}}, 404, "unknown_dataset", ""),
    ("GET", "/models/nope", {}, 404, "unknown_model", ""),
    ("GET", "/models/nope/export", {}, 404, "unknown_model", ""),
    ("GET", "/models/%00", {}, 404, "unknown_model", ""),
    ("PUT", "/models/default", {"json": {"id": "nope"}}, 404, "unknown_model", ""),
    ("PUT", "/models/default", {"json": {}}, 422, "invalid_request", "id"),
    ("PATCH", "/models/tiny", {"json": {"name": ""}}, 422, "invalid_request", "name"),
    ("PATCH", "/models/tiny", {"json": {"dimension_labels": ["a"]}}, 422, "invalid_request", "dimension_labels"),
    ("PATCH", "/models/tiny", {"json": {"licence": "x"}}, 422, "invalid_request", "licence"),
    ("DELETE", "/models/nope", {}, 404, "unknown_model", ""),
    ("POST", "/models/nope/encode", _image(picture()), 404, "unknown_model", ""),
    ("POST", "/models/tiny/encode", {"files": {"image": ("a.png", b"junk")}}, 422, "not_an_image", "image"),
    ("POST", "/models/tiny/encode", {"data": {"a": "b"}}, 415, "unsupported_media_type", ""),
    ("POST", "/models/tiny/encode", {"files": {"image": ("a.png", picture())}, "headers": {"accept": "image/png"}},
     406, "not_acceptable", ""),
    ("POST", "/models/tiny/decode", {"json": {}}, 422, "invalid_request", "z"),
    ("POST", "/models/tiny/decode", {"json": {"z": []}}, 422, "invalid_request", "z"),
    ("POST", "/models/tiny/decode", {"json": {"z": [[0, 0]]}}, 422, "invalid_request", "z"),
    ("POST", "/models/tiny/decode", {"json": {"z": [[0, 0, 0, "1"]]}}, 422, "invalid_request", "z"),
    ("POST", "/models/tiny/decode", {"json": {"z": [[0, 0, 0, 1e30]]}}, 422, "invalid_request", "z"),
    ("POST", "/models/tiny/decode", {"json": {"z": [[0] * 4] * 5000}}, 422, "invalid_request", "z"),
    ("POST", "/models/tiny/decode", {"json": {"z": [[0] * 4]}, "headers": {"prefer": "wait=1"}},
     503, "workers_busy", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "code", "field"), CASES, ids=[f"{c[0]} {c[1]} {c[4]}" for c in CASES]
)
def test_every_failure_is_a_problem(
    api: Service, method: str, path: str, request_: dict[str, Any], status: int, code: str, field: str
) -> None:
    answer = api.client.request(method, path, **request_)
    body = assert_problem(answer, status, code)
    if field:
        assert field in [error["field"] for error in body["errors"]]
    assert "Traceback" not in answer.text
    assert str(api.settings.home) not in answer.text


@pytest.mark.parametrize(
    ("path", "request_", "limit", "setting"),
    [
        ("/traversals", _image(b"x" * 300_000), 200_000, "BETAVAE_MAX_UPLOAD_BYTES"),
        ("/traversals", _image(b"x" * 1_000_000), 200_000 + FORM_OVERHEAD_BYTES, "BETAVAE_MAX_UPLOAD_BYTES"),
        ("/traversals", _image(_bomb()), 1_000_000, "BETAVAE_MAX_IMAGE_PIXELS"),
        (
            "/datasets?name=a",
            {"content": b"x" * 1_000_000, "headers": {"content-type": "application/zip"}},
            400_000 + FORM_OVERHEAD_BYTES,
            "BETAVAE_MAX_DATASET_UPLOAD_BYTES",
        ),
        ("/datasets/dsprites/packs", {"content": b" " * 2_000_000, "headers": JSON}, MAX_JSON_BYTES, ""),
    ],
)
def test_the_refusal_of_a_large_body_names_the_limit_and_its_setting(
    api: Service, path: str, request_: dict[str, Any], limit: int, setting: str
) -> None:
    answer = api.client.post(path, **request_)
    detail = answer.json()["detail"]
    assert answer.status_code == 413
    assert str(limit) in detail
    assert ("BETAVAE_" in detail) == bool(setting)
    assert setting in detail


@pytest.mark.parametrize("names", [["a.txt", "b/c.py"], ["broken.png"], ["picture"], []])
def test_a_zip_without_a_picture_is_refused_when_it_is_uploaded(api: Service, names: list[str]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "no picture")
    before = api.client.get("/datasets").json()
    files = {"file": ("a.zip", buffer.getvalue())}
    for path, data in (("/datasets", {"name": "texts"}), ("/train-jobs", {"preset": "dsprites"})):
        body = assert_problem(api.client.post(path, data=data, files=files), 422, "invalid_dataset")
        assert [error["field"] for error in body["errors"]] == ["file"]
    assert api.client.get("/datasets").json() == before


def test_failures_leave_nothing_behind(api: Service) -> None:
    """After all failures above, there is no job, no data set and no temporary file of them."""
    assert api.client.get("/train-jobs").json()["jobs"] == []
    assert {d["kind"] for d in api.client.get("/datasets").json()["datasets"]} == {"builtin"}
    assert list((api.settings.home / "tmp").iterdir()) == []
    assert not (api.settings.home / "jobs").exists()


def test_every_kind_of_problem_has_a_description(api: Service) -> None:
    for code, kind in KINDS.items():
        assert api.client.get(f"/problems/{code}").json() == {"code": code, "status": kind.status, "title": kind.title}


def test_a_bug_is_a_500_without_details(api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("worker.stores.models.ModelRegistry.page", fail)
    # uvicorn closes a connection after an exception, so the client must not use it for its next request.
    answer = api.client.get("/models", headers={"Connection": "close"})
    assert_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text


def test_405_names_the_allowed_methods(api: Service) -> None:
    assert "GET" in api.client.put("/healthz").headers["allow"]


def test_a_full_queue_refuses_more(redis_process: str, tmp_path: Path) -> None:
    with service(tmp_path / "home", redis_process, max_waiting_jobs=2) as full:
        for _ in range(2):
            assert full.client.post("/train-jobs", json={"dataset": "dsprites"}).status_code == 202
        assert_problem(full.client.post("/train-jobs", json={"dataset": "dsprites"}), 429, "too_many_jobs")
        form = {"model": "tiny", "seed": "1"}
        assert_problem(full.client.post("/traversals", data=form), 429, "too_many_jobs")


def test_an_api_that_cannot_look_for_colours_asks_for_the_number_of_channels(
    api: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here h5py cannot be imported, as in the image of the API."""
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = np.zeros((4, 32, 32, 3), np.uint8)
    upload = {"file": ("set.h5", (tmp_path / "set.h5").read_bytes())}
    made = api.client.post("/datasets", data={"name": "colours"}, files=upload)
    assert made.status_code == 201, made.text
    monkeypatch.setitem(sys.modules, "h5py", None)
    answer = api.client.post(f"/datasets/{made.json()['id']}/packs", json={})
    body = assert_problem(answer, 422, "invalid_request")
    assert [error["field"] for error in body["errors"]] == ["num_channels"]


def test_without_redis_work_is_refused_and_stored_results_are_served(redis_process: str, tmp_path: Path) -> None:
    """While Redis is away, work is refused with 503, and the content of the storage is served."""
    with service(tmp_path / "home", redis_process) as running:
        url = f"unix://{tmp_path}/nobody.sock"
        services = running.settings.model_copy(update={"redis_url": url, "home": tmp_path / "home"})
        with http_server(services) as address, httpx.Client(base_url=address, timeout=30) as client:
            for method, path, request in [
                ("GET", "/readyz", {}),
                ("GET", "/train-jobs", {}),
                ("GET", "/train-jobs/j-1/events", {}),
                ("POST", "/train-jobs", {"json": {"dataset": "dsprites"}}),
                ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1"}}),
                ("POST", "/models/tiny/decode", {"json": {"z": [[0] * 4]}}),
            ]:
                answer = client.request(method, path, **request)  # type: ignore[arg-type]
                assert_problem(answer, 503, "job_store_unavailable")
                assert str(tmp_path) not in answer.text
            assert client.get("/healthz").status_code == 200
            assert client.get("/models").status_code == 200
            assert "betavae_redis_up 0.0" in client.get("/metrics").text


def test_a_frozen_redis_is_reported_while_the_client_still_waits(redis_process: str, tmp_path: Path) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/readyz", {}),
        ("GET", "/train-jobs", {}),
        ("GET", "/train-jobs/j-1", {}),
        ("GET", "/train-jobs/j-1/events", {}),
        ("POST", "/train-jobs", _job()),
        ("POST", "/train-jobs/j-1/cancel", {}),
        ("POST", "/datasets/dsprites/packs", {"json": {}}),
        ("POST", "/models/tiny/decode", {"json": {"z": [0, 0, 0, 0]}}),
        ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1"}}),
    ]
    with service(tmp_path, redis_process) as api:
        assert api.client.get("/train-jobs").status_code == 200  # A connection is open already.
        redis = connect(redis_process)
        pid = redis.info("server")["process_id"]
        redis.close()
        os.kill(pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(len(requests)) as pool:
                answers = list(pool.map(lambda r: api.client.request(r[0], r[1], **r[2]), requests))
        finally:
            os.kill(pid, signal.SIGCONT)
        for answer in answers:
            body = assert_problem(answer, 503, "job_store_unavailable")
            assert "errors" not in body
            # The limit is 2 s plus the delay of a busy machine; it was 40 s before.
            assert answer.elapsed.total_seconds() < 12, answer.request.url
        assert api.client.get("/train-jobs").status_code == 200


def test_what_needs_no_redis_does_not_wait_for_those_who_wait_for_it(
    redis_process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests that wait for a frozen Redis are more than the server has threads."""
    monkeypatch.setitem(IMPATIENT, "socket_timeout", 5)  # A busy machine needs 2 s for the four requests below.
    with service(tmp_path, redis_process) as api, httpx.Client(base_url=api.url, timeout=60) as others:
        redis = connect(redis_process)
        pid = redis.info("server")["process_id"]
        redis.close()
        answered: list[str] = []
        begun = threading.Event()

        def ask(client: httpx.Client, path: str) -> int:
            begun.set()
            status = client.get(path).status_code
            answered.append(path)
            return status

        os.kill(pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(150) as pool:
                waiting = [pool.submit(ask, api.client, "/train-jobs") for _ in range(140)]
                begun.wait()
                served = [ask(others, path) for path in ("/models", "/docs", "/datasets", "/healthz")]
                assert [one.result() for one in waiting] == [503] * 140
        finally:
            os.kill(pid, signal.SIGCONT)
        assert served == [200] * 4
        # Those that wait take 5 s; the ones that need no Redis were answered among the first.
        assert answered.index("/healthz") < 120


def test_the_description_lists_the_problems_of_every_route(api: Service) -> None:
    schema = api.client.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    content = answer["content"]["application/problem+json"]
                    assert content["examples"], (method, path, status)
                    for example in content["examples"].values():
                        assert str(example["value"]["status"]) == status


_STEPS: dict[str, Any] = {"num_steps": 5}


@pytest.mark.parametrize(
    ("path", "body", "right"),
    [
        ("/train-jobs/estimate", {"dataset": "dsprites", "config": _STEPS}, True),
        ("/train-jobs/estimate", {"preset": "dsprites", "dataset": None}, True),
        ("/train-jobs/estimate", {"name": "a"}, False),
        ("/train-jobs/estimate", {"dataset": "", "preset": None}, False),
        ("/train-jobs/estimate", {"dataset": "dsprites", "minutes": 5, "config": {"seed": 1}}, True),
        ("/train-jobs/estimate", {"dataset": "dsprites", "minutes": 5, "config": {"num_epochs": 1}}, False),
        ("/train-jobs/estimate", {"more_steps": 5}, False),
        ("/train-jobs/estimate", {"more_steps": 5, "from": "tiny", "config": {}}, False),
        ("/sweeps", {"dataset": "dsprites", "grid": {"seed": [0]}, "config": _STEPS, "members": None}, True),
        ("/sweeps", {"dataset": "dsprites", "config": _STEPS}, False),
        ("/sweeps", {"dataset": "dsprites", "grid": {"seed": [0]}, "members": [{"seed": 1}]}, False),
        ("/sweeps", {"grid": {"seed": [0]}}, False),
    ],
)
def test_the_description_has_the_rules_between_fields(api: Service, path: str, body: Any, right: bool) -> None:
    description = api.client.get("/openapi.json").json()
    content = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    validator = jsonschema_rs.validator_for({**content["schema"], "components": description["components"]})
    assert validator.is_valid(body) == right
    answer = api.client.post(path, json=body)
    assert answer.is_success == right, answer.text
    if not right:
        assert_problem(answer, 422, "invalid_request")


def _schemas_of_requests(description: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every schema that a body or a parameter reaches, without the rules between fields, with its place."""
    names = set()

    def below(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(node, list):
            for position, child in enumerate(node):
                yield from below(child, f"{place}/{position}")
        elif isinstance(node, dict):
            yield place, node
            name = str(node.get("$ref", "")).removeprefix("#/components/schemas/")
            if name and name not in names:
                names.add(name)
                yield from below(description["components"]["schemas"][name], name)
            for key, child in node.items():
                if key != "allOf":
                    yield from below(child, f"{place}/{key}")

    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            for part in ("requestBody", "parameters"):
                yield from below(operation.get(part, {}), f"{method} {path}")


def test_every_number_of_a_request_has_a_maximum(api: Service) -> None:
    # JSON's whole numbers from 2⁶³ on are refused, so that a schema without a maximum would allow too much.
    description = api.client.get("/openapi.json").json()
    numbers = {
        place: schema
        for place, schema in _schemas_of_requests(description)
        if schema.get("type") in ("integer", "number") and "enum" not in schema
    }
    assert {"TrainingConfig/properties/num_steps", "PreprocessingRequest/properties/crop_size/anyOf/0"} <= set(numbers)
    assert [at for at, schema in numbers.items() if not {"maximum", "exclusiveMaximum"} & set(schema)] == []


@pytest.mark.parametrize(
    ("models", "right"),
    [("a,b", True), ("chairs,Ö", True), ("\x1f,0", False), ("\x1c,b", False), ("\x85,b", False), ("\u3000,b", False),
     ("a", False), ("a,b,c", False), (",b", False)],
)  # fmt: skip
def test_the_description_says_how_two_models_are_named(api: Service, models: str, right: bool) -> None:
    """Python strips some characters that are no space for JSON Schema."""
    (parameter,) = [
        one
        for one in api.client.get("/openapi.json").json()["paths"]["/models/compare"]["get"]["parameters"]
        if one["name"] == "models"
    ]
    assert jsonschema_rs.validator_for(parameter["schema"]).is_valid(models) == right
    answer = api.client.get("/models/compare", params={"models": models})
    if right:
        assert_problem(answer, 404, "unknown_model")
    else:
        assert_problem(answer, 422, "invalid_request")


def test_the_body_of_a_job_is_described_by_the_settings_themselves(api: Service) -> None:
    schema = api.client.get("/openapi.json").json()["components"]["schemas"]["TrainingConfig"]
    # Several objectives have a setting gamma, each with its own default.
    assert schema["properties"]["gamma"] == {
        "type": "number",
        "description": "capacity: Weight γ of |KL − C|; a request with gamma but no objective selects capacity "
        "(default 1000); factorvae: Weight γ of the total correlation; the paper uses 10 to 100 (default 40); "
        "categorical: Weight γ of the total correlation; 0 needs no discriminator (default 0).",
        "minimum": 0,
        "maximum": 1e6,
        "x-objectives": ["capacity", "factorvae", "categorical"],
    }
    assert schema["properties"]["beta_gain"]["x-objectives"] == ["controlled"]
    assert schema["properties"]["beta_gain"]["x-default"] == 0.05
    assert schema["properties"]["capacity_max"]["description"].endswith("(nats)")
    assert "x-objectives" not in schema["properties"]["num_steps"]
    assert schema["properties"]["objective"]["enum"][:3] == ["controlled", "capacity", "beta"]
    assert schema["properties"]["learning_rate"]["exclusiveMinimum"] == 0
    json.dumps(schema, allow_nan=False)


def test_every_setting_names_the_objectives_that_read_it(api: Service) -> None:
    properties = api.client.get("/openapi.json").json()["components"]["schemas"]["TrainingConfig"]["properties"]
    for name, objective in OBJECTIVES.items():
        shown = {setting for setting, schema in properties.items() if name in schema.get("x-objectives", ())}
        assert shown == set(objective.model_fields)
    every_run = {setting for setting, schema in properties.items() if "x-objectives" not in schema}
    assert every_run == set(TrainingConfig.model_fields)


@pytest.mark.parametrize(
    ("method", "path", "request_", "field", "message"),
    [
        ("POST", "/train-jobs", _job(num_step=3),
         "config.num_step", "is not a setting of a training run; did you mean num_steps?"),
        ("POST", "/train-jobs", _job(objective="adagvae", pairs="sequence"),
         "config.pairs", "sequence needs videos or numbered pictures, and this set has none"),
        ("POST", "/train-jobs", _job(objective="adagvae", num_changed=5),
         "config.num_changed", "must be below 5, the number of the set's factors, not 5"),
        ("POST", "/train-jobs", {"json": {"data_set": "dsprites"}},
         "data_set", "is not a field of this request; did you mean dataset?"),
        ("POST", "/train-jobs", {"json": {"q": 1}},
         "q", "is not a field of this request; it has config, dataset, evaluate, from, minutes, more_steps, name, "
         "preset, webhook"),
        ("POST", "/train-jobs", {"files": {"file": ("a.zip", b"x")}, "data": {"presets": "x"}},
         "presets", "is not a field of this request; did you mean preset?"),
        ("POST", "/train-jobs", {"json": {"dataset": "dsprites", "evaluate": "mig"}},
         "evaluate", f"must be a list of scores out of {', '.join(ALL_METRICS)}"),
        ("POST", "/models/tiny/evaluations", {"json": {"seed": 1.5}}, "seed", "must be a whole number, not 1.5"),
        ("POST", "/models/tiny/evaluations", {"json": {"metrics": True}},
         "metrics", f"must be a list of scores out of {', '.join(ALL_METRICS)}"),
        ("POST", "/datasets/dsprites/packs", {"json": {"imagesize": 64}},
         "imagesize", "is not a known setting; did you mean image_size?"),
        ("POST", "/traversals", {"data": {"model": "tiny", "seed": "1", "dimension": "0"}},
         "dimension", "is not a field of this request; did you mean dimensions?"),
        ("POST", "/models", {"files": {"file": ("a.zip", b"x")}, "data": {"format": "pickle"}},
         "format", "must be one of auto, bundle, safetensors, disentangling-vae, 1konny, not 'pickle'"),
        ("PUT", "/models/default", {"json": {}}, "id", "is missing: id of a model"),
        ("PATCH", "/models/tiny", {"json": {"dimension_labels": ["", "a", "b", "c\n"]}},
         "dimension_labels", "must have printable characters only (at [3])"),
        ("POST", "/models/tiny/decode", {"json": {"z": [[0, 0, True, 0]]}},
         "z", "must be a number, not True (at [0][2])"),
        ("POST", "/models/tiny/decode", {"json": {"z": []}}, "z", "must not be empty"),
        ("GET", "/train-jobs?limit=0", {}, "limit", "must be at least 1, not '0'"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_explained_in_the_words_of_the_settings(
    api: Service, method: str, path: str, request_: dict[str, Any], field: str, message: str
) -> None:
    body = assert_problem(api.client.request(method, path, **request_), 422, "invalid_request")
    assert body["errors"] == [{"field": field, "message": message}]
    assert body["detail"] == f"{field}: {message}"


def test_every_wrong_field_is_named_at_once(api: Service) -> None:
    answer = api.client.post("/models/tiny/evaluations", json={"seed": -1, "metrics": ["x"], "colour": 1})
    fields = [error["field"] for error in assert_problem(answer, 422, "invalid_request")["errors"]]
    assert sorted(fields) == ["colour", "metrics", "seed"]


def test_operations_have_clean_names_and_files_are_declared(api: Service) -> None:
    schema = api.client.get("/openapi.json").json()
    operations = {op["operationId"]: op for path in schema["paths"].values() for op in path.values()}
    assert len(operations) == sum(len(path) for path in schema["paths"].values())
    assert {"createTraversal", "listTrainJobs", "cancelTrainJob", "decodeLatents"} <= set(operations)
    for name, operation in operations.items():
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name), name
        for answer in operation["responses"].values():
            for media_type, content in answer.get("content", {}).items():
                assert content["schema"], (name, media_type)
                if media_type.startswith(("image/", "video/")) or media_type == "application/zip":
                    assert content["schema"] == {"type": "string", "format": "binary"}
