"""Categorical posteriors: their numbers, and what a network with such latents is stored as and exported to."""

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import kl_divergence

from models.config import ConfigError, NetworkConfig
from models.files import LoadedModel, load_model, save_model
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from models.onnx_export import export_onnx
from models.posteriors import Categorical, Gaussian
from models.priors import draw_prior

GRID = torch.linspace(-1, 1, 5)


def some_logits() -> torch.Tensor:
    return 3 * torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> LoadedModel:
    config = NetworkConfig(image_size=32, latent_dim=4, num_categories=5)
    torch.manual_seed(0)
    network = VAE(config).eval()
    with torch.no_grad():
        network.encoder.logits.weight.mul_(40)
    return LoadedModel(network, ModelInfo(name="m", network=config, preprocessing=Preprocessing(image_size=32)))


def test_the_kl_is_none_at_the_prior_and_ln_k_in_one_category() -> None:
    assert Categorical(torch.full((2, 3, 64), 7.0)).kl() == pytest.approx(torch.zeros(2, 3), abs=1e-5)
    certain = torch.zeros(2, 3, 64)
    certain[..., 9] = 200.0
    assert Categorical(certain).kl() == pytest.approx(torch.full((2, 3), math.log(64)))


def test_kl_mean_and_variance_are_those_of_the_distribution() -> None:
    logits = some_logits()
    posterior, distribution = Categorical(logits), TorchCategorical(logits=logits)
    uniform = TorchCategorical(logits=torch.zeros(5))
    torch.testing.assert_close(posterior.kl(), kl_divergence(distribution, uniform))
    mean = (distribution.probs * GRID).sum(2)
    torch.testing.assert_close(posterior.mean, mean)
    variance = (distribution.probs * GRID**2).sum(2) - mean**2
    torch.testing.assert_close(posterior.log_variance.exp(), variance, rtol=1e-4, atol=1e-6)


def test_a_certain_posterior_has_a_finite_log_variance() -> None:
    logits = torch.zeros(1, 1, 5)
    logits[..., 4] = 1000.0
    posterior = Categorical(logits)
    assert posterior.mean.item() == 1
    assert posterior.log_variance.item() == pytest.approx(math.log(1e-12))


def test_a_draw_is_a_mean_over_the_grid_with_noise_on_the_logits() -> None:
    logits, noise = some_logits(), torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(1))
    posterior = Categorical(logits)
    torch.testing.assert_close(posterior.draw(torch.zeros(())), posterior.mean)
    torch.testing.assert_close(posterior.draw(noise), (torch.softmax(logits + noise, 2) * GRID).sum(2))
    # As the noise grows, a draw is one of the values, with the shares of q (Gumbel-max).
    gumbel = -torch.log(-torch.log(torch.rand(20_000, 1, 5, generator=torch.Generator().manual_seed(2))))
    drawn = Categorical(1000 * logits[:1, :1]).draw(1000 * gumbel)[:, 0]
    shares = torch.softmax(logits[0, 0], 0)
    for value, share in zip(GRID, shares, strict=True):
        assert (drawn - value).abs().lt(1e-3).float().mean().item() == pytest.approx(share.item(), abs=0.015)


def test_a_gaussian_draws_mean_plus_sigma_times_noise() -> None:
    posterior = Gaussian(torch.tensor([[1.0]]), torch.tensor([[4.0]]).log())
    assert posterior.draw(torch.tensor([[-0.5]])).item() == pytest.approx(0)
    assert posterior.kl().item() == pytest.approx(0.5 * (1 + 4 - math.log(4) - 1))


def test_the_prior_of_categorical_latents_is_uniform_on_the_grid() -> None:
    drawn = draw_prior(np.random.default_rng(0), (4_000, 3), 5)
    assert drawn.dtype == np.float32
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_allclose(values, GRID)
    np.testing.assert_allclose(counts / drawn.size, 0.2, atol=0.02)


def test_a_network_maps_images_to_logits_and_draws_with_noise_of_their_shape(model: LoadedModel) -> None:
    network, images = model.network, torch.rand(3, 1, 32, 32)
    assert network.noise_shape == (4, 5)
    noise = torch.randn(3, *network.noise_shape)
    pixels, logits = network(images, noise)
    assert logits.shape == (3, 4, 5)
    torch.testing.assert_close(pixels, network.decoder(Categorical(logits).draw(noise)))
    mean, log_variance = network.encode(images)
    torch.testing.assert_close(mean, Categorical(logits).mean)
    torch.testing.assert_close(log_variance, Categorical(logits).log_variance)


def test_a_stored_model_keeps_its_categories_and_a_gaussian_one_names_none(model: LoadedModel, tmp_path: Path) -> None:
    info = save_model(tmp_path, model.network, model.info)
    loaded = load_model(tmp_path)
    assert loaded.info == info
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(loaded.network.encode(images), model.network.encode(images))
    assert info.to_json()["network"]["num_categories"] == 5
    assert "num_categories" not in NetworkConfig().model_dump()
    assert "num_categories" not in NetworkConfig().model_dump_json()


def test_a_unit_of_a_traversal_is_sigma_or_a_third_of_the_grid(model: LoadedModel) -> None:
    assert NetworkConfig().latent_unit == 1
    assert 3 * model.info.network.latent_unit == 1
    first, last = model.info.label_ends(2)
    assert first[2] == pytest.approx(-2 / 3)
    assert last[2] == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [1, 65, True])
def test_a_grid_of_a_wrong_size_is_refused(count: int) -> None:
    with pytest.raises(ConfigError) as caught:
        NetworkConfig(num_categories=count)
    assert caught.value.field == "num_categories"


def test_the_onnx_encoder_gives_mean_and_log_variance_on_the_grid(model: LoadedModel) -> None:
    session = onnxruntime.InferenceSession(export_onnx(model)["encoder.onnx"], providers=["CPUExecutionProvider"])
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    found = session.run(["mean", "log_variance"], {"images": images.numpy()})
    with torch.no_grad():
        expected = model.network.encode(images)
    assert expected[0].std() > 0.1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-4, rtol=1e-4)
