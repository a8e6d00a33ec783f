"""Files that are written whole or not at all: temporary name, fsync, rename."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems without hard links."""


@contextmanager
def open_atomic(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Opens a temporary binary file that becomes `path` when the block ends, and is removed when the block raises.

    Args:
        path: The file to write; missing folders above it are made.
        replace: Whether an existing file is replaced; otherwise FileExistsError is raised.

    Yields:
        The temporary file, open for writing.
    """
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary_file(path, os.replace if replace else _link) as file:
            yield file
    except BaseException:
        if is_new:
            with suppress(OSError):  # Others may have put files there.
                path.parent.rmdir()
        raise
    _sync_folder(path.parent)


@contextmanager
def _temporary_file(path: Path, publish: Callable[[str, Path], None]) -> Iterator[BinaryIO]:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp creates files with mode 0600; published files follow the umask, as those of open() do.
        os.chmod(temporary, 0o666 & ~umask())
        publish(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _link(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
        return
    os.unlink(temporary)


def umask() -> int:
    """Returns the permission bits that this process removes from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces the file at `path` with `data`, completely or not at all."""
    with open_atomic(path) as file:
        file.write(data)


def create_bytes(path: Path, data: bytes) -> bool:
    """Writes `data` to a new file at `path`, completely or not at all.

    Returns:
        False if there is such a file, which stays as it is.
    """
    try:
        with open_atomic(path, replace=False) as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut, where the file system supports that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
