"""Schedules of the learning rate, as pure functions of the step."""

import math
from dataclasses import dataclass

LEAST_FINISHING_STEPS = 100
"""Minimum length of that cooldown."""
FINISHING_SHARE = 0.25
"""Length of the cooldown of a run that ends early, as a share of the steps that are done. With this share the cooldown
is the last fifth of the run, as in a run of full length."""


@dataclass(frozen=True)
class Finishing:
    """Cooldown of a run that ends early, in which the learning rate falls linearly to 0 from step `begin` to `end`."""

    begin: int
    end: int

    @classmethod
    def after(cls, step: int, num_steps: int) -> "Finishing | None":
        """Returns the cooldown of a run that is requested to end after `step`, or None where its own end is nearer."""
        end = step + max(LEAST_FINISHING_STEPS, round(FINISHING_SHARE * step))
        return cls(step, end) if end < num_steps else None

    def factor(self, step: int) -> float:
        """Returns the factor on the learning rate at `begin` for the given step."""
        return max(0.0, (self.end - step) / (self.end - self.begin))


@dataclass(frozen=True)
class Extension:
    """More steps of a run that had ended, from step `begin` to `end`.

    C and β stay where they were at `begin`, and the learning rate runs through its schedule once more.
    """

    begin: int
    end: int


def cooldown(step: int, num_steps: int, *, share: float = 0.2) -> float:
    """Returns the factor on the learning rate, which is 1 and falls linearly to 0 over the last `share` of the run.

    The schedule follows Zhai et al. 2022, section 3.5. The gradient of γ·|KL − C| keeps its size however near C is, so
    with a constant rate the weights oscillate to the end, and the KL with them.

    Args:
        step: The step, counted from 0.
        num_steps: Length of the run, in steps.
        share: Share of the run over which the rate falls.
    """
    return min(1.0, max(0.0, (num_steps - step) / (share * num_steps)))


def cosine_decay(step: int, num_steps: int, *, hold: float = 1 / 3, floor: float = 0.01) -> float:
    """Returns the factor on the learning rate, which is first 1 and then falls along half a cosine.

    Args:
        step: The step, counted from 0.
        num_steps: Length of the run, in steps.
        hold: Share of the run over which the factor is 1.
        floor: The last factor.
    """
    progress = (step / num_steps - hold) / (1 - hold)
    if progress <= 0:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
