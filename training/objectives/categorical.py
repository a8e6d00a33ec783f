"""The objective with categorical latents of Friede et al. 2023, whose values lie on a fixed grid."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.config import MAX_STEPS, unit
from training.objectives.base import DrawNoise, Penalty, RunFacts, StepLosses
from training.objectives.factorvae import FactorPenalty, FactorVAE
from training.objectives.schedules import cosine_ramp

if TYPE_CHECKING:
    from torch import Tensor


def gumbel(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns standard Gumbel noise of a shape, −ln of exponential numbers."""
    exponential = rng.standard_exponential(shape, dtype=np.float32)
    noise: NDArray[np.float32] = -np.log(np.maximum(exponential, np.finfo(np.float32).tiny))
    return noise


class _Penalty(Penalty):
    def loss(self, losses: StepLosses) -> "Tensor":
        return losses.kl


class Categorical(FactorVAE):
    """Reconstruction + KL of categorical latents, and γ · total correlation where γ is above 0."""

    name: ClassVar[str] = "categorical"
    summary: ClassVar[str] = (
        "reconstruction + KL(q ‖ uniform) + γ·TC, where each latent is a mean over a grid of values between −1 and 1 "
        "with the shares softmax(logits + Gumbel noise) (Friede et al. 2023)"
    )

    num_categories: int = Field(64, description="Number K of values on the grid of each latent.", ge=2, le=64)
    noise_start: float = Field(0.5, description="Scale of the Gumbel noise at step 0.", ge=0, le=100)
    noise_end: float = Field(2.0, description="Scale of the Gumbel noise at the end of its cosine ramp.", ge=0, le=100)
    noise_steps: int | None = Field(
        None,
        description="Length of the ramp of the noise; empty: the whole run.",
        ge=0,
        le=MAX_STEPS,
        json_schema_extra=unit("steps"),
    )
    gamma: float = Field(0.0, description="Weight γ of the total correlation; 0 needs no discriminator.", ge=0, le=1e6)

    @property
    def latents(self) -> dict[str, Any]:
        """Settings of the network's latents."""
        return {"num_categories": self.num_categories}

    def draw_noise(self, step: int) -> DrawNoise:
        """Returns the function that draws Gumbel noise (B, D, K) in the scale of a step."""
        assert self.noise_steps is not None
        scale = cosine_ramp(step, self.noise_start, self.noise_end, self.noise_steps)
        return lambda rng, shape: scale * gumbel(rng, shape)

    def begin(self, facts: RunFacts) -> Penalty:
        """Returns the penalty of a run at step 0, which has a discriminator only if γ is above 0."""
        return FactorPenalty(self, facts) if self.gamma > 0 else _Penalty(self, facts)

    def in_steps(self, num_steps: int, steps_per_epoch: int) -> Self:
        """Returns the objective with the length of the noise's ramp."""
        steps = num_steps if self.noise_steps is None else self.noise_steps
        return super().in_steps(num_steps, steps_per_epoch).replace(noise_steps=steps)

    def check_run(self, batch_size: int, latent_dim: int) -> None:
        """Checks the batch size, which matters to the total correlation alone."""
        if self.gamma > 0:
            super().check_run(batch_size, latent_dim)

    def check_images(self, num_training_images: int) -> None:
        """Checks the number of images, which matters to the total correlation alone."""
        if self.gamma > 0:
            super().check_images(num_training_images)
