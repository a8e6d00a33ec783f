"""Clients that openapi-python-client generates from /openapi.json work against the service."""

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from api_support import LATENT_DIM, Service, picture, service
from PIL import Image

pytestmark = pytest.mark.slow

FILES = (
    "application/gzip", "application/x-hdf5", "application/x-ndjson", "application/x-npy", "application/x-npz",
    "application/x-tar", "application/x-zip-compressed", "application/zip", "image/gif", "image/png",
)  # fmt: skip
"""Media types that the generator takes for files only where its configuration says so."""


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a render worker; training jobs wait."""
    with service(tmp_path_factory.mktemp("client"), redis_process, ("render",)) as running:
        yield running


class GeneratedClient:
    """The generated package, and a client of it."""

    def __init__(self, package: str, url: str) -> None:
        self.package = package
        self.types = self.module("types")
        self.client = self.module("client").Client(base_url=url, timeout=60)

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.package}.{name}")

    def model(self, kind: str, **values: Any) -> Any:
        """Returns an instance of a generated model."""
        return getattr(self.module("models"), kind)(**values)

    def call(self, operation: str, *arguments: str, **options: Any) -> Any:
        """Returns the whole answer of a generated function, such as traversals.create_traversal."""
        return self.module(f"api.{operation}").sync_detailed(*arguments, client=self.client, **options)


@pytest.fixture(scope="module")
def generated(api: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GeneratedClient]:
    """A client that was generated, without a warning, from the description that the service sends."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(api.client.get("/openapi.json").content)
    overrides = dict.fromkeys(FILES, "application/octet-stream")
    (folder / "config.json").write_text(json.dumps({"post_hooks": [], "content_type_overrides": overrides}))
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    places = ["--path", "openapi.json", "--config", "config.json", "--output-path", "betavae_client"]
    done = subprocess.run([*command, *places], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    try:
        yield GeneratedClient("betavae_client", api.url)
    finally:
        sys.path.remove(str(folder))


def test_every_generated_function_can_be_imported(api: Service, generated: GeneratedClient) -> None:
    folder = Path(str(generated.module("api").__file__)).parent
    modules = [path for path in folder.rglob("*.py") if path.name != "__init__.py"]
    for path in modules:
        assert hasattr(generated.module(f"api.{path.parent.name}.{path.stem}"), "sync_detailed")
    schema = api.client.get("/openapi.json").json()
    assert len(modules) == sum(len(operations) for operations in schema["paths"].values())


def test_a_traversal_of_an_image_and_of_a_seed(api: Service, generated: GeneratedClient) -> None:
    image = generated.types.File(payload=io.BytesIO(picture()), file_name="a.png", mime_type="image/png")
    form = generated.model("TraversalForm", model="tiny", steps=5, image=image)
    answer = generated.call("traversals.create_traversal", body=form, prefer="wait=60")
    assert answer.status_code == 201, answer.content
    traversal = answer.parsed
    assert traversal.status == "succeeded"
    assert [one.index for one in traversal.dimensions] == list(range(LATENT_DIM))
    assert traversal.parameters["steps"] == 5
    again = generated.call("traversals.get_traversal", traversal.id)
    assert again.parsed == traversal
    file = generated.call("traversals.get_traversal_file", traversal.id, "z_01.gif")
    frames = Image.open(file.parsed.payload)
    assert getattr(frames, "n_frames", 1) == 5
    fields = generated.model("TraversalFields", model="tiny", steps=3, seed="1")
    seeded = generated.call("traversals.create_traversal", body=fields, prefer="wait=60")
    assert seeded.status_code == 201, seeded.content
    assert seeded.parsed.parameters["seed"] == 1


def test_a_training_job_is_made_listed_and_cancelled(generated: GeneratedClient) -> None:
    config = generated.model("TrainingConfig", num_steps=20, gamma=50.0, seed=3)
    body = generated.model("TrainJobRequest", dataset="dsprites", config=config, name="by a client")
    answer = generated.call("train_jobs.create_train_job", body=body, idempotency_key="client-1")
    assert answer.status_code == 202, answer.content
    job = answer.parsed
    assert (job.name, job.status, job.dataset) == ("by a client", "queued", "dsprites")
    assert job.config["objective"] == "capacity"
    assert (job.config["num_steps"], job.config["gamma"], job.config["seed"]) == (20, 50.0, 3)
    listed = generated.call("train_jobs.list_train_jobs", limit=5).parsed
    assert [one.id for one in listed.jobs] == [job.id]
    assert generated.call("train_jobs.cancel_train_job", job.id).parsed.status == "cancelled"
    refused = generated.call("train_jobs.cancel_train_job", job.id)
    assert refused.status_code == 409
    assert refused.parsed.code == "transition_refused"


def test_a_wrong_setting_comes_back_as_a_problem(generated: GeneratedClient) -> None:
    config = generated.model("TrainingConfig", num_steps=0)
    body = generated.model("TrainJobRequest", dataset="dsprites", config=config)
    answer = generated.call("train_jobs.create_train_job", body=body)
    assert answer.status_code == 422
    assert [(e.field, e.message) for e in answer.parsed.errors] == [("config.num_steps", "must be at least 1, not 0")]


def test_latents_are_decoded_and_an_image_is_encoded(generated: GeneratedClient) -> None:
    body = generated.model("LatentVectors", z=[[0.0] * LATENT_DIM] * 3)
    answer = generated.call("models.decode_latents", "tiny", body=body)
    assert answer.status_code == 200, answer.content
    assert Image.open(answer.parsed.payload).size == (64, 64)
    image = generated.types.File(payload=io.BytesIO(picture()), file_name="a.png", mime_type="image/png")
    encoded = generated.call("models.encode_image", "tiny", body=generated.model("ImageForm", image=image)).parsed
    assert len(encoded.mean) == len(encoded.log_variance) == LATENT_DIM
    model = generated.call("models.get_model", "tiny").parsed
    assert (model.network.latent_dim, model.preprocessing.image_size) == (LATENT_DIM, 32)
