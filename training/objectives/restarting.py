"""The restart that brings pruned latents back, for the objectives whose early pressure prunes them."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from models.config import ConfigError, unit
from training.objectives.base import Objective, Record


class Restarting(Objective):
    """Settings of the restart (see training.restart)."""

    settled_by_run: ClassVar[tuple[str, ...]] = ("restart_components",)

    restart_step: int | None = Field(
        None,
        description=(
            "Step at which the network is drawn anew, with every latent alive, and for restart_steps learns from the "
            "old encoder where the active dimensions lie: latents that early pressure pruned come back. C is at its "
            "end from then on. Empty: by restart_fraction (controlled), none (annealed)."
        ),
        ge=1,
        json_schema_extra=unit("steps"),
    )
    restart_steps: int | None = Field(
        None,
        description="Steps over which the old encoder's weight falls to 0 after a restart; empty: half of num_steps.",
        ge=1,
        json_schema_extra=unit("steps"),
    )
    restart_components: int | None = Field(
        None,
        description=(
            "How many latents, those that carried least, learn principal components of what the old network could not "
            "reproduce, for restart_steps: small things and colours, which training otherwise passes over. Fewer than "
            "latent_dim. Empty: 3, but at most a third of the latents, for pictures in colour where β is steered; else "
            "none. Without a restart it has no effect."
        ),
        ge=0,
        le=64,
    )
    restart_axes: Literal["found", "independent"] = Field(
        "found",
        description=(
            "At which angle the old encoder shows its latents at a restart. found: its own, which is luck in part; "
            "independent: turned to where they are as independent as can be, which sets x and y of a sprite apart "
            "(experimental); with fewer than 2 000 images they stay as found. Without a restart it has no effect."
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
        """Returns the objective with its number of restart_components, none where it was left open."""
        if self.restart_components is not None:
            return self
        return self.replace(restart_components=0)

    def for_trained_weights(self, given: Mapping[str, Any]) -> Self:
        """Returns the objective without a restart, which would throw the weights away, unless one is asked for."""
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
        """Checks that components leave a latent for something else."""
        super().check_run(batch_size, latent_dim)
        if (self.restart_components or 0) >= latent_dim:
            raise ConfigError("restart_components", f"must be fewer than the {latent_dim} latents")

    def warnings(self, record: Record) -> dict[str, str]:
        """Returns warnings of a restart that never comes, and of settings that only a restart reads."""
        found = super().warnings(record)
        if (self.restart_step or 0) >= record.num_steps:
            found["no restart"] = f"the run ends before its restart: restart_step is {self.restart_step}"
        if self.restart_step is None:
            names = ("restart_components", "restart_axes")
            if given := [name for name in names if getattr(self, name) not in (None, 0, "found")]:
                found["unread restart"] = f"without a restart the run does not read {', '.join(given)}"
        return found
