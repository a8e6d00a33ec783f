"""Chooses a run's length and estimates its duration, from the set's size and the machine's speed; free of torch."""

from dataclasses import dataclass

from models.config import ConfigError

PASSES = 250
"""Number of passes over the set in a run without a stated length, within the bounds below. With 3 000 faces, skin,
hair, shirt and background each had a latent after 125 passes, with soft edges; more passes sharpen them
(docs/experiments.md)."""
LEAST_STEPS, MOST_STEPS = 6_000, 20_000
LONGEST_SECONDS = 15 * 60
"""Longest duration of a run without a stated length. On a slow machine such a run is shorter, but has at least half of
LEAST_STEPS."""
_OVERHEAD_SECONDS = 15.0
"""Time that a short run takes beside its steps, for validation, previews, labels and the sheet."""
_ROUND = 500


@dataclass(frozen=True)
class Estimate:
    """The expected length and duration of a run.

    Attributes:
        num_steps: Number of steps.
        seconds: Duration on this machine; None where the machine's speed is unknown.
        passes: Number of times that each training image is used.
    """

    num_steps: int
    seconds: float | None
    passes: float

    def text(self) -> str:
        """Returns the estimate as the end of a sentence: "about 9 min on this machine; 12 000 steps, 250 passes"."""
        steps = f"{self.num_steps:,}".replace(",", " ")
        passes = f"{self.passes:.0f}" if self.passes >= 10 else f"{self.passes:.1f}"
        length = f"{steps} steps, {passes} passes"
        return length if self.seconds is None else f"{duration_text(self.seconds)} on this machine; {length}"


def suitable_steps(num_images: int, batch_size: int, images_per_second: float | None) -> int:
    """Returns the number of steps for a run without a stated length.

    Args:
        num_images: Number of training images.
        batch_size: Images per step.
        images_per_second: The machine's speed, or None where it is unknown.
    """
    steps = min(max(PASSES * num_images // batch_size, LEAST_STEPS), MOST_STEPS)
    if images_per_second is not None:
        affordable = int(LONGEST_SECONDS * images_per_second / batch_size)
        steps = min(steps, max(affordable, LEAST_STEPS // 2))
    return max(_ROUND, steps // _ROUND * _ROUND)


def steps_within(seconds: float, batch_size: int, images_per_second: float, least: int) -> int:
    """Returns the number of steps that fit into a time budget.

    Args:
        seconds: The budget for the whole run.
        batch_size: Images per step.
        images_per_second: The machine's speed.
        least: Number of steps that a run needs for one validation.

    Raises:
        ConfigError: Fewer than `least` steps fit.
    """
    steps = int((seconds - min(_OVERHEAD_SECONDS, seconds / 3)) * images_per_second / batch_size)
    if steps < least:
        needed = duration_text(least * batch_size / images_per_second + _OVERHEAD_SECONDS)
        raise ConfigError("minutes", f"is too short for one validation of this set: it takes {needed}")
    return steps


def estimate(num_steps: int, batch_size: int, num_images: int, images_per_second: float | None) -> Estimate:
    """Estimates a run of known length.

    Args:
        num_steps: Number of steps.
        batch_size: Images per step.
        num_images: Number of training images.
        images_per_second: The machine's speed, or None where it is unknown.
    """
    seconds = None
    if images_per_second is not None:
        seconds = num_steps * batch_size / images_per_second + _OVERHEAD_SECONDS
    return Estimate(num_steps, seconds, num_steps * min(batch_size, num_images) / max(1, num_images))


def duration_text(seconds: float) -> str:
    """Returns a duration as people say it: "about 40 s", "about 9 min", "about 2 h 10 min"."""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60 // 10 * 10} min"
