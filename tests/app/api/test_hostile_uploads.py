"""Hostile files sent to the service: each is refused with its code, and the API needs little memory for it."""

import io
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_support import ROOT, Service, add_model, assert_problem, picture, service
from hostile_files import crowded_zip, jpeg_of_many_scans, lossless_webp, npy_with_long_header, zip_bomb

from worker.jobs.connections import connect
from worker.stores.storage import LocalStorage

MAX_MIB_ABOVE_IDLE = 300
MIB = 2**20

_SERVER = """
import sys
from pathlib import Path
import uvicorn
from app.main import create_app
from worker.stores.settings import Settings
settings = Settings(home=Path(sys.argv[1]), redis_url=sys.argv[2])
uvicorn.run(create_app(settings), fd=int(sys.argv[3]), log_level="error")
"""


class Api:
    """The API in its own process."""

    def __init__(self, client: httpx.Client, pid: int) -> None:
        self.client = client
        self.pid = pid
        self._idle_mib = self._mib("VmRSS")

    def mib_above_idle(self) -> float:
        """Returns the peak memory of the process and its present children, less the idle memory of the process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return self._mib("VmHWM") - self._idle_mib + sum(_mib(int(child), "VmHWM") for child in children)

    def _mib(self, name: str) -> float:
        return _mib(self.pid, name)


def _mib(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0) / 1024


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("home")
    add_model(LocalStorage(home), "tiny")
    client = connect(redis_process)
    client.flushall()
    client.close()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        command = [sys.executable, "-c", _SERVER, str(home), redis_process, str(listener.fileno())]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[listener.fileno()])
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as http:
                assert http.get("/healthz").status_code == 200
                yield Api(http, process.pid)
        finally:
            process.terminate()
            process.wait()


def upload(api: Api, name: str, data: bytes) -> httpx.Response:
    return api.client.post("/datasets", data={"name": "hostile"}, files={"file": (name, data)})


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_of_another_method(api: Api, method: int) -> None:
    answer = upload(api, "a.zip", zip_bomb("a.bmp", 400 * MIB, method, b"BM"))
    assert "only stored and deflated" in assert_problem(answer, 422, "invalid_dataset")["detail"]
    assert api.mib_above_idle() < MAX_MIB_ABOVE_IDLE


@pytest.mark.parametrize("record", ["32 bit", "64 bit", "64 bit hidden"])
def test_a_directory_of_too_many_entries(api: Api, record: str) -> None:
    answer = upload(api, "a.zip", crowded_zip(600_000, record=record))
    assert "more than 550000 files" in assert_problem(answer, 422, "invalid_dataset")["detail"]
    assert api.mib_above_idle() < MAX_MIB_ABOVE_IDLE


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_an_npz_that_unpacks_to_much(api: Api, method: int) -> None:
    data = zip_bomb("images.npy", 400 * MIB, method, npy_with_long_header(400 * MIB))
    made = upload(api, "a.npz", data)
    assert made.status_code == 201
    answer = api.client.post(f"/datasets/{made.json()['id']}/packs", json={})
    assert answer.status_code == 202  # The report of the packing names the reason.
    assert api.mib_above_idle() < MAX_MIB_ABOVE_IDLE


def test_a_webp_of_fifty_million_pixels(api: Api) -> None:
    answer = api.client.post("/models/tiny/encode", files={"image": ("a.webp", lossless_webp(7000))})
    assert_problem(answer, 413, "image_too_large")
    assert api.mib_above_idle() < MAX_MIB_ABOVE_IDLE


@pytest.mark.parametrize(("address", "form"), [("/models/tiny/encode", {}), ("/traversals", {"model": "tiny"})])
def test_a_jpeg_of_many_scans(api: Api, address: str, form: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = api.client.post(address, data=form, files={"image": ("a.jpg", jpeg_of_many_scans(20_000))})
    assert_problem(answer, 415, "unsupported_image")
    assert time.monotonic() - began < 10


def test_a_damaged_hdf5_harms_nobody(api: Api) -> None:
    path = Path(os.environ.get("TEST_DATA", "/nowhere")) / "field-cases" / "damaged.h5"
    if not path.is_file():
        pytest.skip("TEST_DATA has no field-cases/damaged.h5")
    made = upload(api, "a.h5", path.read_bytes())
    assert made.status_code == 201
    answer = api.client.post(f"/datasets/{made.json()['id']}/packs", json={})
    assert "SIGSEGV" in assert_problem(answer, 422, "invalid_dataset")["detail"]
    assert api.client.get("/healthz").status_code == 200


def test_an_ordinary_picture_is_taken_after_all_that(api: Api) -> None:
    files = {"image": ("a.png", picture())}
    answer = api.client.post("/traversals", data={"model": "tiny"}, files=files, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202, answer.text


def slow_set() -> bytes:
    """Returns a zip that takes minutes to pack: 5 000 pictures of 2 megapixels, a few hundred bytes each."""
    data, buffer = lossless_webp(1500), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number}.webp", data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def working(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("home"), redis_process, ("render",)) as running:
        yield running


def packing(running: Service) -> tuple[str, str]:
    """Uploads a slow set and starts its packing; returns the addresses of the data set and of the packing."""
    made = running.client.post("/datasets", data={"name": "slow"}, files={"file": ("slow.zip", slow_set())})
    url = str(made.json()["links"]["self"])
    begun = running.client.post(f"{url}/packs", json={"num_channels": 1})
    assert begun.status_code == 202, begun.text
    deadline = time.monotonic() + 60
    while running.client.get(url).json()["packing"][0]["progress"]["phase"] != "packing":
        assert time.monotonic() < deadline
    return url, f"{url}/packs/{begun.json()['id']}"


def test_a_packing_is_cancelled_over_http(working: Service) -> None:
    url, pack = packing(working)
    assert_problem(working.client.post(f"{url}/packs/no-such/cancel"), 404, "unknown_job")
    assert_problem(working.client.post(pack.replace(url, "/datasets/dsprites") + "/cancel"), 404, "unknown_job")
    answer = working.client.post(f"{pack}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] in ("cancelling", "cancelled")
    deadline = time.monotonic() + 30
    while working.client.get(url).json()["packing"][0]["status"] != "cancelled":
        assert time.monotonic() < deadline
    assert_problem(working.client.post(f"{pack}/cancel"), 409, "transition_refused")
    assert working.client.delete(url).status_code == 204


def test_deleting_a_data_set_stops_its_packing(working: Service) -> None:
    url, _ = packing(working)
    assert working.client.delete(url).status_code == 204
    assert_problem(working.client.get(url), 404, "unknown_dataset")
    folder = working.settings.home / "datasets" / url.rsplit("/", 1)[-1]
    assert not folder.exists()
