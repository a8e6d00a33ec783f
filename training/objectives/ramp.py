"""The capacity C of Burgess et al. 2018, which rises over a run, for the objectives that follow it."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from models.config import MAX_STEPS, unit
from training.objectives.base import Objective, Penalty, Record, RunFacts
from training.objectives.schedules import linear_ramp

PAPER_CAPACITY_STEPS = 100_000
"""Burgess et al. 2018 raise C over this many steps."""


class CapacityRamp(Objective):
    """Settings of a capacity C that changes linearly from its start to its end, and then stays constant."""

    capacity_start: float = Field(0.0, description="C at step 0.", ge=0, le=10_000, json_schema_extra=unit("nats"))
    capacity_max: float = Field(
        25.0,
        description="C at the end of its ramp; C falls if this is below capacity_start.",
        ge=0,
        le=10_000,
        json_schema_extra=unit("nats"),
    )
    capacity_steps: int | None = Field(
        None,
        description="Length of the ramp; empty: half of num_steps, but at most the paper's 100 000.",
        ge=0,
        le=MAX_STEPS,
        json_schema_extra=unit("steps"),
    )
    capacity_epochs: float | None = Field(
        None,
        description="Length of the ramp in epochs, instead of capacity_steps.",
        gt=0,
        le=100_000,
        json_schema_extra=unit("epochs"),
    )

    def capacity_at(self, step: int, least: float = 0.0) -> float:
        """Returns C at a step in nats, but at least `least`; lengths must already be in steps."""
        assert self.capacity_steps is not None
        return max(linear_ramp(step, self.capacity_start, self.capacity_max, self.capacity_steps), least)

    def in_steps(self, num_steps: int, steps_per_epoch: int) -> Self:
        """Returns the objective with its ramp in steps."""
        if self.capacity_epochs is not None:
            capacity_steps = round(self.capacity_epochs * steps_per_epoch)
        elif self.capacity_steps is not None:
            capacity_steps = self.capacity_steps
        else:
            capacity_steps = min(PAPER_CAPACITY_STEPS, num_steps // 2)
        return super().in_steps(num_steps, steps_per_epoch).replace(capacity_steps=capacity_steps, capacity_epochs=None)

    def with_ramp_of(self, share: float, num_steps: int, num_epochs: float | None) -> Self:
        """Returns the objective with a ramp over a share of the run."""
        if num_epochs is not None:
            return self.replace(capacity_steps=None, capacity_epochs=share * num_epochs)
        return self.replace(capacity_steps=round(share * num_steps), capacity_epochs=None)

    def warnings(self, record: Record) -> dict[str, str]:
        """Returns warnings about a KL far from C, and about a run that ends before the ramp."""
        found = super().warnings(record)
        assert record.final_capacity is not None
        if "capacity" in record.metrics and self._is_settled(record):
            capacity, kl = record.metrics["capacity"], record.metrics["kl"]
            if abs(kl - capacity) > 0.1 * (1 + capacity):
                found["far"] = f"the KL ({kl:.2f} nats) is far from its capacity ({capacity:.2f} nats)"
                found["far"] += self._why_far(record, kl - capacity)
        short_of = record.final_capacity - self.capacity_max
        if short_of * (self.capacity_start - self.capacity_max) > 0:
            found["short ramp"] = (
                f"the run ends before C has reached {self.capacity_max:g} nats: capacity_steps is {self.capacity_steps}"
            )
        return found

    def _is_settled(self, record: Record) -> bool:
        """Returns whether the KL should have settled at C."""
        return record.step >= record.num_steps or record.metrics["capacity"] == record.final_capacity

    def _why_far(self, record: Record, distance: float) -> str:
        """Returns the known reason why the KL is far from C, as the end of the warning; empty where none is known."""
        return ""


class CapacityPenalty(Penalty):
    """A penalty that follows C, and stores the least C that the initial weights allow."""

    objective: CapacityRamp

    def __init__(self, objective: CapacityRamp, facts: RunFacts) -> None:
        super().__init__(objective, facts)
        self.least_capacity = 0.0
        """Lower bound of C, in nats. Without it, C = 0 would press the KL of an initial model to 0."""

    def capacity_at(self, step: int) -> float:
        """Returns C at a step in nats."""
        return self.objective.capacity_at(step, self.least_capacity)

    def metrics(self, step: int) -> dict[str, float]:
        """Returns C, and β where it is a function of the step."""
        return {"capacity": self.capacity_at(step)} | super().metrics(step)

    def begin_from_model(self, kl: float) -> None:
        """Makes C begin at the model's KL, in nats."""
        self.least_capacity = min(kl, self.objective.capacity_max)

    def state(self) -> dict[str, Any]:
        """Returns the numbers that a checkpoint stores."""
        return {"least_capacity": self.least_capacity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the output of `state`."""
        self.least_capacity = state.get("least_capacity", 0.0)
