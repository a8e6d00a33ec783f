"""Room on the local disk: a mark of free space, a quota, and the expiry of traversals that nobody named.

Everything that writes into the data folder asks for room first: `LocalStorage` for each of its files, the API while it
receives a body, packings and trainings while they run. This module loads no torch.
"""

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.stores.settings import PREFIX, TEMPORARY

MEASURE_SECONDS = 10.0
"""Time for which a measured size of the data folder holds; what this process writes meanwhile is added."""
FRESH_SECONDS = 60.0
"""Age below which a traversal does not expire, since its files are being written or fetched."""
LEFTOVER_SECONDS = 3600.0
"""Age from which a temporary file counts as left by a process that was killed."""
NAME_FILE = "name.txt"
"""The file of a traversal that keeps its name; with it, the traversal does not expire."""
_TEMPORARY_NAMES = ("upload-", "import-", "model-", "tmp")
"""Beginnings of the names of our temporary files and folders; torch keeps a cache beside them."""
_FULL = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)


class StorageFull(OSError):
    """There is no room for a file; the text says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.strerror)


def is_full(error: OSError) -> bool:
    """Returns whether an error says that the disk, or the quota of its user, is exhausted."""
    return error.errno in _FULL


class Room:
    """The room for new files on the disks of the data folder and of a local storage."""

    def __init__(
        self, root: Path, *, home: Path | None = None, min_free_bytes: int = 0, max_bytes: int | None = None
    ) -> None:
        """Takes the limits.

        Args:
            root: The folder of the storage, whose size counts for the quota and whose traversals expire.
            home: The data folder, whose disk has to keep the same free space; None: the root is the data folder.
            min_free_bytes: Free space that new files must leave on each disk.
            max_bytes: Largest size of everything below the root; None: no limit.
        """
        self.root = root
        self._temporary = (home or root) / TEMPORARY
        self.min_free_bytes, self.max_bytes = min_free_bytes, max_bytes
        self._folders = {root, home or root}
        self._lock = threading.Lock()
        self._used, self._measured, self._valid_seconds = 0, float("-inf"), 0.0

    def check(self, num_bytes: int = 0) -> None:
        """Returns if there is room; where there is none, leftovers and old traversals without a name are removed first.

        Args:
            num_bytes: Number of bytes that will be written.

        Raises:
            StorageFull: There is no room.
        """
        with self._lock:
            if self._missing(num_bytes) > 0:
                remove_leftovers(self._temporary)
                self._measured = float("-inf")
                self._expire(num_bytes)
                if self._missing(num_bytes) > 0:
                    raise StorageFull(self._explanation(num_bytes))
            self._used += num_bytes

    def free_bytes(self) -> int:
        """Returns the free space of the fuller disk, in bytes."""
        return self._free()

    def _missing(self, num_bytes: int) -> int:
        """Returns the number of bytes that would have to be freed."""
        missing = num_bytes + self.min_free_bytes - self._free() if self.min_free_bytes else 0
        if self.max_bytes is not None:
            missing = max(missing, self._size() + num_bytes - self.max_bytes)
        return missing

    def _free(self) -> int:
        """Returns the free space of the fuller disk, in bytes."""
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        return min(shutil.disk_usage(folder).free for folder in self._folders)

    def _size(self) -> int:
        """Returns the size of everything below the root, in bytes, measured anew from time to time."""
        now = time.monotonic()
        if now - self._measured > self._valid_seconds:
            self._used = folder_size(self.root)
            self._measured = time.monotonic()
            # A folder of very many files takes long to measure, and is then measured less often.
            self._valid_seconds = max(MEASURE_SECONDS, 20 * (self._measured - now))
        return self._used

    def _expire(self, num_bytes: int) -> None:
        """Removes traversals that nobody named, the oldest first, until there is room."""
        num_removed = 0
        for folder in _expirable(self.root / "traversals"):
            if self._missing(num_bytes) <= 0:
                break
            size = folder_size(folder)
            # The description goes first, so that a removal that is cut short leaves no description of missing files.
            (folder / "result.json").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            self._used -= size
            num_removed += 1
        if num_removed:
            log.warning("the disk is full: %d traversals without a name were removed, the oldest first", num_removed)

    def _explanation(self, num_bytes: int) -> str:
        if self.max_bytes is not None and self._size() + num_bytes > self.max_bytes:
            state = (
                f"the data folder has {_text(self._used)} of at most {_text(self.max_bytes)} "
                f"({PREFIX}MAX_STORAGE_BYTES)"
            )
        else:
            state = (
                f"{_text(self._free())} are free, and {_text(self.min_free_bytes)} stay free ({PREFIX}MIN_FREE_BYTES)"
            )
        return (
            f"There is no room for {'new files' if not num_bytes else _text(num_bytes)}: {state}. "
            "Delete data sets, models, finished jobs or traversals, or raise the limit."
        )


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left in the temporary folder, such as an upload that was being received.

    Args:
        folder: The temporary folder.
    """
    oldest = time.time() - LEFTOVER_SECONDS
    for path in folder.glob("*"):
        with suppress(OSError):
            if not path.name.startswith(_TEMPORARY_NAMES) or path.lstat().st_mtime > oldest:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            log.warning("%s: removed, since the process that made it was killed", path)


def folder_size(folder: Path) -> int:
    """Returns the number of bytes in all files below a folder; a file with several hard links counts once."""
    linked: set[tuple[int, int]] = set()
    total = 0
    for found in _files(str(folder)):
        if found.st_nlink > 1:
            if (found.st_dev, found.st_ino) in linked:
                continue
            linked.add((found.st_dev, found.st_ino))
        total += found.st_size
    return total


def _files(folder: str) -> Iterator[os.stat_result]:
    """Yields the stat of each file below a folder; what vanishes meanwhile is left out."""
    waiting = [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False)


def _expirable(folder: Path) -> list[Path]:
    """Returns the folders of the finished traversals that nobody named, the oldest first."""
    latest = time.time() - FRESH_SECONDS
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                changed = entry.stat().st_mtime  # It changes with every file that is written.
                path = Path(entry.path)
                if changed < latest and (path / "result.json").exists() and not (path / NAME_FILE).exists():
                    found.append((changed, path))
    return [path for _, path in sorted(found)]


def _text(num_bytes: int) -> str:
    """Returns a number of bytes for people."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"
