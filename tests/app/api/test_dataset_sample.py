"""GET /datasets/{id}/sample.png: a contact sheet of a data set."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import Service, assert_problem, service, zip_of_pictures
from PIL import Image

from worker.stores.models import open_dataset_registry
from worker.stores.storage import LocalStorage


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path_factory.mktemp("samples"), redis_process) as running:
        yield running


def test_a_built_in_set_is_shown_before_it_was_ever_packed(api: Service) -> None:
    address = api.client.get("/datasets/chairs").json()["links"]["sample"]
    answer = api.client.get(address)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (8 * 64, 2 * 64)
    again = api.client.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_an_upload_is_shown_without_the_files_that_are_no_pictures(api: Service) -> None:
    files = {"file": ("shapes.zip", zip_of_pictures(3, broken=2), "application/zip")}
    dataset = api.client.post("/datasets", data={"name": "three"}, files=files).json()
    answer = api.client.get(f"/datasets/{dataset['id']}/sample.png")
    assert Image.open(io.BytesIO(answer.content)).size == (3 * 64, 64)


def test_a_set_that_is_unknown_or_gone_is_refused_without_the_operators_path(api: Service, tmp_path: Path) -> None:
    assert_problem(api.client.get("/datasets/nothing/sample.png"), 404, "unknown_dataset")
    for name in ("%C2%86%5C%F3%81%AB%8C", "n" * 300, "a%00b"):
        answer = api.client.get(f"/datasets/{name}/sample.png")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_dataset")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    storage = LocalStorage(api.settings.home)
    record = open_dataset_registry(api.settings, storage).add_path("gone", folder)
    shutil.rmtree(folder)
    body = assert_problem(api.client.get(f"/datasets/{record.id}/sample.png"), 422, "invalid_dataset")
    assert str(tmp_path) not in body["detail"]
