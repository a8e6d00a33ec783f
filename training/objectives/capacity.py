"""The objective of Burgess et al. 2018: reconstruction + γ·|KL − C|, with a rising capacity C."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from training.objectives.base import Penalty, Record, StepLosses
from training.objectives.ramp import CapacityPenalty, CapacityRamp

if TYPE_CHECKING:
    from torch import Tensor


class _Penalty(CapacityPenalty):
    objective: "Capacity"

    def loss(self, losses: StepLosses) -> "Tensor":
        """Returns γ·|KL − C| of Burgess et al. 2018, Eq. 8, with the batch mean of the KL; scalar, nats."""
        return self.objective.gamma * (losses.kl - self.capacity_at(losses.step)).abs()


class Capacity(CapacityRamp):
    """Reconstruction + γ·|KL − C|."""

    name: ClassVar[str] = "capacity"
    summary: ClassVar[str] = "reconstruction + γ·|KL − C|, C rising linearly with the step (Burgess et al. 2018)"
    penalty_class: ClassVar[type[Penalty]] = _Penalty

    gamma: float = Field(
        1000.0,
        description="Weight γ of |KL − C|; a request with gamma but no objective selects capacity.",
        ge=0,
        le=1e6,
    )

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns the loss with C at capacity_max, in nats per image."""
        return reconstruction + self.gamma * abs(kl - self.capacity_max)

    def warnings(self, record: Record) -> dict[str, str]:
        """Returns warnings about C, and about a γ that outweighs the reconstruction loss."""
        found = super().warnings(record)
        # The mean of the penalties is used, since the KL's oscillations about C do not cancel in it.
        reconstruction = record.metrics["reconstruction_loss"]
        penalty = record.metrics["loss"] - reconstruction
        error = reconstruction - record.metrics.get("bernoulli_floor", 0.0)
        if record.step > 500 and penalty > 0.5 * error:
            found["dwarfed"] = (
                f"γ·|KL − C| ({penalty:.0f}) is more than half of the reconstruction loss above its floor "
                f"({error:.0f}): the images may be learnt late; try the controlled objective, or a smaller γ"
            )
        return found
