"""A service on several machines, which share nothing but a Redis with TLS and a password, and a bucket of objects."""

import importlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from api_support import wait_until_ready, zip_of_pictures
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis_support import serve_redis
from tls_support import serve_tls

from benchmarks.many_machines import Machines, throughput
from benchmarks.object_store import Traffic, serve_objects
from training.config import TrainingConfig
from training.lengths import speed_key
from worker.jobs.connections import connect
from worker.jobs.speeds import Speed, place_of, publish_speed
from worker.render_job import load_for_rendering, make_traversal, use_one_thread
from worker.rendering.request import parse_request, resolve_request
from worker.stores.settings import Settings
from worker.stores.storage import Storage, open_storage

PASSWORD = "s3cret/#1"
NUM_STEPS = 300
CONFIG = {
    "image_size": 32,
    "latent_dim": 3,
    "batch_size": 4,
    "num_steps": NUM_STEPS,
    "log_steps": 5,
    "preview_steps": 0,
    "validation_fraction": 0.0,
}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """An API, a render worker and two training workers."""
    folder = tmp_path_factory.mktemp("machines")
    with (
        serve_objects() as store,
        serve_redis(password=PASSWORD) as plain,
        serve_tls(plain.removeprefix("unix://").partition("?")[0], folder / "ca.pem") as port,
    ):
        url = f"rediss://:s3cret%2F%231@localhost:{port}/0?ssl_ca_certs={folder / 'ca.pem'}"
        client = connect(url)
        for num_channels in (1, 3):  # The workers need not measure the speed of this machine.
            key = speed_key(TrainingConfig(num_channels=num_channels))
            publish_speed(client, key, place_of("cpu"), Speed(1000.0, is_of_run=True))
        started = Machines(folder, url, store, device="cpu", lease_seconds=1, checkpoint_seconds=0.4)
        started.start_api()
        for name, queue in (("render", "render"), ("first", "train"), ("second", "train")):
            started.start(name, "worker", queue)
        try:
            wait_until_ready(started.api, ("train", "render", "calls"))
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="module")
def storage(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """The storage, as another machine sees it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machines.store.environment.items():
            patch.setenv(name, value)
        yield open_storage(machines.store.url, cache_folder=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def job(machines: Machines, storage: Storage) -> dict[str, Any]:
    """A training that has succeeded although its worker was killed after its first checkpoint."""
    api = machines.api
    uploaded = api.post("/datasets", data={"name": "discs"}, files={"file": ("discs.zip", zip_of_pictures(40))})
    assert uploaded.is_success, uploaded.text
    created = api.post("/train-jobs", json={"name": "Far", "dataset": uploaded.json()["id"], "config": CONFIG})
    assert created.status_code == 202, created.text
    url = created.json()["links"]["self"]
    checkpoints = f"jobs/{created.json()['id']}/checkpoints"
    while not any(name.endswith(".json") for name in storage.list(checkpoints)):
        assert api.get(url).json()["status"] in ("queued", "running")
    pid = int(api.get(url).json()["worker"].rpartition("-")[2])
    os.kill(pid, signal.SIGKILL)
    killed = next(name for name, process in machines.processes.items() if process.pid == pid)
    machines.processes[killed].wait()
    assert killed in ("first", "second")
    with api.stream("GET", f"{url}/events", timeout=None) as events:
        assert any(line in ("event: succeeded", "event: failed") for line in events.iter_lines())
    done: dict[str, Any] = api.get(url).json()
    return done | {"killed": pid}


def test_a_killed_workers_training_goes_on_at_another_machine(
    machines: Machines, job: dict[str, Any], storage: Storage
) -> None:
    assert (job["status"], job["error"], job["attempts"]) == ("succeeded", None, 2)
    other = int(job["worker"].rpartition("-")[2])
    assert other in {process.pid for name, process in machines.processes.items() if name in ("first", "second")}
    assert other != job["killed"]
    assert 0 < job["resumed_from_step"] < NUM_STEPS
    records = map(json.loads, machines.api.get(f"/train-jobs/{job['id']}/metrics").text.splitlines())
    assert [record["step"] for record in records if "loss" in record] == [*range(5, NUM_STEPS + 1, 5)]
    model = machines.api.get(f"/models/{job['model']}").json()
    assert (model["step"], model["dataset"]["num_images"]) == (NUM_STEPS, 40)
    kept = storage.list(f"jobs/{job['id']}/checkpoints")
    assert len(kept) == 4 and f"{NUM_STEPS:08d}-2.json" in kept  # Two checkpoints, of two files each.


def test_a_machine_that_had_no_file_renders_the_model(
    machines: Machines, job: dict[str, Any], storage: Storage
) -> None:
    """Of a traversal, the answer has some files, and the others are made when they are first asked for."""
    api = machines.api
    answer = api.post("/traversals", data={"model": job["model"], "seed": "1", "steps": "3"})
    assert answer.status_code == 201, answer.text
    links = answer.json()["links"]
    prefix = links["self"].strip("/")
    first = set(storage.list(prefix))
    assert {"result.json", "z_01.gif"} <= first
    assert "sheet.gif" not in first

    model = load_for_rendering(storage.local_folder(f"models/{job['model']}"), "cpu")
    expected: dict[str, bytes] = {}
    use_one_thread()
    request = resolve_request(parse_request({"seed": "1", "steps": "3"}), model.info, 0)
    make_traversal(model, [], request, expected.__setitem__)
    assert {"sheet.gif", "sheet.png", "z_01_last.png", "reconstruction.png"} <= expected.keys()
    for name, data in expected.items():
        late = api.get(f"{links['self']}/{name}")
        assert (late.status_code, late.content) == (200, data), name
    assert set(storage.list(prefix)) == {*expected, "result.json", "request.json"}
    assert api.get(f"{links['self']}/result.json").json()["files"].keys() == expected.keys()

    assert api.get(links["self"], headers={"Accept": "application/zip"}).is_success
    assert api.get(links["self"], headers={"Accept": "video/mp4"}).status_code == 406
    assert api.delete(links["self"]).status_code == 204
    assert storage.list(prefix) == []
    assert api.get(f"{links['self']}/sheet.gif").status_code == 404


def test_no_log_has_a_password_and_nothing_failed(machines: Machines, job: dict[str, Any]) -> None:
    assert job["status"] == "succeeded"
    for name in machines.processes:
        text = machines.log(name).read_text("utf-8")
        assert not any(word in text for word in ("s3cret", "Traceback", "insecure", "ERROR")), text
    assert "rediss" in machines.redis_url


def test_redis_is_refused_with_another_certificate_name_or_password(machines: Machines) -> None:
    good = machines.redis_url
    assert connect(good).ping()
    for url in (good.partition("?")[0], good.replace("localhost", "127.0.0.1")):
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            connect(url).ping()
        with pytest.raises(Exception, match="certificate verify failed"), _broker(url) as broker:
            broker.connect()
    with pytest.raises(AuthenticationError):
        connect(good.replace("s3cret", "other")).ping()
    with _broker(good) as broker:
        assert broker.connect()


def test_the_store_counts_requests_and_bytes(machines: Machines, storage: Storage) -> None:
    before = machines.store.count()
    storage.write_bytes("counted/a", b"12345")
    storage.write_bytes("counted/b", b"678")
    assert storage.read_bytes("counted/a") == b"12345"
    assert storage.list("counted") == ["a", "b"]
    found = machines.store.count().since(before)
    assert {"PUT": 2, "GET": 1, "LIST": 1}.items() <= found.requests.items()  # Workers may ask for more meanwhile.
    assert found.bytes_in >= 8
    assert found.bytes_out >= 5
    assert Traffic(found.requests, 9, 7).since(Traffic(found.requests, 4, 2)) == Traffic(Counter(), 5, 5)


def test_throughput_grows_until_the_shared_part_is_busy() -> None:
    """A job takes 10 s, in 1 s of which Redis works: two workers keep it busy for a fifth of the time."""
    assert throughput(1, 10.0, 0.0) == 0.1
    assert throughput(2, 10.0, 1.0) == pytest.approx(2 / (9 + 1 / 0.8))
    assert throughput(10, 10.0, 1.0) == 0.0


def _broker(url: str) -> Any:
    """Returns the connection that Celery opens to a Redis."""
    kombu: Any = importlib.import_module("kombu")
    return kombu.Connection(Settings(redis_url=url).broker_url, transport_options={"socket_timeout": 5})
