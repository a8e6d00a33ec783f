"""Uploads of data sets: from the request to a file in the storage, with one copy on the disk at a time."""

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import anyio

from app import problems
from app.api.media import KeyLocks, id_of_upload
from app.dependencies import Services
from app.problems import Problem
from training.data.datasets import DatasetError
from training.data.sources import ARCHIVE_SUFFIXES, ARRAY_SUFFIXES, FILM_SUFFIXES, Limits, suffix_of
from worker.stores.models import DatasetRecord, UnknownDataset
from worker.stores.parsing_pool import check_zip_in_child
from worker.stores.room import StorageFull

COPY_BYTES = 2**20


@dataclass(frozen=True)
class Reading:
    """How the files of an upload are read."""

    layout: str = "auto"
    stride: int = 1


_AS_FOUND = Reading()
MAX_ZIP_FILES = 500_000

_keyed = KeyLocks()
"""Uploads with equal keys are taken one after another."""
_registering = threading.Lock()
"""Held while an id is chosen, since ids are made of names, and two uploads of one name must not get the same one."""


def store_dataset_upload(
    services: Services,
    name: str,
    file: BinaryIO,
    filename: str = "upload.zip",
    reading: Reading = _AS_FOUND,
    *,
    id: str | None = None,
    key: str | None = None,
) -> DatasetRecord:
    """Stores an uploaded archive as a data set.

    Args:
        services: The services.
        name: The data set's name.
        file: The archive.
        filename: Its name; the suffix decides how it is read.
        reading: Layout of its files, and stride over frames.
        id: Id that follows from the content; None makes a free one of the name.
        key: Idempotency-Key of the request; None makes a new data set each time.

    Raises:
        Problem: The file is no archive of images (invalid_dataset), or the storage cannot take it (storage_full).
        StorageFull: The disk has no room.
        IdempotencyConflict: The key came with another upload before.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with temporary_file(services, size) as path:
        with path.open("wb") as target:
            shutil.copyfileobj(file, target, COPY_BYTES)
        return register_upload(services, name, path, filename, reading, id=id, key=key)


async def stream_dataset_upload(
    services: Services,
    name: str,
    chunks: AsyncIterator[bytes],
    size: int,
    filename: str,
    reading: Reading = _AS_FOUND,
    *,
    key: str | None = None,
) -> DatasetRecord:
    """Stores a body that is the archive itself as a data set, with a single copy on the disk.

    Args:
        services: The services.
        name: The data set's name.
        chunks: The body.
        size: The size that the request declares, in bytes; 0 where it declares none.
        filename: A name whose suffix decides how the archive is read.
        reading: Layout of its files, and stride over frames.
        key: See store_dataset_upload.

    Raises:
        Problem: The file is no archive of images (invalid_dataset), or the storage cannot take it (storage_full).
        StorageFull: The disk has no room.
        IdempotencyConflict: The key came with another upload before.
    """
    with temporary_file(services, size) as path:
        async with await anyio.open_file(path, "wb") as target:
            async for chunk in chunks:
                await target.write(chunk)
        register = partial(register_upload, services, name, path, filename, reading, key=key)
        return await anyio.to_thread.run_sync(register)


@contextmanager
def temporary_file(services: Services, size: int) -> Iterator[Path]:
    """Opens a path in the data folder, which is removed when the block ends.

    Args:
        services: The services.
        size: Bytes that the file will have.

    Raises:
        StorageFull: The disk has no room for them.
    """
    services.room.check(size)
    folder = services.settings.temporary_folder
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def register_upload(
    services: Services,
    name: str,
    path: Path,
    filename: str,
    reading: Reading = _AS_FOUND,
    *,
    id: str | None = None,
    key: str | None = None,
) -> DatasetRecord:
    """Checks an archive and moves it into the storage.

    Args:
        services: The services.
        name: The data set's name.
        path: The archive.
        filename: The name that the client gave it.
        reading: Layout of its files, and stride over frames.
        id: Id that follows from the content; None makes a free one of the name.
        key: See store_dataset_upload.

    Raises:
        Problem: The file is no archive of images (invalid_dataset), or the storage cannot take it (storage_full).
        IdempotencyConflict: The key came with another upload before.
    """
    if key is not None:
        return _register_once(services, name, path, filename, reading, key)
    try:
        if suffix_of(filename) in (*ARCHIVE_SUFFIXES, *FILM_SUFFIXES):
            check_zip_in_child(path, Limits(max_files=MAX_ZIP_FILES), name=filename)
        with _registering:
            return services.datasets.add_upload(name, path, filename=filename, id=id, **asdict(reading))
    except DatasetError as error:
        if error.code == "no_space":
            raise Problem("storage_full", error.message) from None
        message = error.message.replace(path.name, "the file")
        raise Problem("invalid_dataset", message, [{"field": "file", "message": message}]) from None
    except OSError as error:
        text = str(error) if isinstance(error, StorageFull) else f"The storage cannot take the upload: {error.strerror}"
        raise Problem("storage_full", text) from error


def _register_once(
    services: Services, name: str, path: Path, filename: str, reading: Reading, key: str
) -> DatasetRecord:
    """Returns the data set that an upload with a key has made, or makes it."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256(json.dumps([name, filename, asdict(reading), content]).encode()).hexdigest()
    with _keyed[key]:
        dataset = id_of_upload(services.storage, "datasets", key, digest)
        try:
            return services.datasets.get(dataset)
        except UnknownDataset:
            pass
        try:
            return register_upload(services, name, path, filename, reading, id=dataset)
        except Problem:
            services.storage.delete(f"datasets/{dataset}")
            raise


def check_filename(filename: str | None) -> str:
    """Returns the name that the client gave a file, or a zip's name where it gave none.

    Raises:
        Problem: The name has no known suffix (invalid_request).
    """
    name = Path((filename or "").replace("\\", "/")).name or "upload.zip"
    if suffix_of(name) not in (*ARCHIVE_SUFFIXES, *ARRAY_SUFFIXES, *FILM_SUFFIXES):
        raise problems.invalid(
            "file", "must be a .zip, .tar or .tar.gz of images, a .npz, .npy, .h5 or .hdf5 file, or a video"
        )
    return name
