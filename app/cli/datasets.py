"""`betavae datasets`: lists, shows, registers, packs and removes data sets."""

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import with_options_of
from app.cli.output import CliError, note, print_table
from app.cli.stores import Stores, num_channels, open_stores, pack_of
from models.info import PreprocessingRequest
from training.data.packs import read_rejected
from training.data.sources import LAYOUTS
from worker.jobs.files import stored_jobs
from worker.jobs.records import KINDS
from worker.stores.dataset_records import DatasetRecord, UnknownDataset

app = typer.Typer(help="List, register and pack data sets.", invoke_without_command=True)


DatasetArgument = Annotated[str, typer.Argument(help="The id or the name of the data set.", metavar="DATASET")]


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
    rows = [
        [r.id, r.name, r.kind, "" if r.num_images is None else str(r.num_images), r.status, r.source] for r in records
    ]
    print_table(("id", "name", "kind", "images", "status", "source"), rows, whole=("id", "status"))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name of the data set.")],
    folder: Annotated[
        Path, typer.Argument(help="A folder of images, an archive, an array file or a video; it stays in place.")
    ],
    layout: Annotated[str, typer.Option(help=f"{', '.join(LAYOUTS)}.")] = "auto",
    split: Annotated[str, typer.Option(help="official, identity (no person is in two splits) or none.")] = "official",
    stride: Annotated[int, typer.Option(help="Use only every n-th frame of videos and animations.")] = 1,
) -> None:
    """Register a folder of images or a file as a data set, and print its id.

    A folder that is registered with the same name and options is not registered again.
    """
    datasets = open_stores().datasets
    source = str(folder.expanduser().absolute())
    for record in datasets.records():
        if record.source == source and record.kind in ("folder", "file"):
            if (record.name, record.layout, record.split, record.stride) == (name, layout, split, stride):
                note(f"{folder} is this data set already; nothing was added")
                print(record.id)
                return
            note(f"{folder} is also the data set {record.id}")
    print(datasets.add_path(name, folder, layout=layout, split=split, stride=stride).id)


@app.command()
def show(dataset: DatasetArgument) -> None:
    """Show a data set and its packs as JSON."""
    print(json.dumps(_record(open_stores(), dataset).to_json(), indent=2))


@app.command()
def rejected(dataset: DatasetArgument) -> None:
    """List the files that were left out when the data set was packed, each with its reason."""
    stores = open_stores()
    record = _record(stores, dataset)
    if not record.packs:
        raise CliError(f"{record.id} was not packed yet; `betavae datasets pack {record.id}` packs it")
    lines = stores.datasets.rejected(record.id).decode("utf-8", "replace").splitlines()
    for line in lines:
        one = json.loads(line)
        print(f"{one['file']}: {one['reason']} ({one['code']})")
    if not lines:
        note("no file was left out")


@app.command()
def delete(dataset: DatasetArgument) -> None:
    """Remove a data set with its packs and its upload; the pictures of a registered folder stay."""
    stores = open_stores()
    record = _record(stores, dataset)
    for job in (job for kind in KINDS for job in stored_jobs(stores.storage, kind)):
        if not job.is_finished and job.request.get("dataset") == record.id:
            raise CliError(f"{record.id}: the job {job.id} is {job.status} and needs it; cancel the job first")
    stores.datasets.delete(record.id)
    stays = {"builtin": "; it is built in, and is drawn again when it is needed"}
    stays |= dict.fromkeys(("folder", "file"), f"; {record.source} stays")
    print(f"{record.id}: deleted{stays.get(record.kind, '')}")


def _record(stores: Stores, dataset: str) -> DatasetRecord:
    """Returns the entry of a data set that is given by its id or name.

    Raises:
        CliError: There is no such data set.
    """
    try:
        return stores.datasets.get(stores.datasets.find(dataset))
    except UnknownDataset as error:
        known = ", ".join(record.id for record in stores.datasets.records())
        raise CliError(f"no data set {dataset!r}; there are {known}") from error


@app.command()
@with_options_of(PreprocessingRequest.model_fields, "Preprocessing")
def pack(
    dataset: Annotated[str, typer.Argument(help="The id of a data set, or a folder or archive.")],
    *,
    settings: dict[str, object],
) -> None:
    """Decode every image once, as the first training on the data set would, and list the files that can't be read."""
    stores = open_stores()
    dataset = stores.dataset(dataset)
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
