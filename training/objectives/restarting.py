"""Settings of the restart, which revives pruned latents, for the objectives whose high initial β prunes them."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from models.config import MAX_STEPS, ConfigError, unit
from training.objectives.base import Objective, Record


class Restarting(Objective):
    """Settings of the restart (see training.restart)."""

    settled_by_run: ClassVar[tuple[str, ...]] = ("restart_components",)

    restart_step: int | None = Field(
        None,
        description=(
            "Step at which the network is drawn anew, with all latents alive. For restart_steps it learns the "
            "positions of the active dimensions from the old encoder, so that latents which a high β pruned come back. "
            "C is at its end from then on. Empty: restart_fraction decides (controlled), or there is no restart "
            "(annealed)."
        ),
        ge=1,
        le=MAX_STEPS,
        json_schema_extra=unit("steps"),
    )
    restart_steps: int | None = Field(
        None,
        description="Steps over which the old encoder's weight falls to 0 after a restart; empty: half of num_steps.",
        ge=1,
        le=MAX_STEPS,
        json_schema_extra=unit("steps"),
    )
    restart_components: int | None = Field(
        None,
        description=(
            "Number of latents that learn principal components of the old network's residual for restart_steps, namely "
            "those that carried least. The residual shows small things and colours, which training otherwise misses. "
            "It must be below latent_dim. Empty: 3, but at most a third of the latents, for pictures in colour with "
            "the objective controlled; else none. The setting has no effect without a restart."
        ),
        ge=0,
        le=64,
    )
    restart_axes: Literal["found", "independent"] = Field(
        "found",
        description=(
            "Angle of the latents that the new network learns from the old encoder at a restart. found: as they "
            "settled, which is partly arbitrary; independent: rotated until they are as independent as possible, which "
            "separates x and y of a sprite (experimental); with fewer than 2 000 images they stay as found. The "
            "setting has no effect without a restart."
        ),
    )

    @property
    def restart_at(self) -> int | None:
        """Step at which the network is drawn anew; None: never."""
        return self.restart_step

    def in_steps(self, num_steps: int, steps_per_epoch: int) -> Self:
        """Returns the objective with the length of its restart in steps."""
        inherited = super().in_steps(num_steps, steps_per_epoch)
        return inherited.replace(restart_steps=self.restart_steps or max(1, num_steps // 2))

    def for_pictures(self, num_channels: int, latent_dim: int) -> Self:
        """Returns the objective with a value for restart_components, which is 0 if unset."""
        if self.restart_components is not None:
            return self
        return self.replace(restart_components=0)

    def for_trained_weights(self, given: Mapping[str, Any]) -> Self:
        """Returns the objective without a restart, which would destroy the weights, unless `given` requests one."""
        return (
            super()
            .for_trained_weights(given)
            .replace(
                restart_step=given.get("restart_step"),
                restart_components=given.get("restart_components"),
                restart_axes=given.get("restart_axes") or "found",
            )
        )

    def check_run(self, batch_size: int, latent_dim: int) -> None:
        """Checks that at least one latent does not learn a component."""
        super().check_run(batch_size, latent_dim)
        if (self.restart_components or 0) >= latent_dim:
            raise ConfigError("restart_components", f"must be fewer than the {latent_dim} latents")

    def warnings(self, record: Record) -> dict[str, str]:
        """Returns warnings about a restart after the end of the run, and about settings that only a restart reads."""
        found = super().warnings(record)
        if (self.restart_step or 0) >= record.num_steps:
            found["no restart"] = f"the run ends before its restart: restart_step is {self.restart_step}"
        if self.restart_step is None:
            names = ("restart_components", "restart_axes")
            if given := [name for name in names if getattr(self, name) not in (None, 0, "found")]:
                found["unread restart"] = f"without a restart the run does not read {', '.join(given)}"
        return found
