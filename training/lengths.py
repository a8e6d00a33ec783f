"""Chooses a run's length and estimates its duration, from the set's size and the machine's speed; free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.config import ConfigError
from training.config import TrainingConfig

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


_LEAST_VALIDATION_STEPS = 200
"""A budget of time must allow one pass over the set, or this number of steps where a pass takes more."""


@dataclass(frozen=True)
class Estimate:
    """The expected length and duration of a run.

    Attributes:
        num_steps: Number of steps; None where it depends on a speed or a set that is unknown.
        seconds: Duration on this machine; None where the machine's speed is unknown.
        passes: Number of times that each training image is used; None where their number is unknown.
    """

    num_steps: int | None
    seconds: float | None
    passes: float | None

    def text(self) -> str:
        """Returns the estimate as the end of a sentence: "about 9 min on this machine; 12 000 steps, 250 passes"."""
        steps = f"{self.num_steps or 0:,}".replace(",", " ")
        passes = f"{self.passes or 0:.0f}" if (self.passes or 0) >= 10 else f"{self.passes or 0:.1f}"
        length = f"{steps} steps, {passes} passes"
        return length if self.seconds is None else f"{duration_text(self.seconds)} on this machine; {length}"

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, rounded to what an estimate can say."""
        return {
            "num_steps": self.num_steps,
            "seconds": None if self.seconds is None else round(self.seconds),
            "passes": None if self.passes is None else round(self.passes, 1),
        }


@dataclass(frozen=True)
class OpenLength:
    """The length of a run whose number of steps depends on the set and the machine.

    Attributes:
        minutes: A budget of time for the whole run; None: a length that suits the set.
        kept: Settings that the request names; they stay as they are where the preset's lengths are scaled.
        has_preset: True if the config's lengths are a preset's.
    """

    minutes: float | None
    kept: tuple[str, ...] = ()
    has_preset: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return {"minutes": self.minutes, "kept": list(self.kept), "has_preset": self.has_preset}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "OpenLength | None":
        """Reads what `to_json` wrote; None stands for a length that is not open."""
        return None if data is None else cls(data["minutes"], tuple(data["kept"]), data["has_preset"])

    def num_steps(
        self, config: TrainingConfig, num_training: int | None, images_per_second: float | None
    ) -> int | None:
        """Returns the number of steps, or None where what it depends on is unknown.

        Args:
            config: The run's config.
            num_training: Number of training images; None where it is unknown.
            images_per_second: The machine's speed; None where it is unknown.

        Raises:
            ConfigError: The budget is too short for one validation.
        """
        if self.minutes is None:
            if num_training is None:
                return None
            return suitable_steps(num_training, config.batch_size, images_per_second)
        if images_per_second is None:
            return None
        least = 1 if num_training is None else min(steps_per_pass(config, num_training), _LEAST_VALIDATION_STEPS)
        return steps_within(60 * self.minutes, config.batch_size, images_per_second, least)

    def laid_out(self, config: TrainingConfig, num_steps: int) -> TrainingConfig:
        """Returns the config with this number of steps, to which the lengths of a preset's objective are scaled.

        Args:
            config: The config, with the preset's length.
            num_steps: The new length of the run.
        """
        objective, changes = config.objective, {}
        for name, field in type(objective).model_fields.items():
            value, extra = getattr(objective, name), field.json_schema_extra
            unit = extra.get("unit") if isinstance(extra, dict) else None
            if not self.has_preset or not value or name in self.kept:
                continue
            if unit == "steps" and config.num_epochs is None:
                changes[name] = max(1, round(value * num_steps / config.num_steps))
            elif unit == "epochs" and config.num_epochs is not None:
                changes[name] = None
                changes[name.replace("epochs", "steps")] = max(1, round(value * num_steps / config.num_epochs))
        return config.replace(objective=objective.replace(**changes), num_steps=num_steps, num_epochs=None)


def open_length(given: Mapping[str, Any], *, has_preset: bool, minutes: float | None) -> OpenLength | None:
    """Returns the length of a run whose request leaves it open, or None where the request or its preset has one.

    Args:
        given: The settings that the request names.
        has_preset: True if it names a preset, which has a length.
        minutes: The budget of time; None for none.

    Raises:
        ConfigError: The budget stands beside a length.
    """
    is_stated = any(given.get(name) is not None for name in ("num_steps", "num_epochs"))
    if minutes is not None and is_stated:
        raise ConfigError("minutes", "excludes num_steps and num_epochs; give one of them")
    if is_stated or (has_preset and minutes is None):
        return None
    return OpenLength(minutes, tuple(sorted(name for name, value in given.items() if value is not None)), has_preset)


def speed_key(config: TrainingConfig) -> str:
    """Returns the settings on which the speed of a run mainly depends, as a text.

    An open number of channels counts as 3.
    """
    objective = config.objective.name if config.objective.use_of_batch else "plain"
    return f"{config.architecture}-{config.image_size}px-{config.num_channels or 3}-{config.batch_size}-{objective}"


def num_training_images(config: TrainingConfig, num_images: int) -> int:
    """Returns the number of training images of a set without a split of its own."""
    return num_images - min(round(num_images * config.validation_fraction), num_images - 1)


def steps_per_pass(config: TrainingConfig, num_training: int) -> int:
    """Returns the number of batches in one pass over the training images."""
    return max(1, num_training // config.batch_size)


def estimate_of(config: TrainingConfig, num_training: int | None, images_per_second: float | None) -> Estimate:
    """Estimates a run whose config has its length.

    Args:
        config: The run's config.
        num_training: Number of training images; None where it is unknown.
        images_per_second: The machine's speed; None where it is unknown.
    """
    num_steps: int | None = config.num_steps
    if config.num_epochs is not None:
        known = num_training is not None
        num_steps = max(1, round(config.num_epochs * steps_per_pass(config, num_training or 1))) if known else None
    if num_steps is None:
        return Estimate(None, None, config.num_epochs)
    return estimate(num_steps, config.batch_size, num_training, images_per_second)


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


def estimate(num_steps: int, batch_size: int, num_images: int | None, images_per_second: float | None) -> Estimate:
    """Estimates a run of known length.

    Args:
        num_steps: Number of steps.
        batch_size: Images per step.
        num_images: Number of training images; None where it is unknown.
        images_per_second: The machine's speed, or None where it is unknown.
    """
    seconds = None
    if images_per_second is not None:
        seconds = num_steps * batch_size / images_per_second + _OVERHEAD_SECONDS
    passes = None if num_images is None else num_steps * min(batch_size, num_images) / max(1, num_images)
    return Estimate(num_steps, seconds, passes)


def duration_text(seconds: float) -> str:
    """Returns a duration as people say it: "about 40 s", "about 9 min", "about 2 h 10 min"."""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60 // 10 * 10} min"
