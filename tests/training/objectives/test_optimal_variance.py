"""σ-VAE: the Gaussian likelihood whose variance is the mean squared error of the images."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal
from training_support import SMALL, records_of, stop_at, weights_of

from models.config import NetworkConfig
from models.networks import VAE
from models.pixels import to_input
from training.data.packs import Pack
from training.loop import train
from training.objectives.losses import reconstruction_error, reconstruction_loss, with_optimal_variance
from training.summary import summarise

OPTIMAL = "gaussian_optimal"


def some_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits and images, each (4, 3, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 8, 8, generator=generator), torch.rand(4, 3, 8, 8, generator=generator)


def loss_of(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return with_optimal_variance(reconstruction_loss(logits, images, OPTIMAL), OPTIMAL, images[0].numel())


def test_the_loss_is_the_least_negative_log_density_over_all_sigmas() -> None:
    logits, images = some_images()
    mean = torch.sigmoid(logits)
    sigma = (mean - images).square().mean().sqrt()

    def density_at(one: torch.Tensor) -> torch.Tensor:
        density: torch.Tensor = Normal(mean, one).log_prob(images)  # type: ignore[no-untyped-call]
        return -density.sum((1, 2, 3)).mean()

    found = loss_of(logits, images)
    torch.testing.assert_close(found, density_at(sigma))
    torch.testing.assert_close(found, 192 / 2 * ((2 * math.pi * sigma**2).log() + 1))
    for factor in (0.9, 1.1):
        assert density_at(factor * sigma) > found


def test_the_gradient_is_that_through_the_variance_too() -> None:
    logits, images = some_images()
    found = torch.autograd.grad(loss_of(logits.requires_grad_(), images), logits)[0]
    variance = (torch.sigmoid(logits) - images).square().mean()
    expected = torch.autograd.grad(192 / 2 * (2 * math.pi * variance).log(), logits)[0]
    torch.testing.assert_close(found, expected)


def test_a_perfect_reconstruction_has_a_finite_loss() -> None:
    images = torch.full((2, 1, 4, 4), 0.5)
    expected = 16 / 2 * (math.log(2 * math.pi) - 12)
    assert loss_of(torch.zeros_like(images), images).item() == pytest.approx(expected)


def test_other_likelihoods_are_left_as_they_are() -> None:
    loss = torch.tensor(3.0)
    assert with_optimal_variance(loss, "bernoulli", 16) is loss
    assert with_optimal_variance(loss, "gaussian", 16) is loss


def test_the_error_of_an_image_is_its_squared_error() -> None:
    logits, images = some_images()
    torch.testing.assert_close(
        reconstruction_error(logits, images, OPTIMAL), reconstruction_error(logits, images, "gaussian")
    )


def test_a_set_has_one_variance_however_it_is_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.summary._BATCH", 7)
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3)).eval()
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 1)).astype(np.uint8)
    batch = to_input(images, torch.device("cpu"))
    with torch.no_grad():
        expected = loss_of(network.decoder(network.encode(batch)[0]), batch).item()
    found = summarise(network, images, np.arange(20), OPTIMAL, torch.device("cpu"))
    assert found["reconstruction_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_run_on_two_parts_logs_the_batchs_loss_and_resumes_bit_for_bit(pack: Pack, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    config = SMALL.replace(
        objective="beta", likelihood=OPTIMAL, batch_size=16, num_steps=6, log_steps=1, preview_steps=0
    )
    whole = train(config, pack, run_folder=tmp_path / "whole")
    for stop in (3, None):
        parts = train(config, pack, run_folder=tmp_path / "parts", should_stop=None if stop is None else stop_at(stop))
    assert parts.resumed_from_step == 3
    assert all(torch.equal(tensor, weights_of(parts)[name]) for name, tensor in weights_of(whole).items())
    assert whole.info is not None
    assert whole.info.likelihood == OPTIMAL
    # The first loss is that of the mean image of all sprites, whose σ² is about their variance.
    variance = np.asarray(pack.images[:] / 255.0).var()
    first = records_of(tmp_path / "whole")[0]["reconstruction_loss"]
    assert first == pytest.approx(1024 / 2 * (math.log(2 * math.pi * variance) + 1), abs=60)
