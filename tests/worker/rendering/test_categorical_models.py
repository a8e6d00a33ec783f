"""Traversals, answers and comparisons of a model with categorical latents, whose prior is a grid from −1 to 1."""

from typing import Any

import numpy as np
import pytest
import torch

from models.config import NetworkConfig
from models.files import LoadedModel
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from models.pixels import to_input
from training.pictures import preview_sheet
from worker.comparison import compare
from worker.model_calls import encoded
from worker.rendering.labels import measure_effects
from worker.rendering.rendered import Rendered
from worker.rendering.request import Pixels, parse_request, resolve_request
from worker.rendering.traversal import encode_image, render_traversal

PICTURE: Pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)


def a_model(num_categories: int | None) -> LoadedModel:
    config = NetworkConfig(image_size=32, latent_dim=3, num_categories=num_categories)
    torch.manual_seed(0)
    network = VAE(config).eval()
    with torch.no_grad():
        for layer in (network.encoder.logits,) if num_categories else (network.encoder.mean,):
            layer.weight.mul_(40)
    preprocessing = Preprocessing(image_size=32)
    return LoadedModel(network, ModelInfo(name="m", network=config, preprocessing=preprocessing))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return a_model(9)


def render(model: LoadedModel, form: dict[str, Any], images: list[Pixels]) -> Rendered:
    return render_traversal(model, images, resolve_request(parse_request(form), model.info, len(images)))


def test_a_traversal_covers_the_grid_by_default(model: LoadedModel) -> None:
    rendered = render(model, {"steps": 9, "dimensions": "1"}, [PICTURE])
    np.testing.assert_allclose(rendered.strips[0].values, np.linspace(-1, 1, 9), atol=1e-7)
    half = render(model, {"steps": 2, "dimensions": "1", "start": -1.5, "end": 0}, [PICTURE])
    np.testing.assert_allclose(half.strips[0].values, [-0.5, 0], atol=1e-7)


def test_a_traversal_in_sigmas_of_the_image_uses_the_variance_on_the_grid(model: LoadedModel) -> None:
    mean, log_variance = encode_image(model.network, PICTURE)
    rendered = render(model, {"steps": 2, "dimensions": "2", "range": "image", "start": -1, "end": 1}, [PICTURE])
    sigma = np.exp(log_variance[2] / 2)
    np.testing.assert_allclose(rendered.strips[0].values, [mean[2] - sigma, mean[2] + sigma], rtol=1e-5)


def test_a_seed_draws_values_of_the_grid(model: LoadedModel) -> None:
    draws = np.stack([render(model, {"steps": 2, "seed": seed}, []).mean for seed in range(12)])
    assert len(np.unique(draws)) > 5
    assert np.abs(draws[..., None] - np.linspace(-1, 1, 9)).min(2).max() < 1e-6


def test_every_answer_has_the_kl_to_the_grids_prior(model: LoadedModel) -> None:
    with torch.no_grad():
        expected = model.network.posterior(to_input(PICTURE[None], torch.device("cpu"))).kl()[0].numpy()
    assert expected.max() > 0.1
    found = render(model, {"steps": 2}, [PICTURE]).image_kl
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(encoded(model, PICTURE)[0]["kl_per_dimension"], expected, rtol=1e-4)


def test_labels_and_previews_move_each_latent_within_the_grid(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[torch.Tensor] = []
    decode = model.network.decode

    def watched(latents: torch.Tensor) -> torch.Tensor:
        reached.append(latents)
        return decode(latents)

    monkeypatch.setattr(model.network, "decode", watched)
    measure_effects(model.network, torch.zeros(1, 3))
    assert torch.cat(reached).abs().max().item() == pytest.approx(2 / 3)
    reached.clear()
    preview_sheet(model.network, to_input(PICTURE[None], torch.device("cpu")), step=0, num_steps=1)
    assert torch.cat(reached).abs().max().item() == 1


def test_a_categorical_model_compares_with_a_gaussian_one(model: LoadedModel) -> None:
    with_itself = compare([model, model])
    assert [pair["correlation"] for pair in with_itself["dimensions"]] == pytest.approx([1.0] * 3)
    mixed = compare([model, a_model(None)])
    assert {index for pair in mixed["dimensions"] for index in pair["indices"]} <= {0, 1, 2}
