"""What a run of `betavae train` begins with: its name, its settings, and the model or the run that it goes on from."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.cli.output import CliError, note
from app.cli.stores import Stores, num_channels, source_of
from models.config import ConfigError
from models.info import validate_name
from training.config import (
    TrainingConfig,
    check_initial_network,
    config_from_json,
    inherited_settings,
    over_inherited,
    settings_of_model,
)
from training.data.datasets import DatasetError, ImageFolder
from training.presets import resolve


def run_config(
    stores: Stores, preset: str | None, given: Mapping[str, Any], from_model: str | None, resumed: Path | None
) -> TrainingConfig:
    """Returns the settings of a run; those of the network come from the initial model where none are given.

    Args:
        stores: The stores.
        preset: Name of a preset, or None.
        given: The settings that the command names.
        from_model: Id of the initial model or path of its folder; None for no model.
        resumed: Folder of a run that goes on, whose checkpoint stands for the model; None for a new run.

    Raises:
        CliError: There is no such model.
        ConfigError: A setting is wrong.
    """
    if from_model is None:
        return resolve(preset, given)
    if resumed is None:
        inherited = settings_of_model(stores.model(from_model)[0])
    else:
        inherited = inherited_settings(_newest_state(resumed)["config"])
    return resolve(preset, over_inherited(inherited, given), from_model=True)


def extended_config(folder: Path, given: Mapping[str, Any]) -> TrainingConfig:
    """Returns the settings of a finished run, which --more-steps trains longer.

    Args:
        folder: Folder of the run.
        given: The settings that the command names, which must be those of the run.

    Raises:
        ConfigError: A setting is wrong.
    """
    return config_from_json(_newest_state(folder)["config"]).replace(**given)


def end_of_extension(folder: Path, more_steps: int) -> int:
    """Returns the number of steps at which a run ends that is to train longer.

    A run that was stopped within an earlier extension ends as that extension said.

    Args:
        folder: Folder of the run.
        more_steps: Number of steps beyond the run's end.

    Raises:
        CliError: The run has not ended.
    """
    from training.checkpoints import newest_checkpoint, planned_steps

    checkpoint = newest_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        raise CliError(f"{folder}: there is no finished run that could be trained longer")
    end = planned_steps(checkpoint)
    if checkpoint.step == end:
        return end + more_steps
    if checkpoint.state.get("extension") is None:
        raise CliError(
            f"{folder}: the run has not ended: it is at step {checkpoint.step} of {end}; the same command without "
            "--more-steps goes on, and --finish ends it early"
        )
    return end


def _newest_state(folder: Path) -> dict[str, Any]:
    """Returns the state of the newest checkpoint in a run's folder.

    Raises:
        CliError: There is no intact checkpoint.
    """
    from training.checkpoints import newest_checkpoint

    checkpoint = newest_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        raise CliError(f"{folder}: there is no intact checkpoint")
    return checkpoint.state


def check_output(stores: Stores, output: Path, dataset: str) -> None:
    """Checks that a run's folder is not the folder of the pictures, and does not contain it.

    In such a folder, the run's files would be taken for pictures, and its mark (training.data.sources.OWN_FILE) would
    hide the pictures.

    Raises:
        ConfigError: The folder contains the pictures.
    """
    with suppress(DatasetError):
        source = source_of(stores, dataset)
        if isinstance(source, ImageFolder) and source.path.resolve().is_relative_to(output.resolve()):
            raise ConfigError("--output", f"holds the pictures ({source.path}): choose another folder for the run")


def run_name(given: str | None, dataset: str) -> str:
    """Returns the name of a run, which is the given one or the name of the data set.

    Raises:
        ConfigError: The name is not allowed.
    """
    try:
        return validate_name(given or Path(dataset).resolve().stem)
    except ConfigError as error:
        raise error if given else ConfigError("--name", f"is missing: a name {error.message}") from None


def run_channels(stores: Stores, dataset: str, from_model: str | None, resumed: Path | None) -> int:
    """Returns the number of channels of a run whose settings have none.

    Args:
        stores: The stores.
        dataset: The data set, whose pictures decide for a new run.
        from_model: The model whose weights the run starts from, which decides before the pictures; None for no model.
        resumed: Folder of a resumed run, whose checkpoint decides before all others; None for a new run.
    """
    from training.checkpoints import newest_checkpoint

    if resumed is not None and (checkpoint := newest_checkpoint(resumed / "checkpoints")) is not None:
        return int(checkpoint.state["config"]["num_channels"])
    if from_model is not None:
        info, _ = stores.model(from_model)
        return info.network.num_channels
    return num_channels(stores, dataset)


def initial_weights(stores: Stores, name: str | None, config: TrainingConfig, resumed: Path | None) -> Path | None:
    """Returns the folder of the model whose weights a run starts from, or None.

    Args:
        stores: The stores.
        name: Id of the model or path of its folder; None for no model.
        config: The training settings.
        resumed: Folder of a resumed run, which needs no model; None for a new run.

    Raises:
        CliError: There is no such model.
        ConfigError: The model has another network.
    """
    if name is None:
        return None
    if resumed is not None:
        note(f"the run in {resumed} goes on from its checkpoint; --from counts only for a new run (--no-resume)")
        return None
    info, folder = stores.model(name)
    check_initial_network(config, info.network)
    note(f"starting from the weights of {info.name} at step 0 with a new optimizer; this does not resume its training")
    return folder
