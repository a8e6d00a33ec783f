"""`betavae models`: trained networks, where they come from, and where they go."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.output import CliError
from app.cli.stores import open_stores, pack_of
from models.atomic import write_bytes
from models.bundles import write_zip
from models.card import model_card
from models.config import ConfigError
from models.info import INFO_FILE, WEIGHTS_FILE, write_info
from training.config import settings_read
from worker.stores.models import ShippedModel, UnknownModel

app = typer.Typer(help="List, show, import and export models.", invoke_without_command=True)

ModelArgument = Annotated[str, typer.Argument(help="The model's id.", metavar="MODEL")]


@app.callback()
def default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
) -> None:
    """List the models: those that ship and those of the data folder; * marks the default."""
    stores = open_stores()
    records, chosen = stores.models.records(), stores.models.default_id()
    if as_json:
        print(
            json.dumps(
                [{"id": r.id, "shipped": r.shipped, "default": r.id == chosen, **r.info.to_json()} for r in records],
                indent=2,
            )
        )
        return
    table = Table("", "id", "images", "dimensions", "active", "data set", "made", box=None)
    for record in records:
        network = record.info.network
        table.add_row(
            "*" if record.id == chosen else "",
            record.id,
            f"{network.image_size} px {'grey' if network.num_channels == 1 else 'RGB'}",
            str(network.latent_dim),
            str(len(record.info.active_dimensions)),
            str(record.info.dataset.get("name", "")),
            record.info.created_at[:10],
        )
    Console().print(table)


@app.command()
def show(model: ModelArgument) -> None:
    """Show all that is known of a model, as JSON."""
    print(json.dumps(open_stores().model(model)[0].to_json(), indent=2))


@app.command("import")
def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            help=(
                "Folder with model.safetensors and model.json, a bundle of both (zip), a .safetensors file, or a "
                "checkpoint of disentangling-vae or 1Konny's Beta-VAE."
            )
        ),
    ],
    spec: Annotated[
        Path | None, typer.Option(help="The description beside the file: model.json or specs.json.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model.", show_default="the file's own")] = "",
    id: Annotated[
        str | None, typer.Option("--id", help="Id of the model; one that exists is replaced.", show_default=False)
    ] = None,
    format: Annotated[str, typer.Option(help="What the file is, where it is not recognised.")] = "auto",
) -> None:
    """Take a model into the data folder; prints its id."""
    from worker.model_transfer import take_in

    stores = open_stores()
    file = source / WEIGHTS_FILE if source.is_dir() else source
    beside = source / INFO_FILE if source.is_dir() and spec is None else spec
    try:
        print(
            take_in(stores.models, file, spec=beside.read_bytes() if beside else None, name=name, format=format, id=id)
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise CliError(str(error)) from error


@app.command()
def export(
    model: ModelArgument,
    target: Annotated[
        Path, typer.Argument(help="Folder for the files, or a .zip for the bundle that an import takes.")
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write encoder.onnx and decoder.onnx.")] = False,
) -> None:
    """Copy a model out of the data folder: safetensors and JSON, or ONNX."""
    info, folder = open_stores().model(model)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS_FILE, INFO_FILE)}
    if onnx:
        from models.onnx_export import export_onnx_folder

        try:
            files = export_onnx_folder(folder)
        except ValueError as error:
            raise CliError(str(error)) from error
    if target.suffix.lower() == ".zip":
        write_zip({**files, "README.md": model_card(info, settings_read(info.training)).encode()}, target)
    else:
        for name, data in files.items():
            write_bytes(target / name, data)
    print(target)


@app.command()
def label(
    model: ModelArgument,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set (id, folder or archive) to start from; its factors are named too.", show_default="none"
        ),
    ] = None,
) -> None:
    """Measure what moving each dimension changes, and name it; with a data set, also losses and KL where unknown.

    Names that a person gave stay."""
    from models.files import load_model
    from worker.rendering.labels import label_model, with_statistics

    stores = open_stores()
    info, folder = stores.model(model)
    pack = pack_of(stores, dataset, info.preprocessing) if dataset else None
    try:
        network = load_model(folder, stores.device()).network
    except ValueError as error:
        raise CliError(str(error)) from error
    if pack is not None and not info.kl_per_dimension:
        info = with_statistics(network, info, pack, device=stores.device())
    info = label_model(network, info, pack, device=stores.device())
    if (Path(model) / INFO_FILE).is_file():
        write_info(folder, info)
    else:
        _change(lambda: stores.models.update(model, info))
    for k, effect in enumerate(info.dimension_effects):
        factor = effect["factor"]
        known = f"; {factor['name']} (|r| {factor['correlation']:.2f})" if factor else ""
        print(f"{k}: {info.dimension_labels[k] or 'nothing to see'} ({effect['strength']:.2f}){known}")


@app.command("default")
def set_default(model: ModelArgument) -> None:
    """Make a model the one that is used when none is named."""
    stores = open_stores()
    _change(lambda: stores.models.set_default(model))


@app.command()
def rename(model: ModelArgument, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a model another name; its id stays."""
    stores = open_stores()
    _change(lambda: stores.models.rename(model, name))


@app.command()
def delete(model: ModelArgument) -> None:
    """Remove a model from the data folder."""
    stores = open_stores()
    _change(lambda: stores.models.delete(model))


def _change(action: Callable[[], object]) -> None:
    """Runs a change of the registry; its refusals become one line."""
    try:
        action()
    except (UnknownModel, ShippedModel) as error:
        raise CliError(str(error)) from error
