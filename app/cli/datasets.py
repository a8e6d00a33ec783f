"""`betavae datasets`: lists, registers and packs data sets."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.options import with_options_of
from app.cli.output import note
from app.cli.stores import num_channels, open_stores, pack_of
from models.info import PreprocessingRequest
from training.data.packs import read_rejected

app = typer.Typer(help="List, register and pack data sets.", invoke_without_command=True)


@app.callback()
def default(context: typer.Context) -> None:
    """Lists the data sets if no command is given."""
    if context.invoked_subcommand is None:
        list_datasets()


@app.command("list")
def list_datasets(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
) -> None:
    """List the data sets: built-in sets, registered folders and uploads."""
    records = open_stores().datasets.records()
    if as_json:
        print(json.dumps([record.to_json() for record in records], indent=2))
        return
    table = Table("id", "kind", "images", "status", "source", box=None)
    for record in records:
        count = "" if record.num_images is None else str(record.num_images)
        table.add_row(record.id, record.kind, count, record.status, record.source)
    Console().print(table)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name of the data set.")],
    folder: Annotated[Path, typer.Argument(help="A folder of images or an archive; it stays in place.")],
    layout: Annotated[str, typer.Option(help="auto, images, classes, labels, chairs3d or celeba.")] = "auto",
    split: Annotated[str, typer.Option(help="official, identity (no person is in two splits) or none.")] = "official",
) -> None:
    """Register a folder of images as a data set, and print its id."""
    print(open_stores().datasets.add_path(name, folder, layout=layout, split=split).id)


@app.command()
@with_options_of(PreprocessingRequest.model_fields, "Preprocessing")
def pack(
    dataset: Annotated[str, typer.Argument(help="The id of a data set, or a folder or archive.")],
    *,
    settings: dict[str, object],
) -> None:
    """Decode every image once, as the first training on the data set would, and list the files that can't be read."""
    stores = open_stores()
    request = PreprocessingRequest(**settings)
    preprocessing = request.with_channels(request.num_channels or num_channels(stores, dataset))
    packed = pack_of(stores, dataset, preprocessing)
    for rejected in read_rejected(packed.folder, limit=20):
        if rejected.code == "bad_labels":
            note(f"warning: labels in {rejected.file}: {rejected.reason}")
        else:
            note(f"left out: {rejected.file}: {rejected.reason}")
    if packed.info.num_rejected > 20:
        note(f"{packed.info.num_rejected} files were left out; {packed.folder / 'rejected.jsonl'} lists them all")
    print(f"{packed.info.num_images} images in {packed.folder}")
