"""`betavae sweep`: trains a grid or a list of settings on this machine, without a server, and compares the models."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.evaluate import MetricsOption, parse_metrics
from app.cli.options import DeviceOption, parse_pairs, with_options_of
from app.cli.output import CliError, note
from app.cli.run_start import check_output, run_config, run_name
from app.cli.seeds import RunStopped, SeedsOption, parse_seeds
from app.cli.stores import Stores, open_stores, pack_of
from app.cli.sweep_results import print_results, result_of, write_results
from app.cli.train import (
    PANEL,
    DatasetArgument,
    FromOption,
    MinutesOption,
    PresetOption,
    Run,
    prepared,
    train_and_finish,
)
from models.atomic import write_bytes
from models.config import ConfigError
from training.config import all_settings, config_to_json
from training.lengths import open_length
from training.presets import PRESETS
from worker.stores.ids import MAX_SLUG_LENGTH, slug
from worker.stores.models import UnknownModel
from worker.sweeps.grid import cell_text, expand, label_of, member_name, settings_key
from worker.sweeps.summary import MemberResult

if TYPE_CHECKING:
    from models.networks import VAE
    from worker.sweeps.comparison import Candidate

DONE_FILE = "member.json"
"""The file in a member's folder that names its model and the settings of the training."""


GridOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        "-g",
        metavar="KEY=V1,V2",
        help="The values of a setting; may be repeated, and the values are combined in every way.",
    ),
]
MemberOption = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        metavar="KEY=VALUE,…",
        help="In the place of a grid: the settings of one training; may be repeated.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A training of the sweep."""

    settings: dict[str, Any]
    run: Run


@with_options_of(all_settings(), PANEL)
def sweep(
    dataset: DatasetArgument = None,
    grid: GridOption = None,
    member: MemberOption = None,
    seeds: SeedsOption = None,
    preset: PresetOption = None,
    name: Annotated[
        str | None, typer.Option(help="The name of the sweep.", show_default="preset or data set, and -sweep")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder of the sweep: a folder for each run, sweep.json, table.csv, figure.png and sheet.png.",
            show_default="runs/NAME in the data folder",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="KEY=VALUE", help="A setting that all share; may be repeated."),
    ] = None,
    from_model: FromOption = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Compute disentanglement scores of each model, for a set with factors.")
    ] = False,
    metrics: MetricsOption = None,
    minutes: MinutesOption = None,
    make_default: Annotated[
        bool, typer.Option("--make-default", help="Make the chosen model the default model.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    device: DeviceOption = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a grid or a list of settings, and choose a model without labels.

    The runs are made one after another; the same command goes on where it was stopped. A run that fails does not end
    the sweep.
    """
    stores = open_stores(device)
    shared = {**parse_pairs(all_settings(), config or ()), **settings}
    dataset = dataset or (PRESETS[preset].dataset if preset in PRESETS else None)
    if dataset is None:
        raise ConfigError("dataset", "is missing: name a data set or a folder, or a preset that has one")
    dataset = stores.dataset(dataset)
    name = run_name(name or f"{run_name(preset, dataset)}-sweep", dataset)
    folder = output or stores.settings.home / "runs" / name
    check_output(stores, folder, dataset)
    scores = parse_metrics(metrics) if evaluate or metrics is not None else None
    cells = _cells(grid, member, seeds, shared)
    members = [
        _member(stores, preset, shared, cell, from_model, minutes, dataset, name, folder / of_run, index)
        for index, (cell, of_run) in enumerate(zip(cells, folder_names(cells), strict=True))
    ]
    results = [_train(stores, one, index, len(members), from_model, scores) for index, one in enumerate(members)]
    found = _compare(stores, dataset, results, name, folder)
    if make_default and found is not None:
        stores.models.set_default(found["winner"]["model"])
        note(f"{found['winner']['model']} is the default model now")
    text = write_results(folder, name, dataset, results, found)
    if as_json:
        print(text)
    else:
        print_results(results, found, folder)
    if found is None:
        raise CliError("no run of the sweep has made a model")


def _cells(
    grid: list[str] | None, members: list[str] | None, seeds: str | None, shared: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Returns the settings in which each run differs from the others.

    Raises:
        ConfigError: An option cannot be read, or there is nothing to sweep over.
    """
    numbers = parse_seeds(seeds, shared)
    if members:
        listed = [dict(parse_pairs(all_settings(), text.split(","))) for text in members]
        if grid:
            raise ConfigError("--member", "excludes --grid")
        return expand(None, [{**one, "seed": seed} for seed in numbers for one in listed] or listed, shared)
    values: dict[str, list[Any]] = {}
    for text in grid or ():
        key, equals, listed_values = text.partition("=")
        if not equals:
            raise ConfigError("--grid", f"expected KEY=V1,V2, not {text!r}")
        pairs = [dict(parse_pairs(all_settings(), [f"{key}={value}"])) for value in listed_values.split(",")]
        values |= {name: [pair[name] for pair in pairs] for name in pairs[0]}
    if numbers:
        if "seed" in values:
            raise ConfigError("seeds", "excludes seed in --grid; give one of them")
        values = {"seed": list(numbers), **values}
    if not values:
        raise ConfigError("--grid", "is missing: give --grid, --member or --seeds")
    return expand(values, None, shared)


def folder_names(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the name of each run's folder: its settings, and a digest where these are too long or not unique.

    The names do not depend on the order of the runs, so that a larger sweep finds the folders of a smaller one.
    """
    labels = [label_of(cell) for cell in cells]
    slugs = [slug(label) for label in labels]
    names = []
    for cell, label, short in zip(cells, labels, slugs, strict=True):
        if len(label) <= MAX_SLUG_LENGTH and slugs.count(short) == 1:
            names.append(short)
        else:
            names.append(f"{short}-{hashlib.sha256(settings_key(cell).encode()).hexdigest()[:8]}")
    return names


def _member(
    stores: Stores,
    preset: str | None,
    shared: Mapping[str, Any],
    cell: dict[str, Any],
    from_model: str | None,
    minutes: float | None,
    dataset: str,
    name: str,
    run_folder: Path,
    index: int,
) -> _Member:
    """Returns one run of the sweep with its settings checked.

    Raises:
        ConfigError: The settings contradict each other; the message names the cell.
    """
    is_resumed = any((run_folder / "checkpoints").glob("*.json"))
    given = {**shared, **cell}
    try:
        training_config = run_config(stores, preset, given, from_model, run_folder if is_resumed else None)
        length = open_length(given, has_preset=preset is not None, minutes=minutes)
    except ConfigError as error:
        if error.field == "preset":
            raise
        raise ConfigError("grid", f"cell {cell_text(cell)}: {error.field}: {error.message}") from None
    run = Run(
        dataset=dataset,
        config=training_config,
        name=member_name(name, index, cell),
        folder=run_folder,
        resume=True,
        is_resumed=is_resumed,
        initial_weights=None,
        length=length,
        finish=False,
        extend_to=None,
    )
    return _Member(settings=cell, run=run)


def _train(
    stores: Stores, member: _Member, index: int, count: int, from_model: str | None, scores: tuple[str, ...] | None
) -> MemberResult:
    """Returns a member with its model, which it trains unless an earlier command has done so.

    Raises:
        RunStopped: A signal came.
    """
    run, words = member.run, f"{label_of(member.settings)}, run {index + 1} of {count}"
    config = config_to_json(run.config)
    model = _model_of(stores, run.folder, config)
    if model is not None:
        note(f"{words}: {model} is there already")
        return result_of(stores, member.settings, index, run.name, model)
    note(words)
    try:
        model = str(train_and_finish(stores, prepared(stores, run, from_model), True, scores))
    except RunStopped:
        raise
    except CliError as error:
        note(f"warning: {label_of(member.settings)}: {error}")
        return MemberResult(
            index=index, name=run.name, settings=member.settings, status="failed",
            error={"code": "failed", "message": str(error)},
        )  # fmt: skip
    write_bytes(run.folder / DONE_FILE, json.dumps({"model": model, "config": config}).encode())
    return result_of(stores, member.settings, index, run.name, model)


def _model_of(stores: Stores, folder: Path, config: Mapping[str, Any]) -> str | None:
    """Returns the model that an earlier command has made of these settings, or None."""
    try:
        done = json.loads((folder / DONE_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return done["model"] if done.get("config") == config and stores.models.exists(done["model"]) else None


def _compare(
    stores: Stores, dataset: str, results: list[MemberResult], name: str, folder: Path
) -> dict[str, Any] | None:
    """Compares the models, and draws figure and sheet; returns None where there is no model."""
    candidates = [_candidate(stores, dataset, result) for result in results if result.model is not None]
    if not candidates:
        return None
    from worker.sweeps.comparison import IncomparableModels, compare_candidates
    from worker.sweeps.figure import sweep_figure
    from worker.sweeps.report import described
    from worker.sweeps.sheet import sweep_sheet

    note(f"comparing {len(candidates)} models")
    try:
        compared = compare_candidates(candidates, lambda stage, done, total: None)
    except IncomparableModels as error:
        raise CliError(str(error)) from error
    write_bytes(folder / "figure.png", sweep_figure(candidates, compared, name))
    write_bytes(folder / "sheet.png", sweep_sheet(candidates, compared, name))
    return described(candidates, compared)


def _candidate(stores: Stores, dataset: str, result: MemberResult) -> "Candidate":
    from models.files import load_model
    from worker.sweeps.comparison import Candidate

    try:
        info, folder = stores.models.get(result.model or "")
    except UnknownModel as error:
        raise CliError(str(error)) from error
    device = stores.device()

    def load() -> "VAE":
        return load_model(folder, device).network

    images = pack_of(stores, dataset, info.preprocessing, as_it_was=True).images
    return Candidate(
        id=result.model or "", settings=result.settings, info=info, images=images, load=load, scores=result.scores
    )
