"""`betavae train`: the training loop on this machine, without a server."""

import fcntl
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.evaluate import MetricsOption, evaluate_pack, parse_metrics, show_evaluation
from app.cli.lengths import with_length
from app.cli.options import parse_pairs, with_options_of
from app.cli.output import CliError, note, progress
from app.cli.stores import Stores, has_changed, num_channels, open_stores, pack_of, source_of
from models.config import ConfigError
from models.info import ModelInfo, read_info, validate_name, write_info
from training.config import TrainingConfig, all_settings, check_initial_network, with_channels
from training.data.datasets import DatasetError, ImageFolder
from training.data.packs import Pack, keep_pack, kept_pack, release_pack
from training.data.sources import OWN_FILE
from training.presets import PRESETS, resolve
from worker.progress_text import progress_text

if TYPE_CHECKING:
    from models.networks import VAE
    from training.loop import TrainingResult
    from training.monitor import Progress

PANEL = "Training settings"


@with_options_of(all_settings(), PANEL)
def train(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="Data set: an id (see `betavae datasets`), or a folder or archive of images.",
            show_default="the preset's",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model and of the run.", show_default="preset or data set")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the run: checkpoints, metrics, previews, model.",
            show_default="runs/NAME in the data folder",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="KEY=VALUE", help="A training setting by its name; may be repeated."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            help="Go on from the newest checkpoint in the folder of the run, or begin anew: what the run left there is "
            "removed then, its model too."
        ),
    ] = True,
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--initial-model",
            metavar="MODEL",
            help="Start a new run from the weights of this model (an id or a folder) of the same network. Step "
            "and optimizer begin anew, C at the model's KL: this is no resuming.",
            show_default=False,
        ),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Compute disentanglement scores of the finished model.")
    ] = False,
    metrics: MetricsOption = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="A budget of time for the whole run; its schedules are laid out for the steps that fit.",
            show_default="a length that suits the set and this machine",
        ),
    ] = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="End a run that was stopped: cool down from its checkpoint over a quarter of its steps, and keep the "
            "model.",
        ),
    ] = False,
    register: Annotated[bool, typer.Option(help="Add the finished model to the models of the data folder.")] = True,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.", show_default="BETAVAE_DEVICE")] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a β-VAE. Ctrl-C writes a checkpoint; the same command goes on from there."""
    stores = open_stores(device)
    overrides = {**parse_pairs(all_settings(), config or ()), **settings}
    training_config = resolve(preset, overrides, from_model=from_model is not None)
    chosen = dataset or (PRESETS[preset].dataset if preset else None)
    if chosen is None:
        raise ConfigError("dataset", "is missing: name a data set or a folder, or a preset that has one")
    run_name = _run_name(name or preset, chosen)
    folder = output or stores.settings.home / "runs" / run_name
    _check_output(stores, folder, chosen)
    wanted = parse_metrics(metrics) if evaluate or metrics is not None else None
    resumed = folder if resume and any((folder / "checkpoints").glob("*.json")) else None
    if finish and resumed is None:
        raise CliError(f"{folder}: there is no checkpoint of a run to finish")
    if training_config.num_channels is None:
        found = _num_channels(stores, chosen, from_model, resumed)
        training_config = with_channels(training_config, found)
    initial = _initial_weights(stores, from_model, training_config, resumed)
    # A run that goes on keeps the images that it began with.
    pack = kept_pack(folder, training_config.preprocessing) if resumed is not None else None
    pack = pack or pack_of(stores, chosen, training_config.preprocessing, as_it_was=resumed is not None)
    if resumed is not None and has_changed(stores, chosen, pack):
        note(
            f"the pictures have changed since they were packed; the run goes on with the {pack.info.num_images} "
            "that it began with (--no-resume begins anew, with those of now)"
        )
    with _sole_run_in(folder):
        if resumed is None:
            keep_pack(pack, folder)
        note(f"{pack.info.num_images} images of {pack.info.name}; the run's folder is {folder}")
        training_config = with_length(
            training_config,
            pack,
            given=overrides,
            has_preset=preset is not None,
            minutes=minutes,
            resumed=resumed,
            device=stores.device(),
        )
        result = _run(stores, training_config, pack, folder, run_name, resume, initial, finish=finish)
        if result.outcome == "stopped":
            raise CliError(f"stopped at step {result.step}; the same command goes on from there")
        if result.outcome == "diverged":
            raise CliError(result.message)
        _finish(stores, folder / "model", chosen, pack, register, wanted)
        release_pack(folder)


def _run(
    stores: Stores,
    config: TrainingConfig,
    pack: Pack,
    folder: Path,
    name: str,
    resume: bool,
    initial: Path | None,
    *,
    finish: bool,
) -> "TrainingResult":
    """Trains, from the newest checkpoint in the folder on or anew, and shows how far it is. Raises CliError."""
    from training.checkpoints import CheckpointError, newest_checkpoint
    from training.device import is_out_of_memory
    from training.loop import FINISH
    from training.loop import train as run_loop

    if resume and (checkpoint := newest_checkpoint(folder / "checkpoints")) is not None:
        note(f"going on from step {checkpoint.step}")
        del checkpoint  # its tensors
    with progress(name) as report, _stop_asked_by_ctrl_c() as should_stop:

        def on_progress(state: "Progress") -> None:
            report(state.step, state.num_steps, progress_text(state.metrics, state.images_per_second))
            for warning in state.warnings:
                note(f"warning: {warning}")

        try:
            return run_loop(
                config,
                pack,
                run_folder=folder,
                name=name,
                device=stores.device(),
                resume=resume,
                initial_weights=initial,
                checkpoint_seconds=stores.settings.checkpoint_seconds,
                on_progress=on_progress,
                should_stop=(lambda: should_stop() or FINISH) if finish else should_stop,
            )
        except CheckpointError as error:
            raise CliError(
                f"{folder}: {error}; choose another --output, or --no-resume to begin anew, without what is there"
            ) from error
        except ValueError as error:
            raise CliError(str(error)) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            few = f"too little memory for batches of {config.batch_size} images: {error}"
            raise CliError(f"{few[:300]}; take a smaller batch_size") from error


@contextmanager
def _sole_run_in(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder, which is made; two would remove each other's records and model.

    Raises: CliError where another run writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OWN_FILE).open("ab") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(f"{folder}: another run is writing there; choose another --name or --output") from None
        except OSError:
            pass  # Some network file systems have no locks.
        yield


def _check_output(stores: Stores, output: Path, dataset: str) -> None:
    """Raises ConfigError where a run's folder would be the pictures' own or lie around it.

    What a run leaves would be taken for pictures, and its mark (training.data.sources.OWN_FILE) would hide
    the pictures.
    """
    with suppress(DatasetError):
        source = source_of(stores, dataset)
        if isinstance(source, ImageFolder) and source.path.resolve().is_relative_to(output.resolve()):
            raise ConfigError("--output", f"holds the pictures ({source.path}): choose a folder of the run's own")


def _run_name(given: str | None, dataset: str) -> str:
    """A run's name: what was given, or the data set's. Raises ConfigError."""
    try:
        return validate_name(given or Path(dataset).resolve().stem)
    except ConfigError as error:
        raise error if given else ConfigError("--name", f"is missing: a name {error.message}") from None


def _num_channels(stores: Stores, dataset: str, from_model: str | None, resumed: Path | None) -> int:
    """Of a run that leaves them open: those of the run that goes on or of the model that it starts from, or the
    pictures'.
    """
    from training.checkpoints import newest_checkpoint

    if resumed is not None and (checkpoint := newest_checkpoint(resumed / "checkpoints")) is not None:
        return int(checkpoint.state["config"]["num_channels"])
    if from_model is not None:
        info, _ = stores.model(from_model)
        return info.network.num_channels
    return num_channels(stores, dataset)


def _initial_weights(stores: Stores, name: str | None, config: TrainingConfig, resumed: Path | None) -> Path | None:
    """The folder of the model that a run starts from.

    Args: resumed, the folder of a run that goes on; None: a new one.
    Raises: ConfigError where the model has another network.
    """
    if name is None:
        return None
    if resumed is not None:
        note(f"the run in {resumed} goes on from its checkpoint; --from counts only where a run begins (--no-resume)")
        return None
    info, folder = stores.model(name)
    check_initial_network(config, info.network)
    note(f"starting from the weights of {info.name} at step 0, with a fresh optimizer: this is no resuming")
    return folder


def _finish(
    stores: Stores,
    folder: Path,
    dataset: str,
    pack: Pack,
    register: bool,
    metrics: tuple[str, ...] | None,
) -> None:
    """Names the model's dimensions and says where it is; the last line on standard output is its id, or its folder.

    Args: metrics, the scores to compute, None: no evaluation.
    """
    from models.files import load_model
    from training.device import is_out_of_memory
    from worker.rendering.labels import label_model

    info = read_info(folder)
    # the pack knows its folder's name alone
    info = replace(info, dataset={**info.dataset, "id": dataset})
    device = stores.device()
    network = load_model(folder, device).network
    info = label_model(network, info, pack, device=device)
    write_info(folder, info)
    floor = f" (floor {info.bernoulli_floor:.2f})" if (info.bernoulli_floor or 0) >= 0.005 else ""
    note(
        f"step {info.step}: reconstruction {info.reconstruction_loss:.2f} nats{floor}, "
        f"KL {sum(info.kl_per_dimension):.2f} nats, "
        f"{len(info.active_dimensions)} of {info.network.latent_dim} dimensions active"
    )
    model_id = (_registered(stores, info) or stores.models.add(folder)) if register else None
    try:
        if metrics is not None:
            _evaluate(stores, network, folder, model_id, info, pack, metrics)
    except (KeyboardInterrupt, ValueError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        why = "stopped" if isinstance(error, KeyboardInterrupt) else f"failed: {error or 'out of memory'}"
        note(f"warning: the evaluation {why}; `betavae evaluate {model_id or folder} --save` does it anew")
    print(model_id or folder)


def _registered(stores: Stores, info: ModelInfo) -> str | None:
    """The id of this very model, where the same command has finished before."""
    for record in stores.models.records():
        if record.info.weights_sha256 == info.weights_sha256 and record.info.name == info.name and not record.shipped:
            return record.id
    return None


def _evaluate(
    stores: Stores,
    network: "VAE",
    folder: Path,
    model_id: str | None,
    info: ModelInfo,
    pack: Pack,
    metrics: tuple[str, ...],
) -> None:
    """Scores of a finished run, on standard error and in model.json, the run's and the registered model's."""
    from worker.evaluations import save_scores, with_scores

    found = evaluate_pack(stores, network, info, pack, metrics, seed=0)
    show_evaluation(found, note)
    write_info(folder, with_scores(info, found, info.dataset["id"]))
    if model_id is not None:
        save_scores(stores.models, model_id, found, info.dataset["id"], info.weights_sha256)


@contextmanager
def _stop_asked_by_ctrl_c() -> Iterator[Callable[[], str | None]]:
    """Makes Ctrl-C and SIGTERM a reason to stop; a second Ctrl-C interrupts at once."""
    reasons: list[str] = []

    def ask(number: int, frame: FrameType | None) -> None:
        reasons.append(signal.Signals(number).name)
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: reasons[0] if reasons else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
