"""The objective of Chen et al. 2018: β on the total correlation alone."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from training.objectives.base import Objective, Penalty, StepLosses

if TYPE_CHECKING:
    from torch import Tensor


class _Penalty(Penalty):
    objective: "BetaTCVAE"

    def loss(self, losses: StepLosses) -> "Tensor":
        """Returns the KL of Chen et al. 2018, Eq. 4, with β on its total correlation; scalar, nats per image."""
        from training.objectives.losses import total_correlation_terms

        terms = total_correlation_terms(
            losses.latents, losses.mean, losses.log_variance, self.facts.num_training_images
        )
        information, correlation, dimension_wise = terms
        return information + self.objective.beta * correlation + dimension_wise


class BetaTCVAE(Objective):
    """Reconstruction + mutual information + β·total correlation + dimension-wise KL."""

    name: ClassVar[str] = "btcvae"
    summary: ClassVar[str] = "reconstruction + I + β·TC + dimension-wise KL (Chen et al. 2018)"
    penalty_class: ClassVar[type[Penalty]] = _Penalty
    use_of_batch: ClassVar[str] = "compares the images of a batch"

    beta: float = Field(4.0, description="Weight β of the total correlation.", ge=0, le=1e6)

    def beta_at(self, step: int) -> float:
        """Returns β, which is the same at every step."""
        return self.beta

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns reconstruction + β·KL in nats per image.

        The total correlation is not a function of one image; for β ≥ 1 the returned loss is an upper bound.
        """
        return reconstruction + self.beta * kl
