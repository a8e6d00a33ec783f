"""The objectives DIP-VAE I and II of Kumar et al. 2018, which pull the covariance of the latents to the identity."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from training.objectives.base import Objective, Penalty, StepLosses

if TYPE_CHECKING:
    from torch import Tensor


def covariance_of_means(mean: "Tensor") -> "Tensor":
    """Returns Cov(μ) over a batch, (D, D), normalised by 1/B like the paper's minibatch estimate.

    Args:
        mean: Posterior means, (B, D).
    """
    centred = mean - mean.mean(0)
    covariance: Tensor = centred.T @ centred / len(mean)
    return covariance


def distance_from_identity(covariance: "Tensor", off_diagonal: float, diagonal: float) -> "Tensor":
    """Returns λ_od·Σ_{i≠j} Cov_ij² + λ_d·Σ_i (Cov_ii − 1)² of Kumar et al. 2018, Eq. 6 and 7; scalar.

    Args:
        covariance: (D, D).
        off_diagonal: Weight λ_od.
        diagonal: Weight λ_d.
    """
    variances = covariance.diagonal()
    off: Tensor = covariance.square().sum() - variances.square().sum()
    distance: Tensor = off_diagonal * off + diagonal * (variances - 1).square().sum()
    return distance


class _Penalty(Penalty):
    objective: "DIPVAE1 | DIPVAE2"

    def loss(self, losses: StepLosses) -> "Tensor":
        covariance = covariance_of_means(losses.mean)
        if self.objective.counts_variances:
            covariance = covariance + losses.log_variance.exp().mean(0).diag()
        off_diagonal, diagonal = self.objective.weights
        return losses.kl + distance_from_identity(covariance, off_diagonal, diagonal)


class DIPVAE1(Objective):
    """Reconstruction + KL + the distance of Cov(μ) from the identity."""

    name: ClassVar[str] = "dipvae1"
    summary: ClassVar[str] = "reconstruction + KL + λ_od·Σ off² + λ_d·Σ (diag − 1)² of Cov(μ) (Kumar et al. 2018, I)"
    penalty_class: ClassVar[type[Penalty]] = _Penalty
    use_of_batch: ClassVar[str] = "compares the images of a batch"
    counts_variances: ClassVar[bool] = False

    lambda_off_diagonal: float = Field(
        10.0, description="Weight λ_od of the covariances between latents.", ge=0, le=1e6
    )
    lambda_diagonal: float | None = Field(
        None,
        description="Weight λ_d of the latents' variances; empty: the paper's, 10·λ_od for dipvae1, λ_od for dipvae2.",
        ge=0,
        le=1e6,
    )

    @property
    def weights(self) -> tuple[float, float]:
        """λ_od and λ_d."""
        diagonal = 10 * self.lambda_off_diagonal if self.lambda_diagonal is None else self.lambda_diagonal
        return self.lambda_off_diagonal, diagonal

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns the negative ELBO in nats per image; the penalty is omitted, since it compares a batch's images."""
        return reconstruction + kl


class DIPVAE2(DIPVAE1):
    """Reconstruction + KL + the distance of Cov(μ) + E[Σ], the covariance of the latents, from the identity."""

    name: ClassVar[str] = "dipvae2"
    summary: ClassVar[str] = (
        "reconstruction + KL + λ_od·Σ off² + λ_d·Σ (diag − 1)² of Cov(μ) + E[Σ] (Kumar et al. 2018, II)"
    )
    counts_variances: ClassVar[bool] = True

    @property
    def weights(self) -> tuple[float, float]:
        """λ_od and λ_d."""
        diagonal = self.lambda_off_diagonal if self.lambda_diagonal is None else self.lambda_diagonal
        return self.lambda_off_diagonal, diagonal
