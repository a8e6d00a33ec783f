"""A copy of a data folder as a tar, made while the service works on the folder, and a folder made from the copy.

Every file of a data folder is written whole or not at all, so a copy can miss files but has none that are half
written. The order makes what it misses harmless: jobs come before the models and data sets that they name, a job's
checkpoints before its records, and everything else in a folder before the JSON that describes it. What a killed worker
leaves behind is of the same kind, so a service on the copy goes on as after a power cut. This module loads no torch.
"""

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

FORMAT_VERSION = 1
FIRST, LAST = "backup.json", "backup-end.json"
"""The first and the last member of a backup; without the last one, it was cut off."""
LEFT_OUT = ("cache", "lock", "redis", "storage.json", "tmp", "workers")
"""What a data folder has for this machine alone. The id of the storage is left out, as the copy is another one."""
CHECKPOINTS = "checkpoints"
READ_BYTES = 16 * 1024**2
"""Files up to this size, those that grow among them, are read before they are written into the tar."""
ATTEMPTS = 10
"""Times that a folder of checkpoints is listed until one could be copied before newer ones took its place."""


class NotABackup(ValueError):
    """The file is not a backup, or was cut off."""


def back_up(root: Path, target: IO[bytes]) -> int:
    """Writes a copy of a data folder.

    Args:
        root: The folder of the storage.
        target: Where the tar goes, which may be a pipe.

    Returns:
        The number of files.
    """
    num_files = 0
    made = {"format_version": FORMAT_VERSION, "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, tarfile.TarInfo(FIRST), json.dumps(made).encode())
        for path in _ordered(root):
            num_files += _add(tar, root, path)
        _add_bytes(tar, tarfile.TarInfo(LAST), json.dumps({"num_files": num_files}).encode())
    return num_files


def restore(source: IO[bytes], root: Path) -> int:
    """Makes a data folder from a backup, whole or not at all.

    Args:
        source: The tar, which may be a pipe.
        root: The folder of the storage, which must be empty or missing.

    Returns:
        The number of files.

    Raises:
        FileExistsError: The folder is not empty.
        NotABackup: The file is not a backup, or was cut off.
    """
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty; a backup is restored into a new folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}."))
    try:
        num_files = _extract(source, folder)
        folder.chmod(0o755)
        with suppress(FileNotFoundError):
            root.rmdir()
        folder.replace(root)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return num_files


def _extract(source: IO[bytes], folder: Path) -> int:
    num_members = 0
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                if num_members == 0:
                    if member.name != FIRST or _json(tar, member).get("format_version") != FORMAT_VERSION:
                        raise NotABackup("it is not a backup of a data folder, or one of a later version")
                elif member.name == LAST:
                    if _json(tar, member).get("num_files") != num_members - 1:
                        break
                    return num_members - 1
                else:
                    tar.extract(member, folder, filter="data")
                num_members += 1
    except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise NotABackup(f"it cannot be read: {error}") from error
    raise NotABackup("it was cut off")


def _json(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, object]:
    file = tar.extractfile(member)
    try:
        found = json.loads(file.read(READ_BYTES)) if file is not None else None
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _ordered(root: Path) -> Iterator[Path]:
    """Yields the files below a data folder in the order of the copy, each folder as it is at its turn."""
    tops = [path for path in _children(root) if path.name not in LEFT_OUT]
    for path in sorted(tops, key=lambda path: (path.name != "jobs", path.name)):
        yield from _below(path)


def _below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    # The checkpoints come first, and descriptions last, as they are by then.
    parts = [child for child in _children(path) if not _describes(child)]
    for child in sorted(parts, key=lambda child: (child.name != CHECKPOINTS, child.name)):
        yield from _checkpoints(child) if child.name == CHECKPOINTS else _below(child)
    yield from sorted(child for child in _children(path) if _describes(child))


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Yields tensors and description of each checkpoint, until one was there when its turn was over."""
    seen: set[Path] = set()
    for _ in range(ATTEMPTS):
        descriptions = sorted(child for child in _children(folder) if _describes(child) and child not in seen)
        for description in descriptions:
            yield description.with_suffix(".safetensors")
            yield description
        seen.update(descriptions)
        if not descriptions or any(description.exists() for description in descriptions):
            return


def _children(folder: Path) -> list[Path]:
    """Returns what a folder has, without temporary files, whose names begin with a dot, and without links."""
    with suppress(OSError):
        return [child for child in folder.iterdir() if not child.name.startswith(".") and not child.is_symlink()]
    return []


def _describes(path: Path) -> bool:
    return path.suffix == ".json" and not path.is_dir()


def _add(tar: tarfile.TarFile, root: Path, path: Path) -> bool:
    """Writes a file into the tar. Returns False if it is gone, since it was replaced or deleted meanwhile."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        facts = os.fstat(file.fileno())
        info = tarfile.TarInfo(path.relative_to(root).as_posix())
        info.mtime, info.mode = facts.st_mtime, facts.st_mode & 0o777
        if facts.st_size <= READ_BYTES:
            _add_bytes(tar, info, file.read(READ_BYTES))
        else:
            info.size = facts.st_size
            tar.addfile(info, file)
    return True


def _add_bytes(tar: tarfile.TarFile, info: tarfile.TarInfo, data: bytes) -> None:
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
