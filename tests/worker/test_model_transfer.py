"""Import and export of models over HTTP: the API passes files on, and a worker answers."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
import torch
from api_support import LATENT_DIM, add_model, answering_calls, assert_problem, http_server, picture

from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage


@pytest.fixture
def api(redis_server: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """The application on a data folder with one model; threads answer calls as in a render worker."""
    settings = Settings(home=tmp_path, redis_url=redis_server, device="cpu")
    add_model(LocalStorage(tmp_path), "tiny")
    with answering_calls(settings), http_server(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def post(api: httpx.Client, file: bytes, spec: bytes | None = None, **fields: str) -> httpx.Response:
    files: dict[str, Any] = {"file": ("model", file)}
    if spec is not None:
        files["spec"] = ("spec.json", spec)
    return api.post("/models", files=files, data=fields)


def test_an_exported_bundle_is_imported_as_a_working_model(api: httpx.Client) -> None:
    bundle = api.get("/models/tiny/export").content
    answer = post(api, bundle, name="A copy")
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert answer.headers["location"] == model["links"]["self"] == "/models/a-copy"
    assert (model["name"], model["shipped"]) == ("A copy", False)
    image = {"image": ("a.png", picture(), "image/png")}
    assert api.post("/models/a-copy/encode", files=image).json() == api.post("/models/tiny/encode", files=image).json()
    assert len(model["dimension_effects"]) == len(model["dimension_labels"]) == LATENT_DIM
    assert {"label", "strength", "visible_change", "changes", "heat_map", "factor"} == set(
        model["dimension_effects"][0]
    )


def test_two_imports_of_one_name_are_two_models(api: httpx.Client) -> None:
    bundle = api.get("/models/tiny/export").content
    assert [post(api, bundle, name="x").json()["id"] for _ in range(2)] == ["x", "x-2"]


def test_safetensors_are_imported_with_their_description(api: httpx.Client) -> None:
    with zipfile.ZipFile(io.BytesIO(api.get("/models/tiny/export").content)) as archive:
        assert sorted(archive.namelist()) == ["README.md", "model.json", "model.safetensors"]
        weights, spec = archive.read("model.safetensors"), archive.read("model.json")
    assert post(api, weights, spec, name="y").status_code == 201
    body = assert_problem(post(api, weights), 422, "invalid_model")
    assert "model.json" in body["detail"]


def test_a_file_without_a_model_is_refused_with_a_reason(api: httpx.Client) -> None:
    before = api.get("/models").json()
    body = assert_problem(post(api, b"this is not a model"), 422, "invalid_model")
    assert "neither" in body["detail"]
    buffer = io.BytesIO()
    torch.save({"encoder.0.weight": torch.zeros(3)}, buffer)
    assert "unsupported_architecture" in assert_problem(post(api, buffer.getvalue()), 422, "invalid_model")["detail"]
    assert api.get("/models").json() == before


def test_wrong_forms_are_refused_before_a_call_is_sent(api: httpx.Client) -> None:
    for answer, field in (
        (post(api, b"x", name="../up"), "name"),
        (post(api, b"x", format="keras"), "format"),
        (post(api, b"x", beta="4"), "beta"),
        (api.post("/models", files={"spec": ("s", b"{}")}), "file"),
    ):
        assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == field
    assert_problem(api.post("/models", data={"name": "x"}), 415, "unsupported_media_type")


def test_onnx_and_card_are_exported(api: httpx.Client) -> None:
    answer = api.get("/models/tiny/export?format=onnx")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["README.md", "decoder.onnx", "encoder.onnx"]
        session = onnxruntime.InferenceSession(archive.read("decoder.onnx"), providers=["CPUExecutionProvider"])
    (pixels,) = session.run(None, {"latents": torch.zeros(2, LATENT_DIM).numpy()})
    assert pixels.shape == (2, 1, 32, 32)
    decoded = api.post("/models/tiny/decode", json={"z": [[0.0] * LATENT_DIM]}, headers={"accept": "application/json"})
    np.testing.assert_allclose(pixels[0, 0], np.array(decoded.json()["images"])[0, :, :, 0], atol=1e-4)
    assert api.get("/models/tiny/export?format=card").text.startswith("# tiny\n")
    assert_problem(api.get("/models/tiny/export?format=pickle"), 422, "invalid_request")
    assert_problem(api.get("/models/nope/export?format=onnx"), 404, "unknown_model")


def test_the_same_export_has_the_same_bytes(api: httpx.Client) -> None:
    for format in ("bundle", "onnx", "card"):
        first = api.get(f"/models/tiny/export?format={format}")
        again = api.get(f"/models/tiny/export?format={format}", headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304


def test_a_label_of_a_person_is_in_the_card(api: httpx.Client) -> None:
    model = post(api, api.get("/models/tiny/export").content, name="z").json()
    labels = ["smile", *model["dimension_labels"][1:]]
    assert api.patch("/models/z", json={"dimension_labels": labels}).json()["dimension_labels"] == labels
    assert "| smile |" in api.get("/models/z/export?format=card").text
    description = json.loads(zipfile.ZipFile(io.BytesIO(api.get("/models/z/export").content)).read("model.json"))
    assert description["dimension_labels"][0] == "smile"
