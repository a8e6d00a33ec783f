"""The objective of Higgins et al. 2017: reconstruction + β·KL."""

from typing import ClassVar

from pydantic import Field

from training.objectives.base import Objective


class Beta(Objective):
    """Reconstruction + β·KL, with a constant β."""

    name: ClassVar[str] = "beta"
    summary: ClassVar[str] = "reconstruction + β·KL (Higgins et al. 2017)"

    beta: float = Field(
        4.0, description="Weight β of the KL; a request with beta but no objective selects beta.", ge=0, le=1e6
    )

    def beta_at(self, step: int) -> float:
        """Returns β, which is the same at every step."""
        return self.beta

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns reconstruction + β·KL in nats per image."""
        return reconstruction + self.beta * kl
