"""`betavae models compare`: two models side by side, their dimensions aligned."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli.output import CliError, note
from app.cli.stores import Stores, open_stores
from models.atomic import write_bytes
from training.data.images import ImageError, load_image
from worker.rendering.request import Pixels

if TYPE_CHECKING:
    from models.files import LoadedModel


def compare(
    models: Annotated[list[str], typer.Argument(help="The ids or folders of the two models.", metavar="MODEL MODEL")],
    image: Annotated[
        Path | None, typer.Option(help="A picture to send through both models.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file for the picture through both.")] = Path(
        "compare.png"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare two models: losses, the aligned dimensions, and UDR.

    With --image, a sheet shows the picture through both, with the aligned dimensions side by side.
    """
    if len(models) != 2:
        raise CliError(f"models compare takes two models, not {len(models)}")
    stores = open_stores()
    loaded = [_load(stores, model) for model in models]
    if loaded[0].info.weights_sha256 == loaded[1].info.weights_sha256:
        raise CliError(f"{models[0]} and {models[1]} are the same model; name two different ones")
    pictures = [] if image is None else _read_pictures(stores, loaded, image)
    from worker.comparison import compare as compare_models

    comparison = compare_models(loaded)
    if as_json:
        print(json.dumps(comparison, indent=2))
    else:
        _print(comparison)
    if pictures:
        _write_sheet(loaded, comparison, pictures, output)
        note(f"{output}: the picture through both")


def _load(stores: Stores, model: str) -> "LoadedModel":
    from models.files import load_model

    _, folder = stores.model(model)
    try:
        return load_model(folder, stores.device())
    except ValueError as error:
        raise CliError(str(error)) from error


def _read_pictures(stores: Stores, models: "list[LoadedModel]", image: Path) -> list[Pixels]:
    """Returns the picture as the input of each model, uint8 (H, W, C)."""
    data, limit = image.read_bytes(), stores.settings.max_image_pixels
    try:
        return [load_image(data, model.info.preprocessing, max_pixels=limit) for model in models]
    except ImageError as error:
        raise CliError(f"{image}: {error.message}") from error


def _write_sheet(models: "list[LoadedModel]", comparison: dict[str, Any], pictures: list[Pixels], output: Path) -> None:
    from worker.comparison import picture_through_both
    from worker.model_calls import encoded

    numbers = [encoded(model, picture)[0] for model, picture in zip(models, pictures, strict=True)]
    write_bytes(output, picture_through_both(models, pictures, numbers, comparison))


def _print(comparison: dict[str, Any]) -> None:
    """Prints the models, the aligned dimensions and the agreement."""
    names = [model["name"] for model in comparison["models"]]
    table = Table("model", "images", "reconstruction", "KL", "active", box=None)
    for model in comparison["models"]:
        size = f"{model['image_size']} px {'grey' if model['num_channels'] == 1 else 'RGB'}"
        active = f"{len(model['active_dimensions'])} of {model['latent_dim']}"
        table.add_row(model["name"], size, _nats(model["reconstruction_loss"]), _nats(model["kl"]), active)
    console = Console()
    console.print(table)
    for model in comparison["models"]:
        if scores := _scores(model["metrics"]):
            console.print(f"scores of {model['name']}: {scores}", markup=False, highlight=False)
    pairs = Table("r", *(title for name in names for title in (name, "KL")), box=None)
    for row in comparison["dimensions"]:
        ends = [f"z{index} {label}".rstrip() for index, label in zip(row["indices"], row["labels"], strict=True)]
        kl = [_nats(value) for value in row["kl"]]
        pairs.add_row(f"{row['correlation']:+.2f}", ends[0], kl[0], ends[1], kl[1])
    console.print(pairs)
    for name, dimensions in zip(names, comparison["unmatched"], strict=True):
        if dimensions:
            console.print(f"only in {name}: {', '.join(f'z{k}' for k in dimensions)}", markup=False, highlight=False)
    udr = ", ".join(f"{value:.3f} ({name})" for name, value in comparison["udr"].items())
    console.print(f"UDR of the two: {udr}", markup=False, highlight=False)


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _scores(metrics: dict[str, Any]) -> str:
    """Returns the scores of a model, such as mig .19."""
    known = {name: score.get("value") for name, score in metrics.items() if isinstance(score, dict)}
    return ", ".join(f"{name} {value:.2f}" for name, value in known.items() if value is not None)
