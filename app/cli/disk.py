"""`betavae disk`: what takes how much room in the data folder, and what can go."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import print_table
from app.cli.stores import open_stores
from worker.jobs.files import stored_jobs
from worker.stores.dataset_records import BUILT_IN_NAMES
from worker.stores.storage import LocalStorage

_EACH = ("datasets", "jobs", "models", "runs")
"""Folders whose entries are listed one by one."""
_MADE_AGAIN = {
    "traversals": "yes; they are rendered again when they are requested",
    "cache": "yes, while nothing runs; it is filled again when it is needed",
    "tmp": "yes, while nothing runs",
}


@dataclass(frozen=True)
class Use:
    """The room that something takes.

    Attributes:
        what: Path in the data folder.
        num_bytes: Size of its files.
        can_go: Whether and how it can be removed.
    """

    what: str
    num_bytes: int
    can_go: str


def disk(
    num_rows: Annotated[int, typer.Option("--rows", min=1, help="Number of entries, the largest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of all entries.")] = False,
) -> None:
    """Show what takes how much room in the data folder, and how it can be removed."""
    stores = open_stores()
    home = stores.settings.home
    roots = {home.resolve()}
    if isinstance(stores.storage, LocalStorage):
        roots.add(stores.storage.root.resolve())
    trainings = {job.id: job.is_finished for job in stored_jobs(stores.storage, "train")}
    found = [use for root in sorted(roots) for use in _uses(root, trainings)]
    found.sort(key=lambda use: use.num_bytes, reverse=True)
    if as_json:
        print(json.dumps([vars(use) for use in found], indent=2))
        return
    rows = [[_size(use.num_bytes), use.what, use.can_go] for use in found[:num_rows]]
    if rest := found[num_rows:]:
        rows.append([_size(sum(use.num_bytes for use in rest)), f"{len(rest)} smaller entries", "--rows shows more"])
    print_table(("size", "what", "can it go?"), rows, whole=("size", "what"))
    free = shutil.disk_usage(home if home.exists() else home.parent).free
    print(f"{_size(sum(use.num_bytes for use in found))} in {home}; {_size(free)} are free")


def _uses(root: Path, trainings: Mapping[str, bool]) -> Iterator[Use]:
    """Yields what lies in a folder.

    Args:
        root: The data folder, or the folder of the storage.
        trainings: Ids of the training jobs, with True for those that have finished.
    """
    if not root.is_dir():
        return
    for entry in sorted(root.iterdir()):
        if entry.name in _EACH and entry.is_dir():
            for one in sorted(entry.iterdir()):
                yield Use(f"{entry.name}/{one.name}", _bytes_in(one), _can_go(entry.name, one, trainings))
        elif size := _bytes_in(entry):
            yield Use(entry.name, size, _MADE_AGAIN.get(entry.name, "no; the service needs it"))


def _can_go(kind: str, path: Path, trainings: Mapping[str, bool]) -> str:
    """Returns whether and how an entry of one of the listed folders can be removed."""
    name = path.name
    if kind == "runs":
        has_model = (path / "model" / "model.json").is_file()
        return "yes, by hand; its registered model stays" if has_model else "yes, by hand; it has no model yet"
    if not path.is_dir() or (kind == "jobs" and name not in trainings):
        return "no; the service needs it"
    if kind == "jobs":
        return f"yes: betavae jobs delete {name}" if trainings[name] else "not yet; it has not finished"
    if kind == "datasets" and name in BUILT_IN_NAMES:
        return f"yes, it is drawn again: betavae datasets delete {name}"
    return f"yes: betavae {kind} delete {name}"


def _bytes_in(path: Path) -> int:
    """Returns the size of a file, or of all files below a folder; hard links are counted each time."""
    if not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # The service has removed it in this moment.
                continue
    return total


def _size(num_bytes: int) -> str:
    """Returns a size as people read it: "12 kB", "3.4 MB"."""
    value, names = num_bytes / 1000, iter(("kB", "MB", "GB", "TB"))
    name = next(names)
    while value >= 1000 and name != "TB":
        value, name = value / 1000, next(names)
    return f"{value:.0f} {name}" if value >= 100 or name == "kB" else f"{value:.1f} {name}"
