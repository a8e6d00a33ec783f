"""How long a run should be, and how long it takes: from the size of the set and the speed of the machine. No torch."""

from dataclasses import dataclass

from models.config import ConfigError

PASSES = 250
"""Passes over the set that a run of unstated length makes, within the bounds below. With 3 000 faces skin, hair, shirt
and background each had a latent after 125 passes, with soft edges; more passes sharpen them (docs/experiments.md)."""
LEAST_STEPS, MOST_STEPS = 6_000, 20_000
LONGEST_SECONDS = 15 * 60
"""A run of unstated length is shorter on a slow machine, but has half of LEAST_STEPS at least."""
_OVERHEAD_SECONDS = 15.0
"""Validation, previews, labels and the sheet of a short run, beside its steps."""
_ROUND = 500


@dataclass(frozen=True)
class Estimate:
    """What a run comes to, said before it starts.

    Attributes:
        num_steps: Its steps.
        seconds: Its duration on this machine; None where the machine's speed is unknown.
        passes: How often it sees each training image.
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
    """Returns a length for a run that states none.

    Args:
        num_images: Training images.
        batch_size: Images a step.
        images_per_second: The machine's speed, where it is known.
    """
    steps = min(max(PASSES * num_images // batch_size, LEAST_STEPS), MOST_STEPS)
    if images_per_second is not None:
        affordable = int(LONGEST_SECONDS * images_per_second / batch_size)
        steps = min(steps, max(affordable, LEAST_STEPS // 2))
    return max(_ROUND, steps // _ROUND * _ROUND)


def steps_within(seconds: float, batch_size: int, images_per_second: float, least: int) -> int:
    """Returns how many steps fit into a budget of time.

    Args:
        seconds: The budget, all of the run.
        batch_size: Images a step.
        images_per_second: The machine's speed.
        least: Steps that a run needs for one validation.

    Raises:
        ConfigError: Fewer than `least` steps fit.
    """
    steps = int((seconds - min(_OVERHEAD_SECONDS, seconds / 3)) * images_per_second / batch_size)
    if steps < least:
        needed = duration_text(least * batch_size / images_per_second + _OVERHEAD_SECONDS)
        raise ConfigError("minutes", f"is too short for one validation of this set: it takes {needed}")
    return steps


def estimate(num_steps: int, batch_size: int, num_images: int, images_per_second: float | None) -> Estimate:
    """Returns what a run of a known length comes to.

    Args:
        num_steps: Its steps.
        batch_size: Images a step.
        num_images: Training images.
        images_per_second: The machine's speed, where it is known.
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
