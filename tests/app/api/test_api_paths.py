"""The whole path over HTTP with real workers, from images to a model, traversals and metrics."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from api_support import LATENT_DIM, Service, assert_problem, picture, service, zip_of_pictures
from PIL import Image

from models.info import Preprocessing
from training.data.images import load_image

pytestmark = pytest.mark.slow

SMALL = {
    "image_size": 32,
    "latent_dim": LATENT_DIM,
    "batch_size": 8,
    "num_steps": 20,
    "log_steps": 5,
    "preview_steps": 10,
    "capacity_max": 2.0,
}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a train and a render worker."""
    with service(tmp_path_factory.mktemp("paths"), redis_process, ("train", "render")) as running:
        yield running


def _traverse(api: Service, seed: int = 0, **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", {})
    data = {"model": "tiny", "steps": "5", **{name: str(value) for name, value in fields.items()}}
    return api.client.post("/traversals", files={"image": ("a.png", picture(seed))}, data=data, headers=headers)


def _events(api: Service, job_id: str, **headers: str) -> list[dict[str, Any]]:
    """Returns all events of a job until the stream ends by itself."""
    events: list[dict[str, Any]] = []
    event: dict[str, str] = {}
    with api.client.stream("GET", f"/train-jobs/{job_id}/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if not line and event:
                events.append({**event, "data": json.loads(event["data"])})
                event = {}
            elif name in ("id", "event", "data"):
                event[name] = value
    return events


def _train(api: Service, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/train-jobs", json={"dataset": "shapes", "config": SMALL, **body})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/train-jobs/{job['id']}"
    return job


@pytest.fixture(scope="module")
def dataset(api: Service) -> dict[str, Any]:
    """An uploaded set of 40 pictures and two files that are not pictures."""
    answer = api.client.post("/datasets", data={"name": "Shapes"}, files={"file": ("a.zip", zip_of_pictures(broken=2))})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/datasets/shapes"
    record: dict[str, Any] = answer.json()
    assert record["status"] == "unpacked"
    return record


@pytest.fixture(scope="module")
def trained(api: Service, dataset: dict[str, Any]) -> dict[str, Any]:
    """A job that has succeeded, with its events."""
    job = _train(api, name="small")
    events = _events(api, job["id"])
    return {**api.client.get(job["links"]["self"]).json(), "seen": events}


def test_a_job_makes_a_model(api: Service, trained: dict[str, Any]) -> None:
    assert trained["status"] == "succeeded", trained["error"]
    assert trained["progress"]["step"] == trained["progress"]["num_steps"] == 20
    assert trained["progress"]["fraction"] == 1.0
    assert trained["attempts"] == 1
    assert trained["config"]["num_steps"] == 20
    assert trained["config"]["objective"] == "controlled"
    assert len(trained["metrics"]["kl_per_dimension"]) == LATENT_DIM
    assert trained["metrics"]["kl"] == pytest.approx(sum(trained["metrics"]["kl_per_dimension"]), rel=1e-3)
    model = api.client.get(trained["links"]["model"]).json()
    assert model["name"] == "small"
    assert model["network"]["latent_dim"] == LATENT_DIM
    assert model["dataset"]["id"] == "shapes"
    assert model["step"] == 20


def test_events_cover_the_whole_job_and_can_be_resumed(api: Service, trained: dict[str, Any]) -> None:
    seen = trained["seen"]
    assert [event["event"] for event in seen][:1] == ["queued"]
    assert seen[-1]["event"] == "succeeded"
    assert "progress" in {event["event"] for event in seen}
    assert _events(api, trained["id"]) == seen
    assert _events(api, trained["id"], **{"Last-Event-ID": seen[1]["id"]}) == seen[2:]


def test_metrics_and_previews(api: Service, trained: dict[str, Any]) -> None:
    answer = api.client.get(trained["links"]["metrics"])
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    records = [json.loads(line) for line in answer.text.splitlines()]
    assert {record["step"] for record in records} >= {5, 10, 15, 20}
    previews = api.client.get(trained["links"]["previews"]).json()["previews"]
    assert len(previews) >= 2
    image = api.client.get(previews[0])
    assert image.headers["content-type"] == "image/png"
    assert_problem(api.client.get(trained["links"]["previews"] + "/nope.png"), 404, "unknown_file")
    for name, media in (("training_gif", "image/gif"), ("capacity_png", "image/png")):
        figure = api.client.get(trained["links"][name])
        assert figure.headers["content-type"] == media
        Image.open(io.BytesIO(figure.content)).verify()
        again = api.client.get(trained["links"][name], headers={"If-None-Match": figure.headers["etag"]})
        assert again.status_code == 304


def test_a_packed_data_set_reports_what_it_left_out(api: Service, trained: dict[str, Any]) -> None:
    record = api.client.get("/datasets/shapes").json()
    assert record["status"] == "ready"
    assert record["num_images"] == 40
    assert record["num_rejected"] == 2
    lines = [json.loads(line) for line in api.client.get("/datasets/shapes/rejected").text.splitlines()]
    assert [line["code"] for line in lines] == ["not_an_image"] * 2
    assert record["packing"][0]["status"] == "succeeded"


def test_packing_on_request_prepares_another_size(api: Service, trained: dict[str, Any]) -> None:
    answer = api.client.post("/datasets/shapes/packs", json={"image_size": 32, "num_channels": 3})
    assert answer.status_code == 202
    assert answer.json()["preprocessing"]["num_channels"] == 3
    again = api.client.post("/datasets/shapes/packs", json={"image_size": 32.0, "num_channels": 3})
    assert (again.status_code, again.json()["id"]) == (202, answer.json()["id"])


def test_layout_and_stride_of_an_upload_decide_what_is_packed(api: Service) -> None:
    frames = [Image.new("RGB", (40, 40), (20 * k, 90, 200)) for k in range(12)]
    film, archive = io.BytesIO(), io.BytesIO()
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:])
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("film.gif", film.getvalue())
    form: dict[str, Any] = {"files": {"file": ("a.zip", archive.getvalue())}, "data": {"name": "form"}}
    raw: dict[str, Any] = {"content": archive.getvalue(), "headers": {"Content-Type": "application/zip"}}
    for address, body in (("?layout=frames&stride=5", form), ("?name=raw&layout=frames&stride=5", raw)):
        answer = api.client.post(f"/datasets{address}", **body)
        assert answer.status_code == 201, answer.text
        url = f"/datasets/{answer.json()['id']}"
        assert api.client.post(f"{url}/packs", json={"image_size": 32}).status_code == 202
        while not (record := api.client.get(url).json())["packs"]:
            assert record["packing"][0]["status"] != "failed", record
        assert (record["layout"], record["num_images"]) == ("frames", 3)
    for address, field in (("?layout=film", "layout"), ("?stride=0", "stride")):
        answer = api.client.post(f"/datasets{address}", **form)
        assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == field


def test_an_idempotency_key_replays_the_first_answer(api: Service, trained: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "once"}
    body = {"dataset": "shapes", "config": {**SMALL, "seed": 5}}
    first = api.client.post("/train-jobs", json=body, headers=key)
    again = api.client.post("/train-jobs", json=body, headers=key)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    other = api.client.post("/train-jobs", json={**body, "config": SMALL}, headers=key)
    assert_problem(other, 409, "idempotency_conflict")


def test_a_zip_of_images_is_trained_on_in_one_request(api: Service) -> None:
    form = {"name": "one shot", "config": json.dumps(SMALL)}
    files = {"file": ("a.zip", zip_of_pictures(20))}
    key = {"Idempotency-Key": "one shot"}
    first = api.client.post("/train-jobs", data=form, files=files, headers=key)
    again = api.client.post("/train-jobs", data=form, files=files, headers=key)
    assert first.status_code == again.status_code == 202, first.text
    assert first.json()["id"] == again.json()["id"]
    other = api.client.post("/train-jobs", data=form, files={"file": ("a.zip", zip_of_pictures(21))}, headers=key)
    assert_problem(other, 409, "idempotency_conflict")
    sets = [d["id"] for d in api.client.get("/datasets").json()["datasets"] if d["id"].startswith("one-shot")]
    assert len(sets) == 1
    assert _events(api, first.json()["id"])[-1]["event"] == "succeeded"


def test_a_job_is_paused_resumed_and_cancelled(api: Service, trained: dict[str, Any]) -> None:
    long = _train(api, config={**SMALL, "num_steps": 1_000_000}, name="long")
    links = long["links"]
    with api.client.stream("GET", links["events"]) as stream:
        for line in stream.iter_lines():
            if line == "event: progress":
                break
    assert_problem(api.client.delete("/datasets/shapes"), 409, "in_use")
    assert_problem(api.client.delete(links["self"]), 409, "transition_refused")
    assert_problem(api.client.post(links["resume"]), 409, "transition_refused")
    assert api.client.post(links["pause"]).json()["status"] in ("pausing", "paused")
    with api.client.stream("GET", links["events"]) as stream:
        for line in stream.iter_lines():
            if line == "event: paused":
                break
    assert api.client.get("/train-jobs?status=paused").json()["jobs"][0]["id"] == long["id"]
    assert api.client.post(links["resume"]).json()["status"] == "queued"
    assert api.client.post(links["cancel"]).json()["status"] in ("cancelling", "cancelled")
    assert _events(api, long["id"])[-1]["event"] == "cancelled"
    assert_problem(api.client.post(links["cancel"]), 409, "transition_refused")
    assert api.client.delete(links["self"]).status_code == 204
    assert_problem(api.client.get(links["self"]), 404, "unknown_job")


def test_jobs_are_listed_in_pages(api: Service, trained: dict[str, Any]) -> None:
    everything = [job["id"] for job in api.client.get("/train-jobs").json()["jobs"]]
    seen: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        after = {"after": page["next"]} if page["next"] else {}
        page = api.client.get("/train-jobs", params={"limit": 1, **after}).json()
        seen += [job["id"] for job in page["jobs"]]
    assert seen == everything


def test_a_traversal_is_made_once(api: Service) -> None:
    first = _traverse(api)
    assert first.status_code == 201, first.text
    resource = first.json()
    assert first.headers["location"] == resource["links"]["self"] == f"/traversals/{resource['id']}"
    assert resource["status"] == "succeeded"
    assert [d["index"] for d in resource["dimensions"]] == list(range(LATENT_DIM))
    assert [d["active"] for d in resource["dimensions"]] == [True, False, True, True]
    again = _traverse(api)
    assert again.status_code == 200
    assert again.json() == resource
    assert again.elapsed.total_seconds() < 1
    assert api.client.get(resource["links"]["self"]).json() == resource
    for address in (resource["sheet"], resource["strip"], resource["reconstruction"]):
        assert api.client.get(address).status_code == 200
    frames = Image.open(io.BytesIO(api.client.get(resource["dimensions"][0]["url"]).content))
    assert getattr(frames, "n_frames", 1) == 5


def test_one_pixel_or_one_parameter_makes_another_traversal(api: Service) -> None:
    ids = {
        _traverse(api).json()["id"],
        _traverse(api, 1).json()["id"],
        _traverse(api, steps=6).json()["id"],
        _traverse(api, order="kl").json()["id"],
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("media_type", "name", "magic"),
    [
        ("image/gif", "gif", b"GIF89a"),
        ("image/webp", "webp", b"RIFF"),
        ("image/png", "png", b"\x89PNG"),
        ("video/mp4", "mp4", b""),
        ("application/zip", "zip", b"PK"),
    ],
)
def test_accept_and_format_pick_the_same_bytes(api: Service, media_type: str, name: str, magic: bytes) -> None:
    by_accept = _traverse(api, 3, headers={"Accept": media_type})
    assert by_accept.status_code == 200, by_accept.text
    assert by_accept.headers["content-type"] == media_type
    assert by_accept.content.startswith(magic)
    by_format = _traverse(api, 3, format=name)
    assert by_format.content == by_accept.content
    location = by_accept.headers["content-location"].split("/")
    direct = api.client.get("/".join(location[:3]), headers={"Accept": media_type})
    assert direct.content == by_accept.content


def test_the_zip_holds_one_gif_a_dimension(api: Service) -> None:
    archive = zipfile.ZipFile(io.BytesIO(_traverse(api, format="zip").content))
    assert archive.namelist() == [f"z_{k + 1:02d}.gif" for k in range(LATENT_DIM)]


def test_files_can_be_cached_and_read_in_parts(api: Service) -> None:
    url = _traverse(api).json()["dimensions"][0]["url"]
    whole = api.client.get(url)
    assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    etag = whole.headers["etag"]
    assert etag.startswith('"')
    unchanged = api.client.get(url, headers={"If-None-Match": f'"other", {etag}'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    part = api.client.get(url, headers={"Range": "bytes=6-9"})
    assert part.status_code == 206
    assert part.content == whole.content[6:10]
    assert part.headers["content-range"] == f"bytes 6-9/{len(whole.content)}"
    tail = api.client.get(url, headers={"Range": "bytes=-3"})
    assert tail.content == whole.content[-3:]
    outdated = api.client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert outdated.status_code == 200
    beyond = api.client.get(url, headers={"Range": "bytes=99999999-"})
    assert_problem(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    head = api.client.head(url)
    assert head.headers["content-length"] == str(len(whole.content))


def test_a_client_that_does_not_wait_gets_an_address(api: Service) -> None:
    answer = _traverse(api, 9, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["status"] in ("queued", "running")
    made = _traverse(api, 9)
    assert made.json()["id"] == answer.json()["id"]
    assert api.client.get(answer.headers["location"]).json()["status"] == "succeeded"


def test_equal_requests_at_once_make_one_traversal(api: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _traverse(api, 21), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_deleted_traversal_can_be_made_again(api: Service) -> None:
    url = _traverse(api, 11).json()["links"]["self"]
    gif = api.client.get(url + "/z_01.gif").content
    assert api.client.delete(url).status_code == 204
    assert_problem(api.client.get(url), 404, "unknown_traversal")
    assert_problem(api.client.delete(url), 404, "unknown_traversal")
    again = _traverse(api, 11)
    assert (again.status_code, again.json()["links"]["self"]) == (201, url)
    assert api.client.get(url + "/z_01.gif").content == gif


def test_starts_other_than_an_image(api: Service) -> None:
    for start in ({"seed": "3"}, {"z": "[0.5, -1, 0, 2]"}):
        answer = api.client.post("/traversals", data={"model": "tiny", "steps": "3", "dimensions": "active", **start})
        assert answer.status_code == 201, answer.text
        assert [d["index"] for d in answer.json()["dimensions"]] == [0, 2, 3]
    both = {"image": ("a.png", picture(1)), "image2": ("b.png", picture(2))}
    answer = api.client.post("/traversals", data={"model": "tiny-rgb", "steps": "3"}, files=both)
    assert answer.status_code == 201, answer.text
    assert answer.json()["dimensions"] == []


def test_a_path_between_two_latent_vectors(api: Service) -> None:
    data = {"model": "tiny-rgb", "steps": "4", "z": "0.5,-1,0,2", "z2": "[-1,0,1,0.5]", "loop": "pingpong"}
    answer = api.client.post("/traversals", data=data)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["dimensions"], made["parameters"]["z2"]) == ([], [-1.0, 0.0, 1.0, 0.5])
    films = {kind: api.client.post("/traversals", data={**data, "format": kind}) for kind in ("gif", "mp4", "png")}
    assert {kind: film.status_code for kind, film in films.items()} == dict.fromkeys(films, 200)
    assert films["gif"].content == api.client.get(made["sheet"]).content
    with Image.open(io.BytesIO(films["gif"].content)) as film:
        assert getattr(film, "n_frames", 1) == 6
    assert films["mp4"].content[4:8] == b"ftyp"
    zipped = api.client.get(made["links"]["self"], headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert archive.read("sheet.gif") == films["gif"].content
    start = api.client.post("/traversals", data={**data, "z2": ""}).json()
    assert "z2" not in start["parameters"]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"z": ""}, "z2"), ({"z2": "1,2,3,4,5"}, "z2"), ({"z2": "0,0,0,nan"}, "z2"), ({"grid": "0,1"}, "grid")],
    ids=str,
)
def test_a_path_that_makes_no_sense_is_refused(api: Service, change: dict[str, str], field: str) -> None:
    data = {"model": "tiny-rgb", "z": "0.5,-1,0,2", "z2": "-1,0,1,0.5", **change}
    body = assert_problem(api.client.post("/traversals", data=data), 422, "invalid_request")
    assert [error["field"] for error in body["errors"]] == [field]


def _png_size(api: Service, url: str) -> tuple[int, int]:
    answer = api.client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return Image.open(io.BytesIO(answer.content)).size


def test_each_dimension_of_a_model_has_pictures_of_its_ends(api: Service) -> None:
    model = api.client.get("/models/tiny-rgb").json()
    dimensions = model["dimensions"]
    assert [one["index"] for one in dimensions] == list(range(LATENT_DIM))
    assert [one["index"] for one in dimensions if one["active"]] == model["active_dimensions"]
    assert all({"label", "ends", "active", "kl", "strength"} <= one.keys() for one in dimensions)
    assert [_png_size(api, url) for url in dimensions[1]["ends"]] == [(32, 32)] * 2
    z = np.zeros((2, LATENT_DIM))
    z[:, 1] = -2, 2
    decoded = api.client.post(
        "/models/tiny-rgb/decode", json={"z": z.tolist()}, headers={"Accept": "application/json"}
    ).json()
    for url, expected in zip(dimensions[1]["ends"], decoded["images"], strict=True):
        shown = np.asarray(Image.open(io.BytesIO(api.client.get(url).content))) / 255
        np.testing.assert_allclose(shown, expected, atol=0.51 / 255)
    etag = api.client.get(dimensions[0]["ends"][0]).headers["etag"]
    assert api.client.get(dimensions[0]["ends"][0], headers={"If-None-Match": etag}).status_code == 304
    for name in ("z_05_first.png", "z_00_first.png", "z_01.png", "z_01_middle.png"):
        assert_problem(api.client.get(f"/models/tiny-rgb/ends/{name}"), 404, "unknown_file")
    assert_problem(api.client.get("/models/nope/ends/z_01_first.png"), 404, "unknown_model")


def test_each_dimension_of_a_traversal_has_pictures_of_its_ends(api: Service) -> None:
    dimensions = _traverse(api).json()["dimensions"]
    assert all({"label", "ends", "active"} <= one.keys() for one in dimensions)
    assert {_png_size(api, url) for one in dimensions for url in one["ends"]} == {(32, 32)}
    first, last = (Image.open(io.BytesIO(api.client.get(url).content)) for url in dimensions[0]["ends"])
    assert first.tobytes() != last.tobytes()


def test_answers_say_whether_a_picture_is_unlike_what_the_model_knows(api: Service, trained: dict[str, Any]) -> None:
    known = api.client.get(trained["links"]["model"]).json()
    assert set(known["familiarity"]) == {"reconstruction_error_p99", "kl_p99"}
    assert len(known["typical_mean"]) == known["network"]["latent_dim"]
    noise = np.random.default_rng(0).integers(0, 2, (64, 64, 3)).astype(np.uint8) * 255
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    files = {"image": ("a.png", stream.getvalue())}
    for model, expected in ((known["id"], True), ("tiny", None)):
        encoded = api.client.post(f"/models/{model}/encode", files=files).json()
        traversal = api.client.post("/traversals", files=files, data={"model": model, "steps": "3"}).json()
        for answer in (encoded, traversal):
            assert answer["unfamiliar"] is expected
            assert answer["unfamiliar_reason"].startswith(
                "This picture is unlike" if expected else "The model does not"
            )
    answer = api.client.post("/traversals", data={"model": known["id"], "seed": "1", "steps": "3"}).json()
    assert (answer["unfamiliar"], answer["unfamiliar_reason"]) == (False, None)


def test_encode_decode_and_reconstruct_agree(api: Service) -> None:
    image = {"image": ("a.png", picture())}
    encoded = api.client.post("/models/tiny-rgb/encode", files=image).json()
    assert len(encoded["mean"]) == len(encoded["log_variance"]) == LATENT_DIM
    mean, log_variance = np.array(encoded["mean"]), np.array(encoded["log_variance"])
    kl = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1)
    assert encoded["kl_per_dimension"] == pytest.approx(kl.tolist(), rel=1e-4, abs=1e-6)
    as_json = {"Accept": "application/json"}
    decoded = api.client.post("/models/tiny-rgb/decode", json={"z": [encoded["mean"]] * 2}, headers=as_json).json()
    assert np.shape(decoded["images"]) == (2, 32, 32, 3)
    through = api.client.post("/models/tiny-rgb/reconstruct", files=image, headers=as_json).json()
    assert through["mean"] == encoded["mean"]
    np.testing.assert_allclose(through["image"], decoded["images"][0], atol=2e-6)
    seen = load_image(picture(), Preprocessing(image_size=32, num_channels=3))
    np.testing.assert_allclose(through["input"], seen / 255, atol=2e-6)
    png = api.client.post("/models/tiny-rgb/reconstruct", files=image)
    assert png.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(png.content)))
    np.testing.assert_allclose(pixels / 255, through["image"], atol=0.51 / 255)
    sheet = api.client.post("/models/tiny/decode", json={"z": [[0.0] * LATENT_DIM] * 3})
    assert Image.open(io.BytesIO(sheet.content)).size == (64, 64)


def test_models_can_be_renamed_labelled_chosen_exported_and_deleted(api: Service, trained: dict[str, Any]) -> None:
    url = trained["links"]["model"]
    model = api.client.patch(url, json={"name": "renamed", "dimension_labels": ["x", "", "", "size"]}).json()
    assert (model["name"], model["dimension_labels"]) == ("renamed", ["x", "", "", "size"])
    archive = zipfile.ZipFile(io.BytesIO(api.client.get(url + "/export").content))
    assert json.loads(archive.read("model.json"))["name"] == "renamed"
    assert "model.safetensors" in archive.namelist()
    before = api.client.get("/models").json()["default"]
    assert api.client.put("/models/default", json={"id": model["id"]}).json()["default"] is True
    assert api.client.get("/models/default").json()["id"] == model["id"]
    assert_problem(api.client.delete(url), 409, "in_use")
    api.client.put("/models/default", json={"id": before})
    assert api.client.delete(url).status_code == 204
    assert_problem(api.client.get(url), 404, "unknown_model")


def test_readiness_and_metrics_are_reported(api: Service) -> None:
    ready = api.client.get("/readyz").json()
    assert ready == {"status": "ready", "workers": {"train": 1, "render": 1, "calls": 1}}
    assert _traverse(api, seed=99).status_code == 201
    assert _traverse(api, seed=99, headers={"Accept": "image/png"}).status_code == 200
    text = api.client.get("/metrics").text
    assert 'betavae_workers{queue="render"} 1.0' in text
    for stage in ("load", "frames", "sheets"):
        assert re.search(rf'betavae_render_seconds_count{{stage="{stage}"}} [1-9]', text), stage
    assert 'betavae_http_requests_total{method="GET",route="/readyz",status="200"}' in text
    assert "/traversals/{traversal_id}" not in text or "betavae_http_request_seconds" in text
