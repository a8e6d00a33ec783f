"""Packings that take long are stopped over HTTP; the corpus (tests/corpus) has the files that are refused."""

import io
import time
import zipfile
from collections.abc import Iterator

import pytest
from api_support import Service, assert_problem, service
from hostile_files import lossless_webp


def slow_set(num: int = 5000) -> bytes:
    """Returns a zip that takes minutes to pack: `num` pictures of 2 megapixels, a few hundred bytes each."""
    data, buffer = lossless_webp(1500), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(num):
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
    # Another set of the name, which gets the same id, has no packing.
    made = working.client.post("/datasets", data={"name": "slow"}, files={"file": ("slow.zip", slow_set(1))})
    assert made.json()["links"]["self"] == url
    assert working.client.get(url).json()["packing"] == []
    assert not list((working.settings.home / "jobs").glob("pack-slow*"))
