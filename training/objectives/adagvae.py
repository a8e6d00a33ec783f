"""The objective Ada-GVAE of Locatello et al. 2020, on pairs of pictures that share most of what varies."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.config import ConfigError, unit
from training.objectives.annealed import Annealed
from training.objectives.base import DrawGroups, Penalty, RunFacts, StepLosses
from training.objectives.pairs import FactorPairs, SequencePairs

if TYPE_CHECKING:
    from torch import Tensor

    from models.posteriors import Posterior
    from training.data.packs import Pack


def in_pairs(rows: "Tensor") -> "Tensor":
    """Returns rows (2·P, D) as pairs (P, 2, D)."""
    return rows.reshape(-1, 2, rows.shape[1])


def kl_within_pairs(mean: "Tensor", log_variance: "Tensor") -> "Tensor":
    """Returns KL(q₁ ‖ q₂) of each pair and dimension, (P, D), nats.

    Args:
        mean: Posterior means, (P, 2, D).
        log_variance: Posterior log-variances, (P, 2, D).
    """
    difference = log_variance[:, 0] - log_variance[:, 1]
    distance = (mean[:, 0] - mean[:, 1]).square() * (-log_variance[:, 1]).exp()
    kl: Tensor = 0.5 * (difference.exp() + distance - 1 - difference)
    return kl


def is_shared(kl: "Tensor") -> "Tensor":
    """Returns whether a pair shares a dimension, (P, D): its KL is below ½(max + min) over the dimensions.

    Args:
        kl: KL within the pairs, (P, D).
    """
    shared: Tensor = kl < (kl.amax(1, keepdim=True) + kl.amin(1, keepdim=True)) / 2
    return shared


def averaged(posterior: "Posterior") -> "Posterior":
    """Returns the posteriors of pairs that have the mean of both means and of both variances where they share.

    Args:
        posterior: Gaussians of 2·P images, each followed by its partner.
    """
    import torch

    from models.posteriors import Gaussian

    mean, log_variance = in_pairs(posterior.mean), in_pairs(posterior.log_variance)
    shared = is_shared(kl_within_pairs(mean, log_variance))[:, None]
    log_mean_variance = torch.logsumexp(log_variance, 1, keepdim=True) - math.log(2)
    return Gaussian(
        torch.where(shared, mean.mean(1, keepdim=True), mean).flatten(0, 1),
        torch.where(shared, log_mean_variance, log_variance).flatten(0, 1),
    )


class _Penalty(Penalty):
    """β·KL of the averaged posteriors, whose number of shared dimensions is recorded."""

    def __init__(self, objective: "AdaGVAE", facts: RunFacts) -> None:
        super().__init__(objective, facts)
        self._pairs: Tensor | None = None

    def loss(self, losses: StepLosses) -> "Tensor":
        self._pairs = in_pairs(losses.mean.detach())
        return super().loss(losses)

    def metrics(self, step: int) -> dict[str, float]:
        found = super().metrics(step)
        if self._pairs is not None:
            equal = self._pairs[:, 0] == self._pairs[:, 1]
            found["shared_dimensions"] = equal.sum(1).double().mean().item()
        return found


class AdaGVAE(Annealed):
    """Reconstruction + β·KL of pairs of pictures, which have one posterior in the dimensions that they share.

    β is constant unless beta_start is set, and there is no restart unless restart_step is set.
    """

    name: ClassVar[str] = "adagvae"
    summary: ClassVar[str] = (
        "reconstruction + β·KL on pairs of pictures that share most of what varies; where their posteriors differ "
        "least, both have the average (Ada-GVAE, Locatello et al. 2020)"
    )
    penalty_class: ClassVar[type[Penalty]] = _Penalty
    use_of_batch: ClassVar[str] = "compares the pictures of a pair"
    group_size: ClassVar[int] = 2

    beta: float = Field(1.0, description="β at the end; 1 gives the negative ELBO.", ge=0, le=1e6)
    beta_start: float | None = Field(
        None, description="β at step 0; empty: beta, which stays the same.", ge=0.01, le=1e6
    )
    pairs: Literal["factors", "sequence"] = Field(
        "factors",
        description="Pictures that make a pair. factors: two that differ in num_changed of the set's labelled factors; "
        "sequence: two near frames of a video or of a folder of numbered pictures.",
    )
    num_changed: int = Field(
        1,
        description="Number of randomly chosen factors in which a pair differs, for pairs of factors; 0: a random one "
        "for each pair, from 1 to one less than there are.",
        ge=0,
        le=255,
    )
    max_distance: int = Field(
        1,
        description="Largest distance of the frames of a pair, for pairs of a sequence.",
        ge=1,
        le=10_000,
        json_schema_extra=unit("frames"),
    )

    def joined(self, posterior: "Posterior") -> "Posterior":
        """Returns the posteriors of pairs, averaged in the dimensions that they share."""
        return averaged(posterior)

    def draw_groups(self, pack: "Pack", indices: NDArray[np.int64]) -> DrawGroups:
        """Returns the function that draws pairs of training images."""
        self.check_labels(pack.info.factor_sizes, pack.sequences is not None)
        if self.pairs == "sequence":
            assert pack.sequences is not None
            return SequencePairs(pack.sequences, indices, self.max_distance)
        assert pack.factors is not None
        return FactorPairs(pack.factors, indices, self.num_changed)

    def for_calibration(self) -> Self:
        """Returns the objective with pairs of the sequence that a measurement of speed has."""
        return self.replace(pairs="sequence")

    def check_labels(self, factor_sizes: Sequence[int], has_sequences: bool) -> None:
        """Checks that a set has sequences, or enough factors."""
        if self.pairs == "sequence":
            if not has_sequences:
                raise ConfigError("pairs", "sequence needs videos or numbered pictures, and this set has none")
            return
        count = sum(size > 1 for size in factor_sizes)
        if count < 2:
            raise ConfigError(
                "pairs", f"factors needs at least two labelled factors, and this set has {count or 'none'}"
            )
        if self.num_changed >= count:
            raise ConfigError(
                "num_changed", f"must be below {count}, the number of the set's factors, not {self.num_changed}"
            )

    def check_run(self, batch_size: int, latent_dim: int) -> None:
        """Checks that a batch is whole pairs, and that there are dimensions to compare."""
        super().check_run(batch_size, latent_dim)
        if batch_size % 2:
            raise ConfigError(
                "batch_size", f"must be even for {self.name}, which {self.use_of_batch}, not {batch_size}"
            )
        if latent_dim < 2:
            raise ConfigError("latent_dim", f"must be at least 2 for {self.name}, which compares the latents of a pair")
