"""Over HTTP, a full disk is 507 with what to do; everything can still be read and deleted."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from api_support import Service, assert_problem, http_server, picture, service, zip_of_pictures
from disk_support import fill_disk, is_read_only
from httpx import Client
from redis_support import serve_redis

from app.room import CHECK_BYTES
from worker.jobs.connections import connect
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage

MIB = 2**20


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path / "home", redis_process) as running:
        yield running


@pytest.fixture
def full(api: Service) -> Iterator[Client]:
    """The same service with a quota that its files exceed by far."""
    with (
        http_server(api.settings.model_copy(update={"max_storage_bytes": 1000})) as url,
        Client(base_url=url, timeout=60) as client,
    ):
        yield client


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_a_full_disk_refuses_what_would_be_stored_and_keeps_nothing_of_it(api: Service, full: Client) -> None:
    before = files(api.settings.home)
    archive = zip_of_pictures(3)
    big = {"file": ("a.zip", bytes(3 * MIB))}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/train-jobs", {"json": {"dataset": "dsprites"}}),
        ("/train-jobs", {"data": {"preset": "dsprites"}, "files": {"file": ("a.zip", archive)}}),
        ("/datasets/dsprites/packs", {"json": {"image_size": 32}}),
        ("/datasets", {"data": {"name": "a"}, "files": {"file": ("a.zip", archive)}}),
        ("/datasets", {"data": {"name": "a"}, "files": big}),
        ("/datasets?name=a", {"content": archive, "headers": {"content-type": "application/zip"}}),
        ("/models", {"files": big}),
        ("/models/tiny/evaluations", {"json": {"dataset": "dsprites"}}),
        ("/traversals", {"data": {"model": "tiny", "seed": "1"}}),
        ("/traversals", {"data": {"model": "tiny"}, "files": {"image": ("a.png", picture())}}),
    ]
    for path, request in requests:
        body = assert_problem(full.post(path, **request), 507, "storage_full")
        assert "BETAVAE_MAX_STORAGE_BYTES" in body["detail"], path
        assert "Delete" in body["detail"], path
    assert_problem(full.patch("/models/tiny", json={"name": "b"}), 507, "storage_full")
    body = assert_problem(full.get("/readyz"), 507, "storage_full")
    assert "Delete" in body["detail"]
    assert files(api.settings.home) == before


def test_a_body_that_does_not_say_how_long_it_is_ends_when_there_is_no_room(api: Service) -> None:
    """The quota admits half of the body: the upload is refused while it is received, not when it is whole."""
    settings = api.settings.model_copy(update={"max_storage_bytes": 4 * CHECK_BYTES})
    with http_server(settings) as url, closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as client:
        client.putrequest("POST", "/datasets?name=a")
        client.putheader("Content-Type", "application/zip")
        client.putheader("Transfer-Encoding", "chunked")
        client.endheaders()
        for _ in range(6 * CHECK_BYTES // MIB):
            client.send(b"%x\r\n" % MIB + bytes(MIB) + b"\r\n")
        # The body goes on, but the answer is there.
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (507, "storage_full")
        assert not list((settings.home / "tmp").iterdir())


def test_everything_can_be_read_and_deleted_on_a_full_disk(api: Service, full: Client) -> None:
    storage = LocalStorage(api.settings.home)
    archive = {"file": ("a.zip", zip_of_pictures(3))}
    dataset = api.client.post("/datasets", data={"name": "a"}, files=archive).json()["id"]
    job = api.client.post("/train-jobs", json={"dataset": "dsprites"}).json()["id"]
    identity = "0" * 32
    storage.write_json(f"traversals/{identity}/result.json", {})
    assert full.get("/models/tiny").status_code == 200
    assert full.get(f"/datasets/{dataset}").status_code == 200
    assert full.post(f"/train-jobs/{job}/cancel").status_code == 200
    for path in (f"/datasets/{dataset}", f"/traversals/{identity}", "/models/tiny-rgb", f"/train-jobs/{job}"):
        assert full.delete(path).status_code == 204, path
    for prefix in (f"datasets/{dataset}", f"traversals/{identity}", "models/tiny-rgb", f"jobs/{job}"):
        assert not storage.exists(prefix)


def test_the_name_of_a_traversal_is_kept_and_shown(api: Service) -> None:
    form = {"model": "tiny", "seed": "1", "name": " My shape "}
    pending = api.client.post("/traversals", data=form, headers={"Prefer": "wait=0"})
    assert pending.status_code == 202
    identity = pending.json()["id"]
    same = api.client.post("/traversals", data={**form, "name": ""}, headers={"Prefer": "wait=0"})
    assert same.json()["id"] == identity
    storage = LocalStorage(api.settings.home)
    assert storage.read_bytes(f"traversals/{identity}/name.txt") == b"My shape"
    body = assert_problem(api.client.post("/traversals", data={**form, "name": "a/b"}), 422, "invalid_request")
    assert body["errors"][0]["field"] == "name"


def test_a_deletion_makes_room_for_a_redis_that_can_write_nothing(tmp_path: Path, small_disk: Path) -> None:
    """Redis and the storage share a disk that is really full."""
    with serve_redis(small_disk, append=True) as url:
        settings = Settings(home=tmp_path / "home", redis_url=url, storage_url=str(small_disk / "storage"))
        storage = LocalStorage(small_disk / "storage")
        with http_server(settings) as address, Client(base_url=address, timeout=60) as client:
            small = settings.model_copy(update={"min_free_bytes": 0})
            with http_server(small) as open_address:
                made = Client(base_url=open_address).post("/train-jobs", json={"dataset": "dsprites"}).json()["id"]
            assert client.post(f"/train-jobs/{made}/cancel").status_code == 200
            fill_disk(storage.path(f"jobs/{made}/checkpoints/1-1.safetensors"))
            redis = connect(url)
            while not is_read_only(redis):  # Redis notices the full disk when it next writes its file.
                pass
            redis.close()
            refused = assert_problem(client.post(f"/train-jobs/{made}/retry"), 503, "job_store_unavailable")
            assert "cannot write its file" in refused["detail"]
            assert client.delete(f"/train-jobs/{made}").status_code == 204
            assert not storage.exists(f"jobs/{made}")
            assert_problem(client.get(f"/train-jobs/{made}"), 404, "unknown_job")
