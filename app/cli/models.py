"""`betavae models`: lists, shows, imports, exports and changes trained models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from app.cli.compare import compare
from app.cli.output import CliError, note, print_table
from app.cli.stores import open_stores, pack_of
from app.explorer_file import explorer_file
from models.atomic import write_bytes
from models.bundles import write_zip
from models.config import ConfigError
from models.info import INFO_FILE, WEIGHTS_FILE, write_info
from worker.stores.models import ModelRecord, ShippedModel, UnknownModel, card_of

app = typer.Typer(help="List, show, import and export models.", invoke_without_command=True)

ModelArgument = Annotated[str, typer.Argument(help="The id or the name of the model.", metavar="MODEL")]


@app.callback()
def default(context: typer.Context) -> None:
    """Lists the models if no command is given."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
) -> None:
    """List the models that ship and those in the data folder; * marks the default model."""
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
    columns = ("", "id", "name", "images", "dimensions", "active", "data set", "made")
    print_table(columns, [_row(record, record.id == chosen) for record in records], whole=("", "id"))


def _row(record: ModelRecord, is_default: bool) -> list[str]:
    info, network = record.info, record.info.network
    return [
        "*" if is_default else "",
        record.id,
        info.name,
        f"{network.image_size} px {'grey' if network.num_channels == 1 else 'RGB'}",
        str(network.latent_dim),
        str(len(info.active_dimensions)),
        str(info.dataset.get("name", "")),
        info.created_at[:10],
    ]


@app.command()
def show(model: ModelArgument) -> None:
    """Show the description of a model as JSON."""
    print(json.dumps(open_stores().model(model)[0].to_json(), indent=2))


@app.command("import")
def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            help=(
                "A folder with model.safetensors and model.json, a bundle of both (zip), a .safetensors file, or a "
                "checkpoint of disentangling-vae or 1Konny's Beta-VAE."
            )
        ),
    ],
    spec: Annotated[
        Path | None, typer.Option(help="The file's description: model.json or specs.json.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="The name of the model.", show_default="the file's own")] = "",
    id: Annotated[
        str | None,
        typer.Option("--id", help="The id of the model; a model with this id is replaced.", show_default=False),
    ] = None,
    format: Annotated[str, typer.Option(help="The format of the file, in case it is not recognised.")] = "auto",
) -> None:
    """Import a model into the data folder, and print its id."""
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
        Path, typer.Argument(help="A folder for the files, or a .zip file for a bundle, which can be imported.")
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write encoder.onnx and decoder.onnx instead.")] = False,
) -> None:
    """Export a model from the data folder as safetensors and JSON, or as ONNX."""
    info, folder = open_stores().model(model)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS_FILE, INFO_FILE)}
    if onnx:
        from models.onnx_export import export_onnx_folder

        try:
            files = export_onnx_folder(folder)
        except ValueError as error:
            raise CliError(str(error)) from error
    if target.suffix.lower() == ".zip":
        write_zip({**files, "README.md": card_of(info).encode()}, target)
    else:
        for name, data in files.items():
            write_bytes(target / name, data)
    print(target)


@app.command()
def explorer(
    model: ModelArgument,
    target: Annotated[Path, typer.Argument(help="The HTML file.")],
    encoder: Annotated[
        bool, typer.Option(help="Add the encoder, so that a picture of one's own can be shown; doubles the size.")
    ] = True,
) -> None:
    """Write a page with the model's sliders into one file, which opens from disk without a network."""
    info, folder = open_stores().model(model)
    write_bytes(target, explorer_file(info, folder, encoder=encoder))
    print(target)


@app.command()
def label(
    model: ModelArgument,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A data set (id, folder or archive) to measure on; its factors are named too.", show_default="none"
        ),
    ] = None,
) -> None:
    """Measure what each dimension changes, and name it. Names that a person gave are kept.

    With a data set, the losses, the KL, and what tells unfamiliar pictures are measured too if they are unknown.
    """
    from models.files import load_model
    from worker.rendering.labels import label_model, with_familiarity, with_statistics

    stores = open_stores()
    info, folder = stores.model(model)
    pack = pack_of(stores, dataset, info.preprocessing) if dataset else None
    try:
        network = load_model(folder, stores.device()).network
    except ValueError as error:
        raise CliError(str(error)) from error
    if pack is not None and not info.kl_per_dimension:
        info = with_statistics(network, info, pack, device=stores.device())
    elif pack is not None and not info.familiarity:
        info = with_familiarity(network, info, pack, device=stores.device())
    info = label_model(network, info, pack, device=stores.device())
    if (Path(model) / INFO_FILE).is_file():
        write_info(folder, info)
    else:
        _change(lambda: stores.models.update(stores.models.find(model), info))
    for k, effect in enumerate(info.dimension_effects):
        factor = effect["factor"]
        known = f"; {factor['name']} (|r| {factor['correlation']:.2f})" if factor else ""
        print(f"{k}: {info.dimension_labels[k] or 'no visible change'} ({effect['strength']:.2f}){known}")


app.command("compare")(compare)


@app.command("default")
def set_default(model: ModelArgument) -> None:
    """Set the model that is used when no model is named."""
    stores = open_stores()
    _change(lambda: stores.models.set_default(stores.models.find(model)))


@app.command()
def rename(model: ModelArgument, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Change the name of a model; its id stays."""
    stores = open_stores()

    def change() -> None:
        model_id = stores.models.find(model)
        before = stores.models.info(model_id).name
        after = stores.models.rename(model_id, name).name
        note(f"{model_id}: the name was {before} and is now {after}; the id stays")

    _change(change)


@app.command()
def delete(model: ModelArgument) -> None:
    """Remove a model from the data folder."""
    stores = open_stores()
    _change(lambda: stores.models.delete(stores.models.find(model)))


def _change(action: Callable[[], object]) -> None:
    """Runs a change of the registry.

    Raises:
        CliError: The registry refused the change.
    """
    try:
        action()
    except (UnknownModel, ShippedModel) as error:
        raise CliError(str(error)) from error
