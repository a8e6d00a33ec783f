"""How long a run on this machine should be, for `betavae train`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.cli.output import note
from models.config import ConfigError
from training.config import TrainingConfig, with_lengths_in_steps
from training.data.packs import Pack
from training.lengths import estimate, steps_within, suitable_steps

_LENGTHS = ("num_steps", "num_epochs")
_SHORT_STEPS = 500
"""A run of a stated length below this is over about as soon as its duration would be known."""


def with_length(
    config: TrainingConfig,
    pack: Pack,
    *,
    given: Mapping[str, Any],
    has_preset: bool,
    minutes: float | None,
    resumed: Path | None,
    device: str,
) -> TrainingConfig:
    """Returns the config with a length that suits the set and this machine where none was given, and says it.

    Args:
        config: The run's config, with its number of channels.
        pack: The images.
        given: The settings that the command names.
        has_preset: True keeps the preset's length.
        minutes: A budget of time for the whole run; None for none.
        resumed: The folder of a run that goes on, whose length stays.
        device: The torch device.

    Raises:
        ConfigError: The budget stands beside a length, or is too short.
    """
    from training.calibration import measure_speed
    from training.checkpoints import newest_checkpoint

    is_stated = any(given.get(name) is not None for name in _LENGTHS)
    if minutes is not None and is_stated:
        raise ConfigError("minutes", "excludes num_steps and num_epochs; give one of them")
    checkpoint = newest_checkpoint(resumed / "checkpoints") if resumed is not None else None
    if checkpoint is not None:
        if is_stated or (has_preset and minutes is None):
            return config
        return config.replace(num_steps=checkpoint.state["config"]["num_steps"], num_epochs=None)
    if minutes is None and is_stated and config.num_epochs is None and config.num_steps < _SHORT_STEPS:
        return config
    speed = measure_speed(config, device)
    num_training = max(1, round(pack.info.num_images * (1 - config.validation_fraction)))
    steps_per_epoch = max(1, num_training // config.batch_size)
    if minutes is not None:
        num_steps = steps_within(60 * minutes, config.batch_size, speed, least=min(steps_per_epoch, 200))
        config = config.replace(num_steps=num_steps, num_epochs=None)
    elif not is_stated and not has_preset:
        config = config.replace(num_steps=suitable_steps(num_training, config.batch_size, speed))
    num_steps = with_lengths_in_steps(config, steps_per_epoch).num_steps
    note(estimate(num_steps, config.batch_size, num_training, speed).text())
    return config
