"""The length of a run of `betavae train`, chosen for the set and this machine where none is given."""

from pathlib import Path

from app.cli.output import note
from training.config import TrainingConfig
from training.data.packs import Pack
from training.lengths import OpenLength, estimate_of

_SHORT_STEPS = 500
"""A run of a stated length below this ends about as soon as its duration would be known."""


def with_length(
    config: TrainingConfig, pack: Pack, length: OpenLength | None, *, resumed: Path | None, device: str
) -> TrainingConfig:
    """Returns the config with a length that suits the set and this machine where none is given, and prints it.

    Args:
        config: The run's config, with its number of channels.
        pack: The images.
        length: The length that the command leaves open, or None where it has one.
        resumed: The folder of a run that goes on, whose length stays; None for a new run.
        device: The torch device.

    Raises:
        ConfigError: The budget is too short for one validation.
    """
    from training.calibration import measure_speed
    from training.checkpoints import newest_checkpoint
    from training.inputs import split_indices

    checkpoint = newest_checkpoint(resumed / "checkpoints") if resumed is not None else None
    if checkpoint is not None:
        return config if length is None else length.laid_out(config, checkpoint.state["config"]["num_steps"])
    if length is None and config.num_epochs is None and config.num_steps < _SHORT_STEPS:
        return config
    speed = measure_speed(config, device)
    num_training = len(split_indices(pack, config)[0])
    if length is not None:
        num_steps = length.num_steps(config, num_training, speed)
        assert num_steps is not None
        config = length.laid_out(config, num_steps)
    note(estimate_of(config, num_training, speed).text())
    return config


def note_extension(config: TrainingConfig, pack: Pack, folder: Path, extend_to: int, *, device: str) -> None:
    """Prints how long a finished run trains that goes on.

    Args:
        config: The run's config.
        pack: The images.
        folder: Folder of the run.
        extend_to: Number of steps at which the run ends.
        device: The torch device.
    """
    from training.calibration import measure_speed
    from training.checkpoints import newest_checkpoint
    from training.inputs import split_indices

    checkpoint = newest_checkpoint(folder / "checkpoints")
    num_steps = extend_to - (0 if checkpoint is None else checkpoint.step)
    if num_steps >= _SHORT_STEPS:
        num_training = len(split_indices(pack, config)[0])
        more = config.replace(num_steps=num_steps, num_epochs=None)
        note(estimate_of(more, num_training, measure_speed(config, device)).text())
