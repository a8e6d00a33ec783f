"""Schedules of the learning rate: pure functions of the step."""

import math
from dataclasses import dataclass

LEAST_FINISHING_STEPS = 100
FINISHING_SHARE = 0.25
"""Steps of the cooldown of a run that ends early, as a share of the steps that are done: with it, the cooldown is the
last fifth of the run, as it is in a run that goes to its end."""


@dataclass(frozen=True)
class Finishing:
    """The cooldown of a run that ends early: the learning rate falls linearly to 0 from step `begin` to step `end`."""

    begin: int
    end: int

    @classmethod
    def after(cls, step: int, num_steps: int) -> "Finishing | None":
        """Returns the cooldown of a run that is asked to end after `step`; None where its own end is nearer."""
        end = step + max(LEAST_FINISHING_STEPS, round(FINISHING_SHARE * step))
        return cls(step, end) if end < num_steps else None

    def factor(self, step: int) -> float:
        """Returns the factor on the learning rate that the run had at `begin`."""
        return max(0.0, (self.end - step) / (self.end - self.begin))


def cooldown(step: int, num_steps: int, *, share: float = 0.2) -> float:
    """Factor on the learning rate: 1, then falling linearly to 0 over the last `share` of the run.

    Zhai et al. 2022, section 3.5. γ·|KL − C| pushes with the same force however near C is; with a constant rate the
    weights go to and fro to the end, and the KL with them.
    """
    return min(1.0, max(0.0, (num_steps - step) / (share * num_steps)))


def cosine_decay(step: int, num_steps: int, *, hold: float = 1 / 3, floor: float = 0.01) -> float:
    """Factor on the learning rate: 1 for the first `hold` of the run, then half a cosine down to `floor`."""
    progress = (step / num_steps - hold) / (1 - hold)
    if progress <= 0:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
