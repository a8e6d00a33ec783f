"""Files of a traversal that are made when they are first asked for."""

import io
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from api_support import Service, add_model, assert_problem, service

from worker.jobs.connections import connect
from worker.render_job import load_cached, make_traversal, run_traversal_job
from worker.rendering.request import parse_request, resolve_request
from worker.runtime import Runtime, open_runtime
from worker.stores.storage import LocalStorage
from worker.tasks import work_on

FIRST = {"model": "tiny", "seed": "1", "steps": "3"}
ANIMATIONS = {f"z_0{index}.gif" for index in range(1, 5)}
Make = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def running(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without workers; requests that wait find theirs done by `working`."""
    with service(tmp_path_factory.mktemp("late"), redis_process) as started:
        yield started


@pytest.fixture
def runtime(running: Service) -> Runtime:
    """What a render worker works with, on a Redis and a storage that no traversal is in."""
    opened = open_runtime(running.settings)
    opened.jobs.redis.flushall()
    for folder in ("traversals", "jobs"):
        opened.storage.delete(folder)
    add_model(LocalStorage(running.settings.home), "tiny")
    return opened


@pytest.fixture
def ask(running: Service, runtime: Runtime) -> Iterator[Make]:
    """Sends a request while a thread does the jobs in the place of a render worker."""
    stop = False

    def work() -> None:
        while not stop:
            for job in runtime.jobs.page("traversal", status="queued"):
                work_on(runtime, job.id)

    def send(method: str, url: str, **options: Any) -> httpx.Response:
        return running.client.request(method, url, **options)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        yield send
        stop = True


def _made(runtime: Runtime, url: str) -> set[str]:
    return set(runtime.storage.list(url.strip("/"))) - {"result.json", "request.json"}


def test_an_answer_pays_only_for_its_own_files(ask: Make, runtime: Runtime) -> None:
    answer = ask("POST", "/traversals", data=FIRST, headers={"Accept": "application/zip"})
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert set(archive.namelist()) == ANIMATIONS
    url = answer.headers["content-location"]
    assert _made(runtime, url) == ANIMATIONS
    png = ask("POST", "/traversals", data={**FIRST, "seed": "2"}, headers={"Accept": "image/png"})
    assert _made(runtime, png.headers["content-location"].rsplit("/", 1)[0]) == {"sheet.png"}
    body = ask("POST", "/traversals", data={**FIRST, "seed": "3"}).json()
    assert _made(runtime, body["links"]["self"]) == {*ANIMATIONS, "reconstruction.png"}


def test_every_link_has_the_bytes_that_a_whole_traversal_has(ask: Make, runtime: Runtime) -> None:
    body = ask("POST", "/traversals", data=FIRST).json()
    model = load_cached(runtime.models, "tiny", runtime.settings)
    expected: dict[str, bytes] = {}
    make_traversal(model, [], resolve_request(parse_request(FIRST_PARAMETERS), model.info, 0), expected.__setitem__)
    names = {link.rsplit("/", 1)[1]: link for name, link in body["links"].items() if name != "self"}
    assert set(names) == {*expected, "result.json", "request.json"}
    assert [body["sheet"], body["strip"]] == [names["sheet.gif"], names["sheet.png"]]
    for name, data in expected.items():
        answer = ask("GET", names[name])
        assert (answer.status_code, answer.content) == (200, data), name
        assert answer.headers["cache-control"].endswith("immutable")
        again = ask("GET", names[name], headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert ask("GET", body["links"]["self"]).json() == body
    assert (
        ask("GET", names["result.json"]).headers["cache-control"] == "no-cache"
    )  # It lists the sizes of what is made.


FIRST_PARAMETERS = {"seed": "1", "steps": "3"}


def test_a_file_that_no_traversal_has_is_not_made(ask: Make, runtime: Runtime) -> None:
    url = ask("POST", "/traversals", data=FIRST).json()["links"]["self"]
    for name in ("z_05.gif", "z_1.gif", "sheet.webp", "sheet.mp4", "other.png"):
        assert_problem(ask("GET", f"{url}/{name}"), 404, "unknown_file")
    assert len(runtime.jobs.page("traversal")) == 1
    assert ask("DELETE", url).status_code == 204
    assert_problem(ask("GET", f"{url}/sheet.gif"), 404, "unknown_traversal")
    assert ask("GET", url).status_code == 404


def test_other_formats_of_a_stored_traversal_are_made_for_whoever_asks(ask: Make) -> None:
    png = ask("POST", "/traversals", data=FIRST, headers={"Accept": "image/png"})
    url = png.headers["content-location"].rsplit("/", 1)[0]
    with zipfile.ZipFile(io.BytesIO(ask("GET", url, headers={"Accept": "application/zip"}).content)) as archive:
        assert set(archive.namelist()) == ANIMATIONS
    assert ask("GET", url, headers={"Accept": "image/gif"}).content[:3] == b"GIF"
    assert_problem(ask("GET", url, headers={"Accept": "video/mp4"}), 406, "not_acceptable")


def test_a_wiped_redis_loses_no_file(ask: Make, running: Service) -> None:
    url = ask("POST", "/traversals", data=FIRST).json()["links"]["self"]
    redis = connect(running.settings.redis_url or "")
    redis.flushall()
    redis.close()
    assert ask("GET", f"{url}/sheet.gif").content[:3] == b"GIF"
    assert ask("GET", f"{url}/z_01_last.png").content[1:4] == b"PNG"


def test_what_a_deleted_or_changed_model_did_not_make_is_refused(ask: Make, runtime: Runtime) -> None:
    url = ask("POST", "/traversals", data=FIRST).json()["links"]["self"]
    info = runtime.models.rename("tiny", "Another name")  # The name is in no picture.
    assert ask("GET", f"{url}/sheet.png").status_code == 200
    info.dimension_labels[:] = ["moves", "", "", ""]
    runtime.models.update("tiny", info)
    body = assert_problem(ask("GET", f"{url}/sheet.gif"), 404, "unknown_model")
    assert body["detail"] == "The model tiny has changed since the traversal was made."
    assert ask("DELETE", "/models/tiny").status_code == 204
    body = assert_problem(ask("GET", f"{url}/sheet.gif"), 404, "unknown_model")
    assert body["detail"] == "There is no model with the id tiny."
    assert ask("GET", f"{url}/z_01.gif").status_code == ask("GET", f"{url}/sheet.png").status_code == 200


def test_a_traversal_that_expires_while_a_file_is_made_leaves_nothing(ask: Make, runtime: Runtime) -> None:
    url = ask("POST", "/traversals", data=FIRST).json()["links"]["self"]
    job = runtime.jobs.page("traversal")[0]
    folder = LocalStorage(runtime.settings.home).path(url.strip("/"))

    class Expiring(LocalStorage):
        def write_bytes(self, key: str, data: bytes, *, reserve: bool = False) -> None:
            (folder / "result.json").unlink(missing_ok=True)
            super().write_bytes(key, data, reserve=reserve)

    class Ended:
        code = ""
        job: Any = None

        def fail(self, code: str, message: str) -> None:
            self.code = code

    claim: Any = Ended()
    claim.job = job.__class__(**{**vars(job), "request": {**job.request, "parts": ["sheet.png"]}})
    storage = Expiring(runtime.settings.home)
    run_traversal_job(claim, storage, runtime.models, runtime.settings)
    assert claim.code == "input_missing"
    assert not folder.exists()


def test_a_request_for_a_file_counts_among_the_jobs_of_its_client(
    ask: Make, running: Service, runtime: Runtime
) -> None:
    url = ask("POST", "/traversals", data=FIRST).json()["links"]["self"]
    for index in range(running.settings.max_client_jobs):
        runtime.jobs.redis.zadd("betavae:client:traversal:this machine", {f"waits {index}": 9e15})
    assert_problem(ask("GET", f"{url}/sheet.gif"), 429, "too_many_requests")
