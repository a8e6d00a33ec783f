"""FactorVAE: permuted dimensions, the losses of both networks, and what the discriminator estimates."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_support import SMALL, run_facts, step_losses, stop_at

from training.checkpoints import newest_checkpoint
from training.data.packs import Pack
from training.loop import train
from training.objectives.factorvae import (
    FactorVAE,
    discriminator_loss,
    make_discriminator,
    permute_dimensions,
    total_correlation,
)


def correlated(num_rows: int, correlation: float, seed: int) -> torch.Tensor:
    """Returns draws (N, 2) of a Gaussian with unit variances and this correlation."""
    noise = torch.randn(num_rows, 2, generator=torch.Generator().manual_seed(seed))
    second = correlation * noise[:, 0] + math.sqrt(1 - correlation**2) * noise[:, 1]
    return torch.stack([noise[:, 0], second], dim=1)


def a_discriminator(latent_dim: int = 2, width: int = 32, num_layers: int = 2) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make_discriminator(latent_dim, width, num_layers)


def test_a_permutation_keeps_the_values_of_every_dimension() -> None:
    latents = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    permuted = permute_dimensions(latents, seed=3, step=9)
    assert torch.equal(permuted.sort(0).values, latents.sort(0).values)


def test_a_permutation_breaks_the_joint_of_the_dimensions() -> None:
    latents = correlated(4096, 0.9, seed=0)
    permuted = permute_dimensions(latents, seed=3, step=9)
    assert np.corrcoef(latents.numpy(), rowvar=False)[0, 1] > 0.85
    assert abs(np.corrcoef(permuted.numpy(), rowvar=False)[0, 1]) < 0.05
    # Every dimension is permuted in its own order.
    same = torch.arange(64.0)[:, None].expand(64, 3)
    orders = permute_dimensions(same, seed=0, step=0)
    assert not any(torch.equal(orders[:, k], same[:, k]) for k in range(3))
    assert not torch.equal(orders[:, 0], orders[:, 1])
    assert not torch.equal(orders[:, 1], orders[:, 2])


def test_a_permutation_is_a_function_of_seed_and_step() -> None:
    latents = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    permuted = permute_dimensions(latents, seed=3, step=9)
    np.random.default_rng().random(7)
    torch.rand(7)
    assert torch.equal(permute_dimensions(latents, seed=3, step=9), permuted)
    assert not torch.equal(permute_dimensions(latents, seed=3, step=10), permuted)
    assert not torch.equal(permute_dimensions(latents, seed=4, step=9), permuted)


def test_the_discriminator_has_the_configured_shape() -> None:
    layers = list(make_discriminator(10, 1000, 6))
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (10, 1000),
        *[(1000, 1000)] * 5,
        (1000, 2),
    ]
    slopes = [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.2] * 6


def test_the_discriminators_loss_is_half_of_each_cross_entropy() -> None:
    discriminator = a_discriminator()
    latents, permuted = correlated(33, 0.9, seed=1), correlated(20, 0.0, seed=2)
    joint = F.cross_entropy(discriminator(latents), torch.zeros(33, dtype=torch.int64))
    product = F.cross_entropy(discriminator(permuted), torch.ones(20, dtype=torch.int64))
    loss = discriminator_loss(discriminator, latents, permuted)
    torch.testing.assert_close(loss, joint / 2 + product / 2)


def test_an_uninformed_discriminator_has_a_loss_of_log_2_and_no_correlation() -> None:
    discriminator = a_discriminator()
    for parameter in discriminator.parameters():
        nn.init.zeros_(parameter)
    latents = correlated(16, 0.9, seed=1)
    assert discriminator_loss(discriminator, latents, latents).item() == pytest.approx(math.log(2))
    assert total_correlation(discriminator, latents).item() == 0


def test_total_correlation_is_the_mean_difference_of_the_logits() -> None:
    discriminator, latents = a_discriminator(), correlated(50, 0.9, seed=1)
    logits = discriminator(latents)
    expected = (logits[:, 0] - logits[:, 1]).mean()
    torch.testing.assert_close(total_correlation(discriminator, latents), expected)


def test_total_correlation_has_a_gradient_only_for_the_latents() -> None:
    discriminator, latents = a_discriminator(), correlated(50, 0.9, seed=1).requires_grad_()
    total_correlation(discriminator, latents).backward()  # type: ignore[no-untyped-call]
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    # The gradient equals that of the same weights as part of the graph.
    again = latents.detach().clone().requires_grad_()
    logits = discriminator(again)
    (logits[:, 0] - logits[:, 1]).mean().backward()
    assert again.grad is not None
    torch.testing.assert_close(latents.grad, again.grad)


@pytest.mark.parametrize(("correlation", "tolerance"), [(0.9, 0.25), (0.0, 0.1)])
def test_a_trained_discriminator_estimates_the_total_correlation(correlation: float, tolerance: float) -> None:
    """The total correlation of the Gaussian is −½·ln(1 − ρ²): .83 nats at .9, none at 0."""
    discriminator = a_discriminator(width=64)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    for step in range(600):
        latents, others = (correlated(256, correlation, seed=2 * step + k) for k in (0, 1))
        loss = discriminator_loss(discriminator, latents, permute_dimensions(others, 0, step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        found = total_correlation(discriminator, correlated(20_000, correlation, seed=99_999)).item()
    assert found == pytest.approx(-0.5 * math.log(1 - correlation**2), abs=tolerance)


def test_the_loss_is_the_kl_and_gamma_times_the_total_correlation() -> None:
    objective = FactorVAE(gamma=35.0, discriminator_width=16, discriminator_layers=2)
    penalty = objective.begin(run_facts(4))
    losses = step_losses(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.full((8, 4), -1.0))
    correlation = total_correlation(penalty.networks()["discriminator"], losses.latents)
    torch.testing.assert_close(penalty.loss(losses), losses.kl + 35 * correlation)
    assert penalty.metrics(0) == {"total_correlation": pytest.approx(correlation.item())}


def test_after_a_step_the_discriminator_has_moved_as_adam_moves_it() -> None:
    objective = FactorVAE(discriminator_width=16, discriminator_layers=2, discriminator_learning_rate=0.01)
    penalty, twin = objective.begin(run_facts(4, seed=5)), objective.begin(run_facts(4, seed=5))
    discriminator, expected = (one.networks()["discriminator"] for one in (penalty, twin))
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01, betas=(0.5, 0.9))
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(8, 4, generator=generator)
    for step in range(3):
        losses = step_losses(torch.randn(8, 4, generator=generator), torch.zeros(8, 4), step)
        penalty.after_step(losses, 0.0, lambda: others)
        loss = discriminator_loss(expected, losses.latents, permute_dimensions(others, 5, step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for one, other in zip(discriminator.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_discriminator_begins_as_the_seed_says() -> None:
    objective = FactorVAE(discriminator_width=16, discriminator_layers=2)
    first, same, other = (
        objective.begin(run_facts(4, seed=seed)).networks()["discriminator"].state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_checkpoint_holds_the_discriminator_and_its_optimizer(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(objective="factorvae", discriminator_width=16, discriminator_layers=2)
    states = {}
    for folder, stops in (("whole", [None]), ("parts", [5, 6, None])):
        for stop in stops:
            should_stop = None if stop is None else stop_at(stop)
            train(config, pack, run_folder=tmp_path / folder, should_stop=should_stop)
        checkpoint = newest_checkpoint(tmp_path / folder / "checkpoints")
        assert checkpoint is not None
        assert checkpoint.step == 24
        states[folder] = {n: t for n, t in checkpoint.tensors.items() if n.startswith("objective")}
    weights = [name for name in states["whole"] if name.startswith("objective.discriminator.")]
    assert len(weights) == 6
    moments = [name for name in states["whole"] if name.startswith("objective_optimizer.discriminator.")]
    assert len(moments) == 6 * 3
    assert states["parts"].keys() == states["whole"].keys()
    for name, tensor in states["whole"].items():
        assert torch.equal(tensor, states["parts"][name]), name
