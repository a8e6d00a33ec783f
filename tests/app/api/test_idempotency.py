"""Equal requests at the same time make one job, also with a file."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from api_support import Service, service, zip_of_pictures


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path / "home", redis_process) as running:
        yield running


def test_the_description_bounds_the_key_as_the_service_does(api: Service) -> None:
    paths = api.client.get("/openapi.json").json()["paths"]
    for path in ("/train-jobs", "/models/{model_id}/evaluations"):
        (key,) = [p for p in paths[path]["post"]["parameters"] if p["name"] == "Idempotency-Key"]
        bounds = {name: key["schema"][name] for name in ("minLength", "maxLength")}
        assert bounds == {"minLength": 1, "maxLength": 200}
    for length, status in ((0, 422), (1, 202), (200, 202), (201, 422)):
        headers = {"Idempotency-Key": "k" * length}
        assert api.client.post("/train-jobs", json={"dataset": "dsprites"}, headers=headers).status_code == status


def test_forms_with_one_key_at_the_same_time_make_one_job_and_one_data_set(api: Service) -> None:
    archive = zip_of_pictures(3)

    def post(i: int) -> httpx.Response:
        # Every third request differs, and must lose nothing for the others.
        steps = 6 if i % 3 else 7
        return httpx.post(
            f"{api.url}/train-jobs",
            data={"name": "one", "config": json.dumps({"num_steps": steps})},
            files={"file": ("a.zip", archive)},
            headers={"Idempotency-Key": f"k{steps}" if i % 2 else "shared"},
            timeout=60,
        )

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(post, range(24)))
    made = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert len(set(made)) == 3
    assert {answer.json()["code"] for answer in answers if answer.status_code != 202} == {"idempotency_conflict"}
    jobs = api.client.get("/train-jobs").json()["jobs"]
    assert {job["id"] for job in jobs} == set(made)
    sets = [d["id"] for d in api.client.get("/datasets").json()["datasets"] if d["kind"] == "upload"]
    assert sets == [jobs[0]["dataset"]]
    assert (api.settings.home / "datasets" / sets[0] / "upload.zip").read_bytes() == archive
