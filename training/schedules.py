"""Schedules of the learning rate: pure functions of the step."""

import math


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
