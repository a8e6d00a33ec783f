"""`betavae backup` and `betavae restore`: a data folder as one file, and back."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import CliError, note
from app.cli.stores import open_stores
from models.atomic import open_atomic
from worker.stores import backups
from worker.stores.storage import LocalStorage


def backup(
    file: Annotated[Path, typer.Argument(help="The tar file to write; - writes to standard output.")],
) -> None:
    """Copy the data folder into one file, while the service may work on it."""
    root = _root()
    if not root.is_dir():
        raise CliError(f"there is no data folder {root}")
    if str(file) == "-":
        num_files = backups.back_up(root, sys.stdout.buffer)
    else:
        if root.resolve() in file.resolve().parents:
            raise CliError("the backup would be a part of itself; write it outside of the data folder")
        with open_atomic(file) as target:
            num_files = backups.back_up(root, target)
        file.chmod(0o600)  # It has everybody's pictures.
    note(f"{num_files} files of {root}")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `betavae backup` wrote; - reads standard input.")],
) -> None:
    """Make a new data folder from a backup; `betavae serve` then goes on with the jobs that it has."""
    root = _root()
    try:
        if str(file) == "-":
            num_files = backups.restore(sys.stdin.buffer, root)
        else:
            with file.open("rb") as source:
                num_files = backups.restore(source, root)
    except backups.NotABackup as error:
        raise CliError(f"{file}: {error}") from error
    except FileExistsError as error:
        raise CliError(str(error)) from error
    note(f"{num_files} files in {root}")


def _root() -> Path:
    """Returns the folder of the storage.

    Raises:
        CliError: The storage is not a folder.
    """
    stores = open_stores()
    if not isinstance(stores.storage, LocalStorage):
        raise CliError("the storage is not a folder; copy the bucket with its own tools")
    return stores.storage.root
