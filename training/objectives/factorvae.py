"""The objective FactorVAE of Kim and Mnih 2018, in which a discriminator estimates the latents' total correlation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from training.objectives.base import Objective, Penalty, RunFacts, StepLosses

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_BETAS = (0.5, 0.9)
"""Adam's β₁ and β₂ for the discriminator, from the paper."""
_SLOPE = 0.2
"""Slope of the leaky ReLU for negative inputs, from the paper."""


class FactorPenalty(Penalty):
    """KL + γ·total correlation, with the discriminator that estimates it."""

    objective: "FactorVAE"

    def __init__(self, objective: "FactorVAE", facts: RunFacts) -> None:
        import torch

        super().__init__(objective, facts)
        width, layers = objective.discriminator_width, objective.discriminator_layers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(facts.seed + 2)
            self.discriminator = make_discriminator(facts.latent_dim, width, layers).to(facts.device)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=objective.discriminator_learning_rate, betas=_BETAS, fused=True
        )
        self._correlation: Tensor = torch.zeros(())

    def loss(self, losses: StepLosses) -> "Tensor":
        """Returns KL + γ·mean(D₀(z) − D₁(z)), of which the discriminator's weights receive no gradient."""
        correlation = total_correlation(self.discriminator, losses.latents)
        self._correlation = correlation.detach()
        return losses.kl + self.objective.gamma * correlation

    def after_step(self, losses: StepLosses, kl: float, other_latents: Callable[[], "Tensor"]) -> None:
        """Trains the discriminator on this batch's latents against those of another batch, permuted per dimension."""
        permuted = permute_dimensions(other_latents(), self.facts.seed, losses.step)
        loss = discriminator_loss(self.discriminator, losses.latents.detach(), permuted)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def metrics(self, step: int) -> dict[str, float]:
        return {"total_correlation": self._correlation.item()}

    def networks(self) -> "dict[str, nn.Module]":
        return {"discriminator": self.discriminator}

    def optimizers(self) -> "dict[str, torch.optim.Optimizer]":
        return {"discriminator": self.optimizer}


def make_discriminator(latent_dim: int, width: int, num_layers: int) -> "nn.Sequential":
    """Returns a network that maps latents (B, D) to two logits (B, 2), for joint latents and for permuted ones.

    Args:
        latent_dim: Number D of latent dimensions.
        width: Units per hidden layer.
        num_layers: Number of hidden layers.
    """
    from torch import nn

    layers: list[nn.Module] = []
    for k in range(num_layers):
        layers += [nn.Linear(width if k else latent_dim, width), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers, nn.Linear(width, 2))


def total_correlation(discriminator: "nn.Module", latents: "Tensor") -> "Tensor":
    """Returns mean(D₀(z) − D₁(z)), the estimate of the total correlation; scalar, nats.

    Args:
        discriminator: Network from (B, D) to (B, 2).
        latents: (B, D). Gradients flow only to them, not to the discriminator's weights.
    """
    from torch.func import functional_call

    weights = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    logits = functional_call(discriminator, weights, (latents,))
    difference: Tensor = (logits[:, 0] - logits[:, 1]).mean()
    return difference


def discriminator_loss(discriminator: "nn.Module", latents: "Tensor", permuted: "Tensor") -> "Tensor":
    """Returns ½·CE(D(z), 0) + ½·CE(D(perm z′), 1); scalar.

    Args:
        discriminator: Network from (B, D) to (B, 2).
        latents: Latents of one batch, (B, D).
        permuted: Latents of another batch, each dimension permuted over the batch, (B, D).
    """
    import torch
    import torch.nn.functional as F

    joint, product = discriminator(latents), discriminator(permuted)
    zeros = torch.zeros(len(joint), dtype=torch.int64, device=joint.device)
    ones = torch.ones(len(product), dtype=torch.int64, device=product.device)
    return 0.5 * (F.cross_entropy(joint, zeros) + F.cross_entropy(product, ones))


def permute_dimensions(latents: "Tensor", seed: int, step: int) -> "Tensor":
    """Permutes each dimension of latents (B, D) separately over the batch; seed and step alone determine the order."""
    import numpy as np
    import torch

    rng = np.random.default_rng([seed, step, 0xFAC702])
    orders = np.stack([rng.permutation(len(latents)) for _ in range(latents.shape[1])], axis=1)
    return latents.gather(0, torch.from_numpy(orders).to(latents.device))


class FactorVAE(Objective):
    """Reconstruction + KL + γ · total correlation, which a discriminator estimates."""

    name: ClassVar[str] = "factorvae"
    summary: ClassVar[str] = (
        "reconstruction + KL + γ·mean(D₀(z) − D₁(z)), where the discriminator D distinguishes latents from permuted "
        "ones (Kim and Mnih 2018)"
    )
    penalty_class: ClassVar[type[Penalty]] = FactorPenalty
    use_of_batch: ClassVar[str] = "permutes the latents of a batch"

    gamma: float = Field(40.0, description="Weight γ of the total correlation; the paper uses 10 to 100.", ge=0, le=1e6)
    discriminator_width: int = Field(1000, description="Units per layer of the discriminator.", ge=1, le=4096)
    discriminator_layers: int = Field(6, description="Hidden layers of the discriminator.", ge=1, le=12)
    discriminator_learning_rate: float = Field(
        1e-4, description="Learning rate of the discriminator's Adam.", gt=0, le=1
    )

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns the negative ELBO in nats per image; the total correlation is not a function of one image."""
        return reconstruction + kl
