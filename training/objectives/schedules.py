"""Schedules: pure functions of the step."""

import math

LEAST_BETA = 1e-4
"""Of a β that is steered: nothing to a network, and yet not far from where β matters again."""


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


def steered_beta(beta: float, kl: float, capacity: float, *, gain: float, least: float) -> float:
    """β of the next step: higher while the KL is above C, lower while it is below, at least `least`.

    Integral control of log β, after ControlVAE (Shao et al. 2020) and GECO (Rezende and Viola 2018). The distance
    counts relative to 1 + C: the first nats, which come fast, are met as well as the last.
    Args: beta, of this step; kl, its batch mean, and capacity, nats; gain, change of log β for a distance of 1 + C.
    """
    change = gain * (kl - capacity) / (1 + capacity)
    # A KL that runs away must not overflow β in one step; 0 would be a β that never comes back.
    return min(max(beta * math.exp(min(max(change, -1.0), 1.0)), least, LEAST_BETA), 1e6)
