"""Losses against closed forms and torch.distributions."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence
from training_support import run_facts, step_losses

from models.pixels import to_input
from training.objectives.capacity import Capacity
from training.objectives.losses import (
    bernoulli_floor,
    kl_per_dimension,
    reconstruction_loss,
    total_correlation_terms,
)
from training.summary import floor_of


def test_kl_of_unit_mean_and_zero_log_variance_is_half_a_nat_a_dimension() -> None:
    kl = kl_per_dimension(torch.ones(4, 10), torch.zeros(4, 10))
    assert kl.shape == (10,)
    assert kl.sum().item() == pytest.approx(5.0)


def test_kl_equals_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(1)
    mean, log_variance = torch.randn(2, 16, 6, generator=generator)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(kl_per_dimension(mean, log_variance), expected)


def test_bernoulli_loss_is_summed_over_pixels_and_averaged_over_images() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 3, 8, 8, generator=generator)
    images = (torch.rand(3, 3, 8, 8, generator=generator) > 0.5).float()
    log_density = Bernoulli(logits=logits).log_prob(images)  # type: ignore[no-untyped-call]
    expected = -log_density.sum((1, 2, 3)).mean()
    torch.testing.assert_close(reconstruction_loss(logits, images, "bernoulli"), expected)


def test_gaussian_loss_is_the_summed_squared_error() -> None:
    logits = torch.zeros(2, 1, 4, 4)
    images = torch.ones(2, 1, 4, 4)
    assert reconstruction_loss(logits, images, "gaussian").item() == pytest.approx(16 * 0.25)


def test_an_unknown_likelihood_is_refused() -> None:
    with pytest.raises(ValueError, match="likelihood"):
        reconstruction_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), "laplace")


def test_bernoulli_floor_is_reached_by_the_image_itself_and_by_nothing_below() -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3)).clamp(0.01, 0.99)
    floor = bernoulli_floor(images)
    torch.testing.assert_close(reconstruction_loss(torch.logit(images), images, "bernoulli"), floor)
    assert reconstruction_loss(torch.logit(images) + 0.1, images, "bernoulli") > floor
    assert bernoulli_floor((images > 0.5).float()).item() == 0


def test_the_floor_of_packed_images_is_that_of_the_images() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(9, 8, 8, 3), dtype=np.uint8)
    rows = np.array([0, 4, 8])
    expected = bernoulli_floor(to_input(pixels[rows], torch.device("cpu"))).item()
    assert floor_of(pixels, rows, "bernoulli") == pytest.approx(expected, rel=1e-5)
    assert floor_of(np.where(pixels > 127, np.uint8(255), np.uint8(0)), rows, "bernoulli") == 0
    assert floor_of(pixels, rows, "gaussian") is None


def test_capacity_penalty_pulls_from_both_sides() -> None:
    for value, sign in ((3.0, -1), (7.0, 1)):
        mean = torch.zeros(1, 1)
        kl = torch.tensor(value, requires_grad=True)
        losses = dataclasses.replace(step_losses(mean, mean), kl=kl)
        objective = Capacity(gamma=100.0, capacity_start=5.0, capacity_max=5.0, capacity_steps=0)
        objective.begin(run_facts(1)).loss(losses).backward()  # type: ignore[no-untyped-call]
        assert kl.grad is not None
        assert kl.grad.item() == 100 * sign


def test_the_three_terms_of_btcvae_add_up_to_the_kl() -> None:
    generator = torch.Generator().manual_seed(4)
    mean, log_variance = torch.randn(512, 4, generator=generator), torch.full((512, 4), -2.0)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn(512, 4, generator=generator)
    terms = total_correlation_terms(latents, mean, log_variance, 512)
    kl = kl_per_dimension(mean, log_variance).sum()
    assert sum(term.item() for term in terms) == pytest.approx(kl.item(), abs=0.3)


def test_total_correlation_of_a_factorised_gaussian_is_not_negative_within_noise() -> None:
    estimates = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        mean = 0.9 * torch.randn(64, 10, generator=generator)
        log_variance = torch.full((64, 10), math.log(1 - 0.81))
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn(64, 10, generator=generator)
        estimates.append(total_correlation_terms(latents, mean, log_variance, 10_000)[1].item())
    assert sum(estimates) / len(estimates) > -0.1
