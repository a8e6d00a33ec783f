"""Schedules of objectives, as pure functions of the step."""

import math

LEAST_BETA = 1e-4
"""Least value of an adjusted β. It has no effect on a network, but is close enough to values that do."""


def linear_ramp(step: int, start: float, end: float, num_steps: int) -> float:
    """Returns `start` at step 0, `end` from step `num_steps` on, and a straight line between them.

    The capacity C of Burgess et al. 2018, Eq. 8, follows this ramp.

    Args:
        step: The step, counted from 0.
        start: The first value.
        end: The last value.
        num_steps: Length of the ramp, in steps.
    """
    if step >= num_steps:
        return end
    return start + (end - start) * step / num_steps


def cosine_ramp(step: int, start: float, end: float, num_steps: int) -> float:
    """Returns `start` at step 0, `end` from step `num_steps` on, and half a wave of a cosine between them.

    Args:
        step: The step, counted from 0.
        start: The first value.
        end: The last value.
        num_steps: Length of the ramp, in steps.
    """
    if step >= num_steps:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / num_steps)) / 2


def geometric_decay(step: int, start: float, end: float, num_steps: int) -> float:
    """Returns `start` at step 0, `end` from step `num_steps` on, and a constant factor per step between them.

    Args:
        step: The step, counted from 0.
        start: The first value, above 0.
        end: The last value, above 0.
        num_steps: Length of the decay, in steps.
    """
    if step >= num_steps:
        return end
    return float(start * (end / start) ** (step / num_steps))


def steered_beta(beta: float, kl: float, capacity: float, *, gain: float, least: float) -> float:
    """Returns β of the next step, which rises while the KL is above C and falls while it is below.

    This is integral control of log β, after ControlVAE (Shao et al. 2020) and GECO (Rezende and Viola 2018). The
    distance is relative to 1 + C, so that the KL follows the first nats, which come fast, as well as the last.

    Args:
        beta: β of this step.
        kl: Batch mean of the KL, nats.
        capacity: C, nats.
        gain: Change of log β for a distance of 1 + C.
        least: Least β.
    """
    change = gain * (kl - capacity) / (1 + capacity)
    # The bounds keep a diverging KL from overflowing β in one step, and β from reaching 0, where it would stay.
    return min(max(beta * math.exp(min(max(change, -1.0), 1.0)), least, LEAST_BETA), 1e6)
