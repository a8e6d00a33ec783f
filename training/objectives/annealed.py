"""The annealed objective: reconstruction + β(t)·KL with a falling β, and a restart that revives pruned latents."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from models.config import MAX_STEPS, ConfigError, unit
from training.objectives.base import Record
from training.objectives.restarting import Restarting
from training.objectives.schedules import geometric_decay


class Annealed(Restarting):
    """Reconstruction + β(t)·KL, with β falling geometrically from beta_start to beta."""

    name: ClassVar[str] = "annealed"
    summary: ClassVar[str] = "reconstruction + β(t)·KL, β falling from beta_start to beta (ours, docs/experiments.md)"

    beta: float = Field(4.0, description="β at the end.", ge=0, le=1e6)
    beta_start: float | None = Field(
        150.0, description="β at step 0; empty: beta, which stays the same.", ge=0.01, le=1e6
    )
    anneal_steps: int = Field(
        3_000,
        description="Steps over which β falls geometrically from beta_start to beta.",
        ge=0,
        le=MAX_STEPS,
        json_schema_extra=unit("steps"),
    )

    @model_validator(mode="after")
    def _check_beta(self) -> Self:
        if self.beta == 0 and self.beta_start:
            raise ConfigError("beta", "must be above 0, since β falls to it by the same factor every step")
        return self

    def beta_at(self, step: int) -> float:
        """Returns β at a step."""
        if self.beta_start is None:
            return self.beta
        return geometric_decay(step, self.beta_start, self.beta, self.anneal_steps)

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns reconstruction + β·KL with the final β, in nats per image."""
        return reconstruction + self.beta * kl

    def for_trained_weights(self, given: Mapping[str, Any]) -> Self:
        """Returns the objective without a restart and with the final β from step 0, unless `given` sets these."""
        inherited = super().for_trained_weights(given)
        if self.beta_start is None or given.get("beta_start") is not None:
            return inherited
        return inherited.replace(beta_start=self.beta)

    def warnings(self, record: Record) -> dict[str, str]:
        """Returns warnings about the restart, and about a run that ends before β has fallen."""
        found = super().warnings(record)
        if self.beta_start not in (None, self.beta) and record.num_steps < self.anneal_steps:
            found["short"] = f"the run ends before β has fallen to {self.beta:g}: anneal_steps is {self.anneal_steps}"
        return found
