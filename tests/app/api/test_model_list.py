"""GET /models and GET /datasets: pages, and models without the measurements of each dimension."""

from collections.abc import Iterator
from typing import Any

import pytest
from api_support import Service, add_model, service, zip_of_pictures

from app.client import Client
from app.remote import calls
from worker.stores.datasets import DatasetRegistry
from worker.stores.storage import LocalStorage

MEASUREMENTS = {"aggregate_mean", "aggregate_std", "dimension_effects", "typical_mean"}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers, with seven models: chairs and dsprites ship."""
    home = tmp_path_factory.mktemp("models")
    (home / "some.zip").write_bytes(zip_of_pictures(2))
    with service(home, redis_process) as running:
        storage = LocalStorage(home)
        for number in range(3):
            add_model(storage, f"more-{number}")
        for name in ("c", "B", "a", "c"):
            DatasetRegistry(storage).add_path(name, home / "some.zip")
        yield running


def _page(api: Service, **parameters: Any) -> tuple[list[str], str | None]:
    answer = api.client.get("/models", params=parameters).json()
    assert set(answer) == {"models", "default", "next"}
    assert answer["default"] == "dsprites"
    return [model["id"] for model in answer["models"]], answer["next"]


def test_the_pages_have_every_model_once(api: Service) -> None:
    every, following = _page(api)
    assert (len(every), len(set(every)), following) == (7, 7, None)
    assert every[:2] == ["chairs", "dsprites"]
    assert _page(api, limit=3) == (every[:3], every[2])
    assert _page(api, limit=3, after=every[2]) == (every[3:6], every[5])
    assert _page(api, limit=3, after=every[5]) == (every[6:], None)
    assert _page(api, limit=7) == (every, None)


def test_an_entry_has_the_fields_of_the_model_but_its_measurements(api: Service) -> None:
    entry = api.client.get("/models", params={"limit": 1}).json()["models"][0]
    whole = api.client.get("/models/chairs").json()
    assert set(whole) - set(entry) == MEASUREMENTS
    assert entry == {name: whole[name] for name in entry}
    assert len(whole["dimension_effects"]) == 12


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"limit": 0}, 422, "invalid_request"),
        ({"limit": 201}, 422, "invalid_request"),
        ({"limit": "all"}, 422, "invalid_request"),
        ({"after": "no-such-model"}, 404, "unknown_model"),
        ({"after": "m" * 129}, 422, "invalid_request"),
    ],
)
def test_a_page_that_is_none_is_refused(api: Service, parameters: dict[str, Any], status: int, code: str) -> None:
    answer = api.client.get("/models", params=parameters)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("limit", [1, 3, 6, 7])
def test_the_pages_have_every_data_set_once(api: Service, limit: int) -> None:
    found: list[tuple[str, str]] = []
    after: dict[str, str] = {}
    for _ in range(-(-7 // limit)):
        page = api.client.get("/datasets", params={"limit": limit, **after}).json()
        assert set(page) == {"datasets", "next"}
        found += [(one["id"], one["name"]) for one in page["datasets"]]
        after = {"after": page["next"]}
    assert page["next"] is None
    assert [one for one, _ in found[:3]] == ["dsprites", "dsprites_color", "chairs"]
    assert found[3:] == [("b", "B"), ("a", "a"), ("c", "c"), ("c-2", "c")]


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [({"limit": 0}, 422, "invalid_request"), ({"after": "no-such-set"}, 404, "unknown_dataset")],
)
def test_a_page_of_data_sets_that_is_none_is_refused(
    api: Service, parameters: dict[str, Any], status: int, code: str
) -> None:
    answer = api.client.get("/datasets", params=parameters)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_python_client_reads_all_pages(api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PAGE_SIZE", 2)
    with Client(api.url) as client:
        assert [model.id for model in client.models()] == _page(api)[0]
        assert [one.id for one in client.datasets()][-4:] == ["b", "a", "c", "c-2"]
