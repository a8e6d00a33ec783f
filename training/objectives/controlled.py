"""The default objective: reconstruction + β·KL, with β adjusted after every step so that the KL follows C."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from models.config import ConfigError
from training.objectives.base import Penalty, Record, RunFacts, StepLosses
from training.objectives.ramp import CapacityPenalty, CapacityRamp
from training.objectives.restarting import Restarting
from training.objectives.schedules import LEAST_BETA, steered_beta

if TYPE_CHECKING:
    from torch import Tensor

_COMPONENTS = 3
"""Default number of latents that learn principal components at a restart, for pictures in colour."""


class _Penalty(CapacityPenalty):
    objective: "Controlled"

    def __init__(self, objective: "Controlled", facts: RunFacts) -> None:
        super().__init__(objective, facts)
        self.steered_beta: float = objective.beta_start
        self._beta_of_last_step = self.steered_beta

    def loss(self, losses: StepLosses) -> "Tensor":
        return self.steered_beta * losses.kl

    def after_step(self, losses: StepLosses, kl: float, other_latents: Callable[[], "Tensor"]) -> None:
        capacity = self.capacity_at(losses.step)
        gain, least = self.objective.beta_gain, self.objective.beta_least
        self._beta_of_last_step = self.steered_beta
        self.steered_beta = steered_beta(self.steered_beta, kl, capacity, gain=gain, least=least)

    def metrics(self, step: int) -> dict[str, float]:
        return super().metrics(step) | {"beta": self._beta_of_last_step}

    def begin_from_model(self, kl: float) -> None:
        super().begin_from_model(kl)
        self.steered_beta = max(1.0, self.objective.beta_least)

    def is_final(self, step: int) -> bool:
        return self.capacity_at(step) == self.capacity_at(self.facts.num_steps)

    def state(self) -> dict[str, Any]:
        return super().state() | {"beta": self.steered_beta}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.steered_beta = state.get("beta", self.steered_beta)


class Controlled(CapacityRamp, Restarting):
    """Reconstruction + β·KL, with β adjusted so that the KL follows C."""

    name: ClassVar[str] = "controlled"
    summary: ClassVar[str] = (
        "reconstruction + β·KL, with β adjusted after every step so that the KL follows C (after Shao et al. 2020 and "
        "Rezende and Viola 2018)"
    )
    penalty_class: ClassVar[type[Penalty]] = _Penalty

    beta_start: float = Field(150.0, description="β at step 0.", ge=0.01, le=1e6)
    beta_least: float = Field(
        1.0,
        description=(
            "Least β. With 0 the KL follows C at any cost; with 1 C is an upper bound, since every nat of KL must "
            "lower the reconstruction loss by at least one nat."
        ),
        ge=0,
        le=1e6,
    )
    beta_gain: float = Field(
        0.05,
        description="Speed at which β is adjusted: log β changes by this value times (KL − C)/(1 + C) per step.",
        gt=0,
        le=1,
    )
    restart_fraction: float = Field(
        0.25,
        description="Share of the run after which the network is drawn anew, if restart_step is empty; 0: never.",
        ge=0,
        le=1,
    )

    @model_validator(mode="after")
    def _check_beta(self) -> Self:
        if self.beta_start < self.beta_least:
            raise ConfigError("beta_start", f"must be at least beta_least, which is {self.beta_least:g}")
        return self

    def capacity_at(self, step: int, least: float = 0.0) -> float:
        """Returns C at a step in nats, but at least `least`.

        The ramp ends at a restart, since the new network learns all factors at once.
        """
        if self.restart_step is not None and step >= self.restart_step:
            return max(self.capacity_max, least)
        return super().capacity_at(step, least)

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns the loss with C at capacity_max, in nats per image.

        The distance from C has weight 1: a nat of KL is worth at most one nat of reconstruction loss.
        """
        return reconstruction + abs(kl - self.capacity_max)

    def in_steps(self, num_steps: int, steps_per_epoch: int) -> Self:
        """Returns the objective with its lengths and its restart in steps."""
        inherited = super().in_steps(num_steps, steps_per_epoch)
        if self.restart_step is not None or self.restart_fraction == 0:
            return inherited
        return inherited.replace(restart_step=max(1, round(self.restart_fraction * num_steps)))

    def for_pictures(self, num_channels: int, latent_dim: int) -> Self:
        """Returns the objective with a value for restart_components.

        On sets like 3D Shapes and MPI3D the components find factors that a run without them misses; on faces they
        change nothing; on dSprites, which is grey, they cost 6 nats (docs/experiments.md).
        """
        if self.restart_components is None and self.restart_step is not None and num_channels == 3:
            return self.replace(restart_components=min(_COMPONENTS, latent_dim // 3))
        return super().for_pictures(num_channels, latent_dim)

    def for_trained_weights(self, given: Mapping[str, Any]) -> Self:
        """Returns the objective without a restart, unless `given` requests one."""
        fraction = given.get("restart_fraction")
        without = self.replace(restart_fraction=0.0 if fraction is None else fraction)
        return super(Controlled, without).for_trained_weights(given)

    def _is_settled(self, record: Record) -> bool:
        """Returns whether the run has ended; before that, a KL below C may still rise."""
        return record.step >= record.num_steps

    def _why_far(self, record: Record, distance: float) -> str:
        if distance >= 0:
            return ""
        beta = record.metrics["beta"]
        if beta > max(self.beta_least, LEAST_BETA):
            return f": β ({beta:.3g}) is still falling; take a longer run or a smaller beta_start"
        why = f": at β {beta:.3g} more KL would not lower the reconstruction loss enough"
        if self.restart_step is not None and not self.restart_components:
            why += ", unless the network missed something small in the images (restart_components can teach it)"
        return why
