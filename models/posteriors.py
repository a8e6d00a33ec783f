"""The posteriors q(z given x) of a network's latents, each with its KL to its prior and its way to draw latents."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST_VARIANCE = 1e-12
"""Least variance of a categorical posterior, so that its logarithm is finite where all of it lies in one category."""


class Gaussian(NamedTuple):
    """D independent Gaussians per image, with the prior N(0, I).

    Attributes:
        mean: (B, D).
        log_variance: (B, D).
    """

    mean: Tensor
    log_variance: Tensor

    def kl(self) -> Tensor:
        """Returns the KL to the prior of each image and dimension, (B, D), nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - self.log_variance - 1)

    def draw(self, noise: Tensor) -> Tensor:
        """Returns the latents (B, D) that noise (B, D) from N(0, I) draws."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


class Categorical(NamedTuple):
    """D independent categorical distributions per image over the K values of a grid (Friede et al. 2023).

    The grid is K equal steps from −1 to 1, and the prior is uniform on it.

    Attributes:
        logits: (B, D, K).
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """The expected value on the grid, (B, D) in [−1, 1]."""
        return torch.softmax(self.logits, 2) @ self._grid()

    @property
    def log_variance(self) -> Tensor:
        """The logarithm of the variance on the grid, (B, D)."""
        shares, grid = torch.softmax(self.logits, 2), self._grid()
        distances = grid - (shares @ grid)[..., None]
        return (shares * distances.square()).sum(2).clamp_min(LEAST_VARIANCE).log()

    def kl(self) -> Tensor:
        """Returns the KL to the prior of each image and dimension, Σ q·ln(K·q), (B, D), nats."""
        log_shares = torch.log_softmax(self.logits, 2)
        return (log_shares.exp() * log_shares).sum(2) + math.log(self.logits.shape[2])

    def draw(self, noise: Tensor) -> Tensor:
        """Returns Σ softmax(logits + noise)·grid, (B, D), for Gumbel noise (B, D, K) at temperature 1."""
        return torch.softmax(self.logits + noise, 2) @ self._grid()

    def _grid(self) -> Tensor:
        return torch.linspace(-1, 1, self.logits.shape[2], dtype=self.logits.dtype, device=self.logits.device)


Posterior = Gaussian | Categorical
