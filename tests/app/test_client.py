"""The Python client against a real service."""

import asyncio
import http.server
import inspect
import io
import re
import select
import socket
import socketserver
import threading
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from api_support import LATENT_DIM, Service, http_server, picture, service, zip_of_pictures
from PIL import Image

from app.client import AsyncClient, Client, ServiceError
from app.remote import calls
from app.remote.events import JobEvent, read_events
from app.remote.uploads import form_text, name_of, open_upload
from worker.stores.storage import LocalStorage
from worker.stores.tokens import TokenStore

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")
SHORT = {"num_steps": 12, "batch_size": 8, "image_size": 32, "latent_dim": 3, "log_steps": 4}
LONG = {**SHORT, "num_steps": 100_000}


@pytest.fixture(scope="module")
def running(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with both workers."""
    with service(tmp_path_factory.mktemp("client"), redis_process, ("render", "train")) as running:
        yield running


@pytest.fixture
def client(running: Service) -> Iterator[Client]:
    """A blocking client of the service."""
    with Client(running.url) as client:
        yield client


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder of 40 pictures."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.png").write_bytes(picture(number))
    return folder


@pytest.fixture(scope="module")
def shapes(running: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of an uploaded data set of 40 pictures."""
    path = tmp_path_factory.mktemp("upload") / "shapes.zip"
    path.write_bytes(zip_of_pictures())
    with Client(running.url) as client:
        dataset = client.upload(path)
        assert (dataset.name, dataset.status) == ("shapes", "unpacked")
        assert dataset.id in [one.id for one in client.datasets()]
    return dataset.id


@pytest.fixture(scope="module")
def finished(running: Service, shapes: str) -> str:
    """The id of a training that has succeeded."""
    with Client(running.url) as client:
        job = client.start_training(shapes, name="finished", config=SHORT)
        assert client.wait(job.id, progress=False).status == "succeeded"
    return job.id


@pytest.mark.slow
def test_the_code_of_the_page_runs(
    running: Service, faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    code = "\n".join(blocks)
    assert len(code.splitlines()) >= 40
    monkeypatch.setattr("app.client.DEFAULT_URL", running.url)
    monkeypatch.chdir(faces.parent)
    (faces.parent / "docs").mkdir()
    (faces.parent / "docs" / "sample.png").write_bytes((ROOT / "docs" / "sample.png").read_bytes())
    exec(compile(code, "docs/client.md", "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    assert "'chairs'" in printed
    assert "invalid_request steps: must be at least 2, not 1 {'steps': 'must be at least 2, not 1'}" in printed
    with Image.open("sheet.gif") as sheet, Image.open("moved.png") as moved:
        assert (sheet.format, getattr(sheet, "n_frames", 1)) == ("GIF", 31)
        assert (moved.size, moved.mode) == ((64, 64), "RGB")
    with zipfile.ZipFile("faces.zip") as bundle:
        assert {"model.safetensors", "model.json"} <= set(bundle.namelist())
    assert printed.splitlines()[-3].endswith("['succeeded', 'succeeded']")
    assert len(printed.splitlines()[-1].split(",")) == 40


def test_a_picture_may_be_bytes_a_path_or_of_pillow(client: Client, tmp_path: Path) -> None:
    data = picture(3)
    (tmp_path / "p.png").write_bytes(data)
    opened = Image.open(io.BytesIO(data))
    kinds: list[Any] = [data, str(tmp_path / "p.png"), tmp_path / "p.png", opened, opened.convert("CMYK")]
    means = [client.encode(kind, model="tiny").mean for kind in kinds]
    assert len(means[0]) == LATENT_DIM
    assert means[:4] == [means[0]] * 4
    np.testing.assert_allclose(means[4], means[0], atol=0.1)  # CMYK has no exact way back.


def test_decode_and_reconstruct_return_pictures(client: Client) -> None:
    two = client.decode(np.zeros((2, LATENT_DIM)), model="tiny-rgb")
    assert [(image.size, image.mode) for image in two] == [((32, 32), "RGB")] * 2
    (one,) = client.decode([0.0] * LATENT_DIM, model="tiny-rgb")
    assert one.tobytes() == two[0].tobytes()
    mean = client.encode(picture(), model="tiny").mean
    assert client.reconstruct(picture(), model="tiny").tobytes() == client.decode(mean, model="tiny")[0].tobytes()


def test_traversals(client: Client) -> None:
    options: dict[str, Any] = {"dimensions": [0, 2], "steps": 3}
    numbers = client.traversal(picture(), model="tiny", **options)
    assert ([one.index for one in numbers.dimensions], numbers.parameters["steps"]) == ([0, 2], 3)
    with zipfile.ZipFile(io.BytesIO(client.traverse(picture(), model="tiny", format="zip", **options))) as archive:
        assert archive.namelist() == ["z_01.gif", "z_03.gif"]
    path = client.traversal(picture(1), image2=picture(2), model="tiny", steps=4)
    assert path.dimensions == []
    assert client.traversal(model="tiny", z=np.array([0.5, 0, 0, 0]), steps=2).parameters["z"] == [0.5, 0, 0, 0]


def test_a_training_that_is_steered(client: Client, shapes: str) -> None:
    job = client.start_training(shapes, name="long", config=LONG)
    assert job.dataset == shapes
    for event in client.events(job.id):
        if event.type == "progress" and event.data["status"] == "running":
            client.pause(job.id)
        if event.type == "paused":
            break
    assert client.resume(job.id).status == "queued"
    assert {one.id for status in ("queued", "running") for one in client.jobs(status=status)} == {job.id}
    client.cancel(job.id)
    with pytest.raises(ServiceError, match=f"The training long \\({job.id}\\) was cancelled") as caught:
        client.wait(job.id, progress=False)
    assert caught.value.code == "cancelled"
    assert client.retry(job.id).status == "queued"
    assert client.cancel(job.id).id == job.id


def test_a_sweep_waits_for_the_choice(client: Client, shapes: str) -> None:
    sweep = client.sweep(shapes, name="swept", grid={"seed": [3]}, config=SHORT)
    (member,) = sweep.members
    assert (sweep.status, member.status, member.settings) == ("succeeded", "succeeded", {"seed": 3})
    assert sweep.winner is not None
    assert sweep.winner.model == member.model
    assert client.sweep_of("swept") == sweep
    with pytest.raises(ServiceError, match="has the value 1 twice"):
        client.start_sweep(shapes, grid={"seed": [1, 1]})


def test_jobs_of_many_pages(client: Client, shapes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PAGE_SIZE", 2)
    made = [client.start_training(shapes, name=f"page {k}", config=LONG).id for k in range(5)]
    for job in made:
        client.cancel(job)
    assert [job.id for job in client.jobs()][:5] == made[::-1]


def test_a_failed_training_raises_its_error(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(picture()[:60])
    with pytest.raises(ServiceError) as caught:
        client.train(tmp_path / "broken", config=SHORT, progress=False)
    assert (caught.value.code, caught.value.status) == ("no_images", None)
    assert caught.value.message


def test_a_broken_stream_goes_on_where_it_broke(
    client: Client, running: Service, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "POLL_SECONDS", 0)
    events = list(client.events(finished))
    assert [event.type for event in events][-1] == "succeeded"
    with breaking_proxy(running.url, 1500) as (url, cuts), Client(url) as through:
        assert list(through.events(finished)) == events
        assert len(cuts) >= 2
    assert list(client.events(finished, after=events[-2].id)) == events[-1:]


@contextmanager
def breaking_proxy(url: str, num_bytes: int) -> Iterator[tuple[str, list[int]]]:
    """Yields the address of a proxy that cuts every event stream after so many bytes, and a list of its cuts."""
    upstream = httpx.URL(url)
    cuts: list[int] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left = None
            with socket.create_connection((upstream.host, upstream.port or 80)) as server:
                while ready := select.select([self.request, server], [], [])[0]:
                    source, target = (server, self.request) if server in ready else (self.request, server)
                    data = source.recv(65536 if left is None else left)
                    if not data:
                        return
                    target.sendall(data)
                    if source is self.request:
                        left = num_bytes if b"/events" in data.split(b"\r\n")[0] else None
                    elif left is not None:
                        left -= len(data)
                        if left == 0:
                            cuts.append(num_bytes)
                            return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}", cuts
        finally:
            proxy.shutdown()
            thread.join()


def test_without_a_stream_the_state_is_polled(
    running: Service, client: Client, shapes: str, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "POLL_SECONDS", 0)
    monkeypatch.setattr("app.dependencies.MAX_STREAMS", 1)
    waiting = client.start_training(shapes, name="waiting", config=LONG)
    with http_server(running.settings) as url, httpx.Client(base_url=url) as other, Client(url) as polling:
        with other.stream("GET", f"/train-jobs/{waiting.id}/events") as held:
            lines = held.iter_lines()
            next(lines)
            events = list(polling.events(finished))
        client.cancel(waiting.id)
    assert [(event.id, event.type, event.data["status"]) for event in events] == [("", "progress", "succeeded")]
    assert events[0].data["progress"]["step"] == SHORT["num_steps"]


def test_a_bar_shows_the_progress(client: Client, finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.wait(finished).model
    assert "finished: succeeded" in capsys.readouterr().err
    client.wait(finished, progress=False)
    assert capsys.readouterr().err == ""


def test_both_clients_have_the_same_calls() -> None:
    def names(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}

    assert names(Client) == names(AsyncClient)
    for name in names(Client):
        assert inspect.signature(getattr(Client, name)).parameters.keys() == (
            inspect.signature(getattr(AsyncClient, name)).parameters.keys()
        )
        assert getattr(Client, name).__doc__


def test_an_async_client_trains_and_follows(running: Service, faces: Path) -> None:
    async def run() -> list[str]:
        async with AsyncClient(running.url) as client:
            model = await client.train(faces, name="async", config=SHORT, progress=False)
            assert model.step == SHORT["num_steps"]
            (job,) = [job for job in await client.jobs() if job.name == "async"]
            return [event.type async for event in client.events(job.id)]

    assert asyncio.run(run())[-1] == "succeeded"


def test_a_service_that_is_away() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # Bound and not listening: nothing else can answer there.
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for call in (Client(url).models, lambda: list(Client(url).events("j-1")), asyncio_models(url)):
            with pytest.raises(ServiceError) as caught:
                call()
            assert caught.value.code == "service_unreachable"
            assert str(caught.value) == f"No service answers at {url}; `betavae serve` starts one."
    with pytest.raises(ServiceError, match="localhost:8000 is not the address of a service, such as http://"):
        Client("localhost:8000").models()


def asyncio_models(url: str) -> Callable[[], object]:
    """Returns a function that lists the models of a service by the asynchronous client."""

    async def models() -> object:
        async with AsyncClient(url) as client:
            return await client.models()

    return lambda: asyncio.run(models())


def test_a_service_that_goes_away_while_it_is_followed(
    running: Service, client: Client, shapes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "POLL_SECONDS", 0)
    monkeypatch.setattr(calls, "MAX_ROUNDS_AWAY", 3)
    waiting = client.start_training(shapes, name="left alone", config=LONG)
    with http_server(running.settings) as url:
        events = Client(url).events(waiting.id)
        assert next(events).type == "queued"
    with pytest.raises(ServiceError) as caught:
        list(events)
    assert caught.value.code == "service_unreachable"
    client.cancel(waiting.id)


def test_a_service_that_asks_for_a_token(running: Service, tmp_path: Path) -> None:
    _, secret = TokenStore(LocalStorage(tmp_path / "home")).add("reader", "read")
    with http_server(running.settings.model_copy(update={"home": tmp_path / "home"})) as url:
        with Client(url) as client, pytest.raises(ServiceError) as caught:
            client.models()
        assert (caught.value.code, caught.value.status) == ("token_required", 401)
        with Client(url, token=secret) as client:
            assert "chairs" in [model.id for model in client.models()]


def test_answers_of_something_else() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>hello</html>"
            self.send_response(200 if self.path.startswith("/models") else 502)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            with Client(url) as client:
                with pytest.raises(ServiceError, match=r"limit=200 answered no ModelList; it may not be") as caught:
                    client.models()
                assert caught.value.code == "unexpected_answer"
                with pytest.raises(ServiceError, match=r"limit=200 answered 502 Bad Gateway") as caught:
                    client.datasets()
                assert (caught.value.code, caught.value.status) == ("unexpected_answer", 502)
        finally:
            server.shutdown()
            thread.join()


def test_problems_of_the_service(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        client.encode(b"no picture", model="tiny")
    assert (caught.value.code, caught.value.status, list(caught.value.fields)) == ("not_an_image", 422, ["image"])
    assert len(caught.value.request_id) == 32
    with pytest.raises(ServiceError, match="There is no model with the id no-such") as caught:
        client.model("no-such")
    assert caught.value.code == "unknown_model"
    with pytest.raises(ServiceError, match="There is no data set with the id nothing") as caught:
        client.train("nothing", progress=False)
    assert caught.value.code == "unknown_dataset"
    with pytest.raises(ServiceError) as caught:
        client.start_training("dsprites", config={"num_steps": 0})
    assert caught.value.fields == {"config.num_steps": "must be at least 1, not 0"}
    with pytest.raises(ServiceError) as caught:
        client.start_training("dsprites", minutes=-1)
    assert list(caught.value.fields) == ["minutes"]
    with pytest.raises(ServiceError) as caught:
        list(client.events("j-unknown"))
    assert caught.value.code == "unknown_job"
    with pytest.raises(FileNotFoundError):
        client.encode(tmp_path / "gone.png", model="tiny")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServiceError, match="empty holds no files") as caught:
        client.train(tmp_path / "empty", progress=False)
    assert caught.value.code == "invalid_dataset"


def test_the_same_folder_is_stored_once(client: Client, faces: Path) -> None:
    first = client.start_training(faces, config=SHORT)
    (faces / ".hidden").write_bytes(b"no part of it")
    (faces / "00.png").touch()
    second = client.start_training(
        faces, minutes=5, config={name: value for name, value in SHORT.items() if name != "num_steps"}
    )
    assert first.dataset == second.dataset
    for job in (first, second):
        with suppress(ServiceError):  # It may have ended.
            client.cancel(job.id)


def test_a_folder_as_zip(tmp_path: Path) -> None:
    folder = tmp_path / "My pictures, 2024"
    (folder / "cats").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("b.png", "a.png", "cats/c.png", ".git/config"):
        (folder / name).write_bytes(name.encode())
    name, file = open_upload(folder)
    with file, zipfile.ZipFile(file) as archive:
        assert {one: archive.read(one) for one in archive.namelist()} == {
            one: one.encode() for one in ("a.png", "b.png", "cats/c.png")
        }
    assert name == "My pictures, 2024.zip"
    assert name_of(folder) == "My pictures- 2024"
    assert name_of(tmp_path / "_.png") == "pictures"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("active", "active"),
        ([0, 3], "0,3"),
        (np.array([0.5, -1.0]), "0.5,-1.0"),
        (None, ""),
        (31, "31"),
        (-2.5, "-2.5"),
    ],
)
def test_options_as_texts(value: object, text: str) -> None:
    assert form_text(value) == text


def test_events_are_read_from_lines() -> None:
    async def lines() -> AsyncGenerator[str]:
        for line in (": ping", "", "id: 1-0", "event: queued", 'data: {"status": "queued"}', "", "id: 2-0", "data: {"):
            yield line

    async def read() -> list[JobEvent]:
        return [event async for event in read_events(lines())]

    assert asyncio.run(read()) == [JobEvent("1-0", "queued", {"status": "queued"})]
