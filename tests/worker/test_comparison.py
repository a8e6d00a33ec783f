"""Comparison of two models: alignment, agreement, the sheet, and the calls over HTTP, in Python and as a command."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from api_support import LATENT_DIM, Service, add_model, assert_problem, picture, service
from PIL import Image

from app.client import Client
from models.config import NetworkConfig
from models.files import LoadedModel, load_model
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from training.data.images import load_image
from training.metrics.alignment import align
from worker.comparison import NUM_DRAWS, POSITIONS, compare, picture_through_both
from worker.model_calls import encoded
from worker.rendering.comparison_sheet import TILE, Half, Side, comparison_sheet
from worker.stores.storage import LocalStorage


def make_model(name: str, *, seed: int = 0, **network: int) -> LoadedModel:
    """Returns an untrained model of which all dimensions count as active."""
    config = NetworkConfig(**{"image_size": 32, "latent_dim": 3, **network})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = VAE(config).eval()
    info = ModelInfo(
        name=name,
        network=config,
        preprocessing=Preprocessing(image_size=config.image_size, num_channels=config.num_channels),
        kl_per_dimension=[float(k + 1) for k in range(config.latent_dim)],
        dimension_labels=[f"label {k}" for k in range(config.latent_dim)],
    )
    return LoadedModel(vae, info)


def with_order(model: LoadedModel, order: list[int], signs: list[int]) -> LoadedModel:
    """Returns the same network with its dimensions in another order and some of them turned round."""
    vae = VAE(model.info.network).eval()
    vae.load_state_dict(model.network.state_dict())
    turn = torch.tensor(signs, dtype=torch.float32)
    with torch.no_grad():
        for layer, scale in ((vae.encoder.mean, turn), (vae.encoder.log_variance, torch.ones(len(order)))):
            layer.weight.copy_(layer.weight[order] * scale[:, None])
            layer.bias.copy_(layer.bias[order] * scale)
        first = vae.decoder.body[0]
        assert isinstance(first, torch.nn.Linear)
        first.weight.copy_(first.weight[:, order] * turn)
    kl = [model.info.kl_per_dimension[k] for k in order]
    return LoadedModel(vae, replace(model.info, name="turned", kl_per_dimension=kl))


def test_dimensions_that_were_permuted_and_turned_round_are_found() -> None:
    model = make_model("first")
    other = with_order(model, [2, 0, 1], [1, -1, 1])
    found = compare([model, other])
    pairs = {tuple(row["indices"]): row["correlation"] for row in found["dimensions"]}
    assert {pair: round(r, 3) for pair, r in pairs.items()} == {(2, 0): 1.0, (0, 1): -1.0, (1, 2): 1.0}
    assert found["unmatched"] == [[], []]
    assert found["num_images"] == 2 * NUM_DRAWS
    assert [row["kl"] for row in found["dimensions"] if row["indices"] == [2, 0]] == [[3.0, 3.0]]
    assert found["udr"]["spearman"] > compare([model, make_model("third", seed=1)])["udr"]["spearman"]


def test_alignment_has_the_largest_sum_of_correlations() -> None:
    """Pairing each dimension with its best partner in turn would give 1 + 0 here."""
    random = np.random.default_rng(0)
    x, y, z = np.linalg.qr(random.normal(size=(1000, 4)) - random.normal(size=(1, 4)))[0].T[:3]
    first = np.stack([x, y], 1)
    second = np.stack([x, 0.9 * x + 0.436 * z], 1)
    pairs = align(first, second, [[0, 1], [0, 1]])
    assert {(pair.first, pair.second) for pair in pairs} == {(0, 0), (1, 1)}
    assert [pair.correlation for pair in align(first, second, [[1], [0]])] == [
        pytest.approx(np.corrcoef(y, x)[0, 1], abs=1e-6)
    ]


def test_a_model_with_fewer_active_dimensions_leaves_some_alone() -> None:
    model, small = make_model("large", latent_dim=4), make_model("small", seed=1)
    small = LoadedModel(small.network, replace(small.info, kl_per_dimension=[0.0, 2.0, 0.0]))
    found = compare([model, small])
    ((first, second),) = [row["indices"] for row in found["dimensions"]]
    assert second == 1
    assert found["unmatched"] == [sorted({0, 1, 2, 3} - {first}), []]
    unseen = [{"visible_change": change} for change in (90.0, 29.0, 90.0)]
    hidden = LoadedModel(small.network, replace(small.info, dimension_effects=unseen))
    assert compare([model, hidden])["dimensions"] == [], "an eye cannot see what z1 does"
    none = LoadedModel(small.network, replace(small.info, kl_per_dimension=[0.0, 0.0, 0.0]))
    assert compare([model, none])["dimensions"] == []


def test_models_of_other_sizes_and_channels_are_compared_on_one_sheet() -> None:
    models = [make_model("grey"), make_model("large, in colour", seed=1, image_size=64, num_channels=3, latent_dim=4)]
    found = compare(models)
    pictures = [load_image(picture(), model.info.preprocessing) for model in models]
    numbers = [encoded(model, pixels)[0] for model, pixels in zip(models, pictures, strict=True)]
    sheet = Image.open(io.BytesIO(picture_through_both(models, pictures, numbers, found)))
    assert sheet.width > 2 * len(POSITIONS) * TILE
    assert sheet.height > (1 + 4) * TILE
    again = compare(models)
    assert again == found  # The draws are seeded.


def test_a_label_with_an_arrow_is_drawn_without_one() -> None:
    """The font has no arrow, and would draw a box."""
    frames = np.zeros((len(POSITIONS), 32, 32, 1), np.uint8)
    side = Side("one", frames[0], frames[0], 1.0, 1.0)
    halves = [[Half(0, label, 1.0, 1, frames)] for label in ("top: brown → blue", "top: brown to blue", "top: brown")]
    arrow, words, shorter = (comparison_sheet([side, side], [half, half], [0.5], POSITIONS, "") for half in halves)
    assert np.array_equal(arrow, words)
    assert not np.array_equal(arrow, shorter)


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a render worker."""
    with service(tmp_path_factory.mktemp("compare"), redis_process, ("render",)) as running:
        yield running


def test_comparison_over_http_and_in_python(api: Service) -> None:
    answer = api.client.get("/models/compare", params={"models": "tiny, tiny-rgb"}).json()
    assert [model["id"] for model in answer["models"]] == ["tiny", "tiny-rgb"]
    assert [model["num_channels"] for model in answer["models"]] == [1, 3]
    assert sorted(row["indices"][0] for row in answer["dimensions"]) == [0, 2, 3]  # Dimension 1 is inactive.
    assert "pictures" not in answer
    image = {"image": ("a.png", picture())}
    sheet = api.client.post("/models/compare?models=tiny,tiny-rgb", files=image)
    assert (sheet.status_code, sheet.headers["content-type"]) == (200, "image/png")
    numbers = api.client.post(
        "/models/compare?models=tiny,tiny-rgb", files=image, headers={"Accept": "application/json"}
    )
    mean = api.client.post("/models/tiny/encode", files=image).json()["mean"]
    assert numbers.json()["pictures"][0]["mean"] == mean
    assert {**numbers.json(), "pictures": None} == {**answer, "pictures": None}
    with Client(api.url) as client:
        assert client.compare("tiny", "tiny-rgb").model_dump(exclude_unset=True) == answer
        assert client.compare_picture(picture(), "tiny", "tiny-rgb") == sheet.content


def test_a_model_named_like_the_address_gets_another_id(api: Service) -> None:
    bundle = api.client.get("/models/tiny/export").content
    answer = api.client.post("/models", files={"file": ("m.zip", bundle)}, data={"name": "compare"})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["id"], answer.json()["name"]) == ("compare-2", "compare")
    assert api.client.get("/models/compare-2").status_code == 200


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("", "must name two models, such as chairs,dsprites, not 0"),
        ("tiny", "must name two models, such as chairs,dsprites, not 1"),
        ("tiny,tiny-rgb,chairs", "must name two models, such as chairs,dsprites, not 3"),
        ("tiny,tiny", "must name two different models, not tiny twice"),
    ],
)
def test_requests_that_do_not_name_two_models(api: Service, models: str, message: str) -> None:
    for answer in (
        api.client.get("/models/compare", params={"models": models}),
        api.client.post("/models/compare", params={"models": models}, files={"image": picture()}),
    ):
        body = assert_problem(answer, 422, "invalid_request")
        assert body["errors"] == [{"field": "models", "message": message}]


def test_unknown_models_and_pictures_that_are_none(api: Service) -> None:
    body = assert_problem(api.client.get("/models/compare?models=tiny,nope"), 404, "unknown_model")
    assert body["detail"] == "There is no model with the id nope."
    broken = api.client.post("/models/compare?models=tiny,tiny-rgb", files={"image": b"no picture"})
    assert_problem(broken, 422, "not_an_image")
    assert_problem(api.client.post("/models/compare?models=tiny,tiny-rgb", files={}), 415, "unsupported_media_type")


def test_the_command_compares_models(
    betavae: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = LocalStorage(tmp_path / "home")
    add_model(storage, "tiny")
    add_model(storage, "tiny-rgb", num_channels=3)
    (tmp_path / "a.png").write_bytes(picture())
    sheet = tmp_path / "sheet.png"
    assert betavae("models", "compare", "tiny", "tiny-rgb", "--image", tmp_path / "a.png", "-o", sheet) == 0
    printed = capsys.readouterr().out
    assert "UDR of the two" in printed
    assert "3 of 4" in printed
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert betavae("models", "compare", "tiny", "tiny-rgb", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    loaded = [load_model(storage.path(f"models/{name}")) for name in ("tiny", "tiny-rgb")]
    assert found["models"][0]["latent_dim"] == LATENT_DIM
    assert found["dimensions"] == json.loads(json.dumps(compare(loaded)["dimensions"]))
    for arguments, message in (
        (("tiny",), "models compare takes two models, not 1"),
        (("tiny", "tiny"), "tiny and tiny are the same model; name two different ones"),
        (("tiny", "nope"), "no model 'nope'"),
        (("tiny", "tiny-rgb", "--image", str(tmp_path)), "is a directory"),
    ):
        assert betavae("models", "compare", *arguments) == 1
        assert message in capsys.readouterr().err
