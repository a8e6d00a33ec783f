"""The length of a run of `betavae train`, chosen for the set and this machine where none is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.output import note
from models.config import ConfigError
from training.config import TrainingConfig, with_lengths_in_steps
from training.data.packs import Pack
from training.lengths import estimate, steps_within, suitable_steps

_SHORT_STEPS = 500
"""A run of a stated length below this ends about as soon as its duration would be known."""


@dataclass(frozen=True)
class RequestedLength:
    """What a command says about the length of its run.

    Attributes:
        is_stated: True if it names a number of steps or epochs.
        has_preset: True if it names a preset, which has a length.
        minutes: A budget of time for the whole run; None for none.
    """

    is_stated: bool
    has_preset: bool
    minutes: float | None


def requested_length(given: Mapping[str, Any], *, has_preset: bool, minutes: float | None) -> RequestedLength:
    """Returns what a command says about the length of its run.

    Args:
        given: The settings that the command names.
        has_preset: True if it names a preset.
        minutes: The budget of time; None for none.

    Raises:
        ConfigError: The budget stands beside a length.
    """
    is_stated = any(given.get(name) is not None for name in ("num_steps", "num_epochs"))
    if minutes is not None and is_stated:
        raise ConfigError("minutes", "excludes num_steps and num_epochs; give one of them")
    return RequestedLength(is_stated, has_preset, minutes)


def with_length(
    config: TrainingConfig, pack: Pack, length: RequestedLength, *, resumed: Path | None, device: str
) -> TrainingConfig:
    """Returns the config with a length that suits the set and this machine where none is given, and prints it.

    Args:
        config: The run's config, with its number of channels.
        pack: The images.
        length: The length that was requested.
        resumed: The folder of a run that goes on, whose length stays; None for a new run.
        device: The torch device.

    Raises:
        ConfigError: The budget is too short for one validation.
    """
    from training.calibration import measure_speed
    from training.checkpoints import newest_checkpoint

    checkpoint = newest_checkpoint(resumed / "checkpoints") if resumed is not None else None
    if checkpoint is not None:
        if length.is_stated or (length.has_preset and length.minutes is None):
            return config
        return config.replace(num_steps=checkpoint.state["config"]["num_steps"], num_epochs=None)
    if length.is_stated and config.num_epochs is None and config.num_steps < _SHORT_STEPS:
        return config
    speed = measure_speed(config, device)
    num_training = max(1, round(pack.info.num_images * (1 - config.validation_fraction)))
    steps_per_epoch = max(1, num_training // config.batch_size)
    if length.minutes is not None:
        least = min(steps_per_epoch, 200)
        config = config.replace(
            num_steps=steps_within(60 * length.minutes, config.batch_size, speed, least), num_epochs=None
        )
    elif not length.is_stated and not length.has_preset:
        config = config.replace(num_steps=suitable_steps(num_training, config.batch_size, speed))
    num_steps = with_lengths_in_steps(config, steps_per_epoch).num_steps
    note(estimate(num_steps, config.batch_size, num_training, speed).text())
    return config
