"""Disks that are filled on purpose, and a Redis on them."""

from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from worker.jobs.connections import check_writable
from worker.jobs.records import JobStoreReadOnly


def fill_disk(path: Path) -> None:
    """Writes a file that leaves no byte of its disk free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as filler:
        for size in (65536, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                continue


def is_read_only(client: Any) -> bool:
    """Writes a value, and returns whether Redis refused it, or reports that it cannot write its file."""
    try:
        client.set("x", "x" * 100)
        check_writable(client)
    except JobStoreReadOnly:
        return True
    except ResponseError as error:
        return "MISCONF" in str(error)
    return False
