"""Uploads of data sets: from the request to a file in the storage, with one copy on the disk at a time."""

import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import anyio

from app import problems
from app.dependencies import Services
from app.problems import Problem
from training.data.datasets import DatasetError
from training.data.sources import Limits
from worker.stores.models import DatasetRecord
from worker.stores.parsing_pool import check_zip_in_child

SPARE_BYTES = 512 * 2**20
"""Room on the disk that an upload leaves for everything else."""
COPY_BYTES = 2**20
MAX_ZIP_FILES = 500_000

_registering = threading.Lock()
"""Ids are made of names: two uploads of one name must not take the same id."""


def store_dataset_upload(services: Services, name: str, file: BinaryIO, filename: str = "upload.zip") -> DatasetRecord:
    """Puts an uploaded archive into the storage as a data set.

    Raises: Problem for something that is no archive of pictures, and for a disk without room.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with temporary_file(services, size) as path:
        with path.open("wb") as target:
            shutil.copyfileobj(file, target, COPY_BYTES)
        return register_upload(services, name, path, filename)


async def stream_dataset_upload(
    services: Services, name: str, chunks: AsyncIterator[bytes], size: int, filename: str
) -> DatasetRecord:
    """As store_dataset_upload, for a body that is the archive itself; it touches the disk once.

    Args: size, as the request declares it, 0 where it does not.
    """
    with temporary_file(services, size) as path:
        async with await anyio.open_file(path, "wb") as target:
            async for chunk in chunks:
                await target.write(chunk)
        return await anyio.to_thread.run_sync(register_upload, services, name, path, filename)


@contextmanager
def temporary_file(services: Services, size: int) -> Iterator[Path]:
    """A path in the data folder for `size` bytes; nothing is left there when the block ends."""
    folder = services.settings.home / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        raise Problem("storage_full", "The disk has no room for this upload.", headers={"Retry-After": "600"})
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def register_upload(services: Services, name: str, path: Path, filename: str) -> DatasetRecord:
    """Checks an archive that lies at `path`, and moves it into the storage. Raises Problem."""
    try:
        if Path(filename).suffix.lower() == ".zip":
            check_zip_in_child(path, Limits(max_files=MAX_ZIP_FILES))
        with _registering:
            return services.datasets.add_upload(name, path, filename=filename)
    except DatasetError as error:
        if error.code == "no_space":
            raise Problem("storage_full", error.message) from None
        message = error.message.replace(path.name, "the file")
        raise Problem("invalid_dataset", message, [{"field": "file", "message": message}]) from None
    except OSError as error:
        raise Problem("storage_full", f"The storage cannot take the upload: {error.strerror}") from error


def check_filename(filename: str | None) -> str:
    """The name as the client gave it, or a zip's. Raises Problem for one without a known suffix."""
    name = Path((filename or "").replace("\\", "/")).name or "upload.zip"
    if Path(name).suffix.lower() not in (".zip", ".npz", ".npy", ".h5", ".hdf5"):
        raise problems.invalid("file", "must be a .zip of images, or a .npz, .npy, .h5 or .hdf5 file")
    return name
