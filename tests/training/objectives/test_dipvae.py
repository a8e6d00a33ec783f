"""DIP-VAE I and II against a second implementation with numpy, and closed forms."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_support import run_facts, step_losses

from training.objectives.dipvae import DIPVAE1, DIPVAE2, covariance_of_means, distance_from_identity


def a_batch(num_images: int = 16, latent_dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns means and log-variances, each (B, D), of correlated latents."""
    rng = np.random.default_rng(7)
    mixing = rng.normal(size=(latent_dim, latent_dim))
    mean = torch.from_numpy(rng.normal(size=(num_images, latent_dim)) @ mixing).float()
    return mean, torch.from_numpy(rng.normal(-1, 0.5, (num_images, latent_dim))).float()


def penalty_by_numpy(covariance: NDArray[np.float64], off_diagonal: float, diagonal: float) -> float:
    """Returns λ_od·Σ_{i≠j} C_ij² + λ_d·Σ_i (C_ii − 1)², element by element."""
    total = 0.0
    for i in range(len(covariance)):
        for j in range(len(covariance)):
            total += diagonal * (covariance[i, i] - 1) ** 2 if i == j else off_diagonal * covariance[i, j] ** 2
    return total


def penalty_of(objective: DIPVAE1, mean: torch.Tensor, log_variance: torch.Tensor) -> float:
    """Returns the penalty that the objective adds to reconstruction + KL."""
    losses = step_losses(mean, log_variance)
    return (objective.begin(run_facts(mean.shape[1])).loss(losses) - losses.kl).item()


def test_the_covariance_of_a_known_batch() -> None:
    mean = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 0.0], [-3.0, 0.0]])
    torch.testing.assert_close(covariance_of_means(mean), torch.tensor([[5.0, 1.0], [1.0, 2.0]]))
    # A common shift of all means changes nothing.
    torch.testing.assert_close(covariance_of_means(mean + 7), torch.tensor([[5.0, 1.0], [1.0, 2.0]]))


def test_the_covariance_is_that_of_numpy() -> None:
    mean, _ = a_batch()
    expected = np.cov(mean.numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance_of_means(mean).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_identity_has_distance_0() -> None:
    assert distance_from_identity(torch.eye(5), 10.0, 100.0).item() == 0


def test_each_weight_counts_its_own_part() -> None:
    covariance = torch.tensor([[3.0, 0.5], [0.5, 1.0]])
    assert distance_from_identity(covariance, 1.0, 0.0).item() == pytest.approx(2 * 0.5**2)
    assert distance_from_identity(covariance, 0.0, 1.0).item() == pytest.approx(2.0**2)
    assert distance_from_identity(covariance, 10.0, 7.0).item() == pytest.approx(10 * 0.5 + 7 * 4)


@pytest.mark.parametrize(("off_diagonal", "diagonal"), [(10.0, 100.0), (0.0, 3.0), (3.0, 0.0), (2.5, 0.5)])
def test_the_penalty_is_that_of_numpy(off_diagonal: float, diagonal: float) -> None:
    mean, log_variance = a_batch()
    means = np.cov(mean.numpy().astype(np.float64), rowvar=False, bias=True)
    latents = means + np.diag(np.exp(log_variance.numpy().astype(np.float64)).mean(0))
    for objective, covariance in ((DIPVAE1, means), (DIPVAE2, latents)):
        settings = objective(lambda_off_diagonal=off_diagonal, lambda_diagonal=diagonal)
        expected = penalty_by_numpy(covariance, off_diagonal, diagonal)
        assert penalty_of(settings, mean, log_variance) == pytest.approx(expected, rel=1e-4)


def test_the_two_kinds_agree_where_posteriors_have_no_variance() -> None:
    mean, _ = a_batch()
    tiny = torch.full_like(mean, -20.0)
    one, two = (kind(lambda_off_diagonal=3.0, lambda_diagonal=5.0) for kind in (DIPVAE1, DIPVAE2))
    assert penalty_of(two, mean, tiny) == pytest.approx(penalty_of(one, mean, tiny), rel=1e-4)


def test_the_second_kind_counts_the_variance_of_the_posteriors() -> None:
    """Idle latents, of mean 0 and variance 1, are at distance 1 from the identity for I, and at 0 for II."""
    mean, log_variance = torch.zeros(8, 3), torch.zeros(8, 3)
    assert penalty_of(DIPVAE1(lambda_diagonal=2.0), mean, log_variance) == pytest.approx(3 * 2.0)
    assert penalty_of(DIPVAE2(lambda_diagonal=2.0), mean, log_variance) == 0


def test_the_weight_of_the_diagonal_has_the_defaults_of_the_paper() -> None:
    assert DIPVAE1().weights == (10.0, 100.0)
    assert DIPVAE2().weights == (10.0, 10.0)
    assert DIPVAE1(lambda_off_diagonal=3.0).weights == (3.0, 30.0)
    assert DIPVAE2(lambda_off_diagonal=3.0).weights == (3.0, 3.0)
    for kind in (DIPVAE1, DIPVAE2):
        assert kind(lambda_off_diagonal=3.0, lambda_diagonal=0.0).weights == (3.0, 0.0)


@pytest.mark.parametrize("kind", [DIPVAE1, DIPVAE2])
def test_following_the_gradient_brings_the_covariance_to_the_identity(kind: type[DIPVAE1]) -> None:
    start, log_variance = a_batch(64)
    mean = start.clone().requires_grad_()
    penalty = kind(lambda_off_diagonal=1.0, lambda_diagonal=1.0).begin(run_facts(4))
    optimizer = torch.optim.Adam([mean], lr=0.05)
    for _ in range(300):
        losses = dataclasses.replace(step_losses(mean, log_variance), kl=torch.zeros(()))
        loss = penalty.loss(losses)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    covariance = covariance_of_means(mean.detach())
    if kind is DIPVAE2:
        covariance = covariance + log_variance.exp().mean(0).diag()
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.02, rtol=0)


def test_the_validation_loss_is_the_negative_elbo() -> None:
    assert DIPVAE1().validation_loss(30.0, 7.0) == DIPVAE2().validation_loss(30.0, 7.0) == 37.0
