"""Equal requests at the same time make one job, also with a file."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from api_support import Service, answering_calls, assert_problem, service, zip_of_pictures


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path / "home", redis_process) as running:
        yield running


def test_the_description_bounds_the_key_as_the_service_does(api: Service) -> None:
    paths = api.client.get("/openapi.json").json()["paths"]
    for path in ("/train-jobs", "/models/{model_id}/evaluations", "/sweeps", "/datasets", "/models"):
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


def test_uploads_with_one_key_at_the_same_time_make_one_data_set(api: Service) -> None:
    archive = zip_of_pictures(3)

    def post(i: int) -> httpx.Response:
        # Every third request sends another file, and every second one sends it as the body.
        data = archive if i % 3 else zip_of_pictures(2)
        headers = {"Idempotency-Key": "mine"}
        if i % 2:
            headers["Content-Type"] = "application/zip"
            return httpx.post(f"{api.url}/datasets?name=one", content=data, headers=headers, timeout=60)
        files = {"file": ("upload.zip", data)}
        return httpx.post(f"{api.url}/datasets", data={"name": "one"}, files=files, headers=headers, timeout=60)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(post, range(12)))
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {answer.json()["code"] for answer in answers if answer.status_code != 201} == {"idempotency_conflict"}
    assert len({answer.status_code for answer in answers}) == 2
    sets = [one for one in api.client.get("/datasets").json()["datasets"] if one["kind"] == "upload"]
    assert [(one["id"], one["name"]) for one in sets] == [(*made, "one")]
    assert api.client.delete(f"/datasets/{sets[0]['id']}").status_code == 204
    assert [post(i).status_code for i in (0, 1)] == [201, 409]  # A key is free again with what it made.


def _upload(api: Service, name: str, archive: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/zip", **headers}
    return api.client.post(f"/datasets?name={name}", content=archive, headers=headers)


def test_a_name_cannot_take_the_place_of_an_upload_with_a_key(api: Service) -> None:
    """The ids of what a key or a content makes have an underscore, which those of names never have."""
    theirs, own = zip_of_pictures(1), zip_of_pictures(3)
    guess = hashlib.sha256(b"mine").hexdigest()[:16]
    for name in (f"upload-{guess}", f"upload_{guess}"):
        taken = _upload(api, name, theirs)
        made = _upload(api, "own", own, **{"Idempotency-Key": "mine"})
        assert (made.status_code, made.json()["name"]) == (201, "own")
        assert made.json()["id"] != taken.json()["id"]


def test_a_name_cannot_take_the_place_of_the_pictures_of_a_training(api: Service) -> None:
    archive, other = zip_of_pictures(3), zip_of_pictures(1)
    digest = hashlib.sha256(archive).hexdigest()
    names = [f"cats{mark}{digest[:length]}" for mark in "-_ " for length in (12, 16)]
    taken = [_upload(api, name, other).json()["id"] for name in names]
    job = api.client.post("/train-jobs", data={"name": "cats"}, files={"file": ("a.zip", archive)}).json()
    assert job["dataset"] not in taken
    assert (api.settings.home / "datasets" / job["dataset"] / "upload.zip").read_bytes() == archive


def test_a_refused_upload_does_not_take_its_key(api: Service) -> None:
    headers = {"Idempotency-Key": "mine", "Content-Type": "application/zip"}
    for data, status in ((b"no zip", 422), (zip_of_pictures(1), 201)):
        assert api.client.post("/datasets?name=one", content=data, headers=headers).status_code == status
    bad = api.client.post("/datasets?name=one", content=b"", headers={**headers, "Idempotency-Key": "k" * 201})
    assert assert_problem(bad, 422, "invalid_request")["errors"][0]["field"] == "Idempotency-Key"


def test_a_model_that_is_imported_again_with_its_key_is_one_model(api: Service) -> None:
    bundle = api.client.get("/models/tiny/export").content

    def post(name: str, file: bytes = bundle, key: str = "mine") -> httpx.Response:
        files = {"file": ("a.zip", file)}
        return api.client.post("/models", data={"name": name}, files=files, headers={"Idempotency-Key": key})

    with answering_calls(api.settings):
        first, second = post("copy"), post("copy")
        assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
        assert_problem(post("other"), 409, "idempotency_conflict")
        assert post("copy", key="another").json()["id"] != first.json()["id"]
        folders = set((api.settings.home / "models").iterdir())
        assert_problem(post("copy", b"no model", key="free"), 422, "invalid_model")
        assert set((api.settings.home / "models").iterdir()) == folders
    names = [model["name"] for model in api.client.get("/models").json()["models"]]
    assert names.count("copy") == 2
    assert post("copy").json() == first.json()  # It is there, so no worker is asked.
    assert set(first.json()) == set(api.client.get(first.headers["location"]).json())
