"""Schedules: pure functions of the step."""

import math


def linear_ramp(step: int, start: float, end: float, num_steps: int) -> float:
    """`start` at step 0, `end` from step `num_steps` on, a straight line between. The capacity C of Burgess, Eq. 8."""
    if step >= num_steps:
        return end
    return start + (end - start) * step / num_steps


def geometric_decay(step: int, start: float, end: float, num_steps: int) -> float:
    """`start` at step 0, `end` from step `num_steps` on, the same factor every step between."""
    if step >= num_steps:
        return end
    return float(start * (end / start) ** (step / num_steps))


def cosine_decay(step: int, num_steps: int, *, hold: float = 1 / 3, floor: float = 0.01) -> float:
    """Factor on the learning rate: 1 for the first `hold` of the run, then half a cosine down to `floor`."""
    progress = (step / num_steps - hold) / (1 - hold)
    if progress <= 0:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
