"""`betavae train`: trains a model on this machine, without a server."""

import fcntl
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.evaluate import MetricsOption, parse_metrics
from app.cli.finish import finish_run
from app.cli.lengths import note_extension, with_length
from app.cli.options import DeviceOption, parse_pairs, with_options_of
from app.cli.output import CliError, note, progress
from app.cli.run_start import (
    check_output,
    end_of_extension,
    extended_config,
    initial_weights,
    run_channels,
    run_config,
    run_name,
)
from app.cli.seeds import Failures, RunStopped, SeedsOption, parse_seeds, runs_of_seeds
from app.cli.stores import Stores, has_changed, open_stores, pack_of
from models.config import MAX_STEPS, ConfigError
from training.config import TrainingConfig, all_settings, with_channels
from training.data.packs import Pack, keep_pack, kept_pack, label_warnings, left_out_text, release_pack
from training.data.sources import OWN_FILE
from training.lengths import OpenLength, open_length
from training.presets import PRESETS
from worker.progress_text import losses_text
from worker.stores.ids import slug

if TYPE_CHECKING:
    from training.loop import TrainingResult
    from training.monitor import Progress

PANEL = "Training settings"
MinutesOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="A budget of time for the whole run, whose schedules are laid out for the steps that fit.",
        show_default="a length that suits the set and this machine",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        help="Go on from the newest checkpoint in the folder of the run, or begin anew, which removes what an "
        "earlier run left in the folder, including its model."
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        "--initial-model",
        metavar="MODEL",
        help="Start a new run from the weights of this model (a name, an id or a folder), with its network "
        "settings. The run does not resume the model's training: step and optimizer begin anew, and C begins at "
        "the model's KL.",
        show_default=False,
    ),
]
MoreStepsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_STEPS,
        help="Train a finished run longer, with its settings and its optimizer state: C and β stay where they ended, "
        "and the learning rate runs through its schedule once more.",
        show_default=False,
    ),
]
FinishOption = Annotated[
    bool,
    typer.Option(
        "--finish",
        help="End a run that was stopped: cool down from its checkpoint over a quarter of its steps, keep the model.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the command.

    Attributes:
        dataset: Id of the data set, or path of the folder or archive of its pictures.
        config: The training settings.
        name: Name of the run and of its model.
        folder: Folder of the run.
        resume: False removes what an earlier run left in the folder.
        is_resumed: True if the run goes on from a checkpoint in the folder.
        initial_weights: Folder of the model whose weights a new run starts from; None starts from random weights.
        length: The length that the command leaves open, or None where it has one.
        finish: True cools a stopped run down from its checkpoint.
        extend_to: Number of steps at which a finished run ends that trains longer; None for other runs.
    """

    dataset: str
    config: TrainingConfig
    name: str
    folder: Path
    resume: bool
    is_resumed: bool
    initial_weights: Path | None
    length: OpenLength | None
    finish: bool
    extend_to: int | None


DatasetArgument = Annotated[
    str | None,
    typer.Argument(
        help="The id of a data set (see `betavae datasets`), or a folder or archive of images.",
        show_default="the preset's",
    ),
]
PresetOption = Annotated[
    str | None, typer.Option(help=f"The settings to start from: {', '.join(PRESETS)}.", show_default=False)
]


@with_options_of(all_settings(), PANEL)
def train(
    dataset: DatasetArgument = None,
    preset: PresetOption = None,
    name: Annotated[
        str | None, typer.Option(help="The name of the run and of its model.", show_default="preset or data set")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder of the run, for checkpoints, metrics, previews and the model.",
            show_default="runs/NAME in the data folder",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="KEY=VALUE", help="A training setting by its name; may be repeated."),
    ] = None,
    resume: ResumeOption = True,
    from_model: FromOption = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Compute disentanglement scores of the finished model.")
    ] = False,
    metrics: MetricsOption = None,
    minutes: MinutesOption = None,
    more_steps: MoreStepsOption = None,
    finish: FinishOption = False,
    seeds: SeedsOption = None,
    register: Annotated[bool, typer.Option(help="Add the finished model to the models of the data folder.")] = True,
    device: DeviceOption = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a β-VAE. Ctrl-C writes a checkpoint, from which the same command goes on."""
    stores = open_stores(device)
    given = {**parse_pairs(all_settings(), config or ()), **settings}
    numbers = parse_seeds(seeds, given)
    length = open_length(given, has_preset=preset is not None, minutes=minutes)
    dataset = dataset or (PRESETS[preset].dataset if preset else None)
    if dataset is None:
        raise ConfigError("dataset", "is missing: name a data set or a folder, or a preset that has one")
    dataset = stores.dataset(dataset)
    name = run_name(name or preset, dataset)
    folder = output or stores.settings.home / "runs" / name
    check_output(stores, folder, dataset)
    scores = parse_metrics(metrics) if evaluate or metrics is not None else None
    if more_steps is not None and (minutes or preset or from_model or finish or seeds or not resume):
        raise ConfigError("--more-steps", "goes on with a finished run; give it with --name or --output alone")
    failures = Failures(numbers)
    for one, one_name, one_folder in runs_of_seeds(given, name, folder, numbers):
        is_resumed = resume and any((one_folder / "checkpoints").glob("*.json"))
        extend_to = None
        if more_steps is None:
            training_config = run_config(stores, preset, one, from_model, one_folder if is_resumed else None)
        else:
            extend_to = end_of_extension(one_folder, more_steps)
            training_config, length = extended_config(one_folder, one), None
        run = Run(
            dataset=dataset,
            config=training_config,
            name=one_name,
            folder=one_folder,
            resume=resume,
            is_resumed=is_resumed,
            initial_weights=None,
            length=length,
            finish=finish,
            extend_to=extend_to,
        )
        with failures.noted(training_config.seed):
            try:
                print(train_and_finish(stores, prepared(stores, run, from_model), register, scores))
            except RunStopped as stopped:
                raise RunStopped(f"{stopped}, and with --finish it cools down and keeps its model") from None
    failures.raise_any()


def prepared(stores: Stores, run: Run, from_model: str | None) -> Run:
    """Returns the run with the pictures' number of channels and the folder of the initial weights.

    Raises:
        CliError: There is no such data set or model, or no run to finish.
        ConfigError: The model of --from has another network.
    """
    if run.finish and not run.is_resumed:
        raise CliError(f"{run.folder}: there is no checkpoint of a run to finish")
    resumed, config = run.folder if run.is_resumed else None, run.config
    if config.num_channels is None:
        config = with_channels(config, run_channels(stores, run.dataset, from_model, resumed))
    return replace(run, config=config, initial_weights=initial_weights(stores, from_model, config, resumed))


def train_and_finish(stores: Stores, run: Run, register: bool, metrics: tuple[str, ...] | None) -> str | Path:
    """Trains a run, and finishes its model.

    Args:
        stores: The stores.
        run: The run.
        register: True adds the model to the models of the data folder.
        metrics: Names of the scores to compute of the model; None makes no evaluation.

    Returns:
        The id of the registered model, or the folder of one that is not registered.

    Raises:
        RunStopped: A signal came.
        CliError: The run diverged or could not begin.
    """
    pack = _pack(stores, run)
    with _sole_run_in(run.folder):
        if not run.is_resumed:
            keep_pack(pack, run.folder)
        folder = run.folder if run.is_resumed else None
        config = with_length(run.config, pack, run.length, resumed=folder, device=stores.device())
        if run.extend_to is not None:
            note_extension(config, pack, run.folder, run.extend_to, device=stores.device())
        note(f"{pack.info.num_images} images of {pack.info.name}; the run's folder is {run.folder}")
        note(f"curves: tensorboard --logdir_spec {slug(run.name)}:{run.folder / 'tensorboard'}")
        result = _train(stores, replace(run, config=config), pack)
        if result.outcome == "stopped":
            raise RunStopped(f"stopped at step {result.step}; the same command goes on from there")
        if result.outcome == "diverged":
            raise CliError(result.message)
        model = finish_run(stores, run.folder / "model", run.dataset, pack, register, metrics)
        release_pack(run.folder)
        return model


def _pack(stores: Stores, run: Run) -> Pack:
    """Returns the images of a run; a resumed run keeps those that it began with."""
    pack = kept_pack(run.folder, run.config.preprocessing) if run.is_resumed else None
    pack = pack or pack_of(stores, run.dataset, run.config.preprocessing, as_it_was=run.is_resumed)
    if run.is_resumed and has_changed(stores, run.dataset, pack):
        note(
            f"the pictures have changed since they were packed; the run goes on with the {pack.info.num_images} "
            "that it began with (--no-resume begins anew with the current ones)"
        )
    if not run.is_resumed and (text := left_out_text(pack.folder)) is not None:
        note(text)
    for text in label_warnings(pack.folder):
        note(f"warning: {text}")
    return pack


def _train(stores: Stores, run: Run, pack: Pack) -> "TrainingResult":
    """Trains from the newest checkpoint in the folder or anew, and shows the progress.

    Args:
        stores: The stores.
        run: The run.
        pack: Its images.

    Raises:
        CliError: The checkpoint does not fit the settings, or there is too little memory.
    """
    from training.checkpoints import CheckpointError, newest_checkpoint
    from training.device import is_out_of_memory
    from training.loop import FINISH
    from training.loop import train as run_loop

    if run.resume and (checkpoint := newest_checkpoint(run.folder / "checkpoints")) is not None:
        note(f"going on from step {checkpoint.step}")
        del checkpoint  # It holds tensors.
    with progress(run.name) as report, _stop_requests() as should_stop:

        def on_progress(state: "Progress") -> None:
            report(state.step, state.num_steps, losses_text(state.metrics, state.images_per_second))
            for warning in state.warnings:
                note(f"warning: {warning}")

        try:
            return run_loop(
                run.config,
                pack,
                run_folder=run.folder,
                name=run.name,
                device=stores.device(),
                resume=run.resume,
                extend_to=run.extend_to,
                initial_weights=run.initial_weights,
                checkpoint_seconds=stores.settings.checkpoint_seconds,
                on_progress=on_progress,
                should_stop=(lambda: should_stop() or FINISH) if run.finish else should_stop,
            )
        except CheckpointError as error:
            raise CliError(
                f"{run.folder}: {error}; to train a finished run longer with its own settings, give --more-steps; "
                "otherwise choose another --name or --output, or begin anew with --no-resume, which removes what is "
                "there"
            ) from error
        except ValueError as error:
            raise CliError(str(error)) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = f"too little memory for batches of {run.config.batch_size} images: {error}"
            raise CliError(f"{reason[:300]}; take a smaller batch_size") from error


@contextmanager
def _sole_run_in(folder: Path) -> Iterator[None]:
    """Makes a folder, and keeps other runs out of it: two runs would remove each other's records and model.

    Raises:
        CliError: Another run writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OWN_FILE).open("ab") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(
                f"{folder}: another run is writing there; stop that one first, or choose another --name or --output"
            ) from None
        except OSError:
            pass  # Some network file systems have no locks.
        yield


@contextmanager
def _stop_requests() -> Iterator[Callable[[], str | None]]:
    """Yields a function that returns the name of the signal, SIGINT or SIGTERM, that asks to stop, or None.

    A second Ctrl-C interrupts at once.
    """
    reasons: list[str] = []

    def request_stop(number: int, frame: FrameType | None) -> None:
        reasons.append(signal.Signals(number).name)
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: reasons[0] if reasons else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
