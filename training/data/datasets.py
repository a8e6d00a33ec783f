"""Packing of any data set: a built-in one, a folder, a zip or an array file; free of torch."""

import hashlib
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import array_files, builtin_sets, picture_files
from training.data.file_trees import folder_fingerprint
from training.data.images import Preprocessing
from training.data.packs import PackError, PackInfo
from training.data.sources import (
    ARCHIVE_SUFFIXES,
    ARRAY_SUFFIXES,
    FILM_SUFFIXES,
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    OnProgress,
    Source,
    ZipFile,
    suffix_of,
    usable_cpus,
)

__all__ = [
    "ArrayFile",
    "BuiltIn",
    "DatasetError",
    "ImageFolder",
    "Limits",
    "OnProgress",
    "PackError",
    "Source",
    "ZipFile",
    "count_images",
    "file_source",
    "fingerprint",
    "num_channels_of",
    "pack_dataset",
    "sample_of",
    "source_for",
]

_SPARE_BYTES = 2**28


def pack_dataset(
    source: Source,
    target_folder: Path,
    preprocessing: Preprocessing,
    *,
    name: str | None = None,
    on_progress: OnProgress | None = None,
    num_workers: int | None = None,
    limits: Limits | None = None,
) -> PackInfo:
    """Decodes or draws a whole data set into a pack.

    A file that cannot be read is recorded in rejected.jsonl, and the others are packed.

    Args:
        source: The data set.
        target_folder: Folder of the pack; an older pack there is replaced.
        preprocessing: Size, channels and crop of the packed pictures.
        name: Name of the pack, for people (default: the source's name).
        on_progress: Called with (done, total); stops the packing by raising.
        num_workers: Threads (default: the processors of this process, at most 8).
        limits: Bounds on files, bytes and pixels (default: Limits()).

    Returns:
        The description of the pack.

    Raises:
        DatasetError: The source cannot be packed. Nothing is left behind, and an older pack stays.
        OSError: The disk fails, with the same consequences.
    """
    progress = on_progress or _no_progress
    limits = limits or Limits()
    workers = num_workers or min(8, usable_cpus())
    if isinstance(source, BuiltIn):
        pixels = preprocessing.image_size**2 * preprocessing.num_channels
        _check_space(target_folder, builtin_sets.num_images(source) * pixels)
        return builtin_sets.pack_builtin(
            source,
            target_folder,
            preprocessing,
            name=name or source.name,
            on_progress=progress,
            num_workers=workers,
        )
    options: dict[str, Any] = {
        "name": name or source.path.stem,
        "limits": limits,
        "num_workers": workers,
        "on_progress": progress,
        "source_fingerprint": fingerprint(source, limits),
    }
    if isinstance(source, ArrayFile):
        check_space = partial(_check_space, target_folder)
        return array_files.pack_array_file(source, target_folder, preprocessing, check_space=check_space, **options)
    return picture_files.pack_pictures(source, target_folder, preprocessing, **options)


def fingerprint(source: Source, limits: Limits | None = None) -> str:
    """Returns a fingerprint of a source as it is now, which open_pack compares with that of the pack.

    No picture is read.

    Args:
        source: The data set.
        limits: The limits of the packing, since other limits leave out other pictures.

    Raises:
        DatasetError: not_found.
    """
    if isinstance(source, BuiltIn):
        return builtin_sets.builtin_fingerprint(source)
    if isinstance(source, ImageFolder):
        if not source.path.is_dir():
            raise DatasetError("not_found", f"{source.path}: no such folder")
        look = folder_fingerprint(source.path)
    else:
        if not source.path.is_file():
            raise DatasetError("not_found", f"{source.path}: no such file")
        status = source.path.stat()
        look = f"{status.st_size} {status.st_mtime_ns}"
    options = "" if isinstance(source, ArrayFile) else f"{source.layout} {source.split}"
    if isinstance(source, ImageFolder | ZipFile) and source.stride != 1:
        options += f" {source.stride}"
    if limits not in (None, Limits()):
        options += f" {limits}"
    return hashlib.sha256(f"{look} {options}".encode()).hexdigest()


def num_channels_of(source: Source, limits: Limits | None = None) -> int:
    """Returns 3 if a sample of a source's pictures shows a colour, else 1.

    Raises:
        DatasetError: The source cannot be read.
    """
    if isinstance(source, BuiltIn):
        coloured = builtin_sets.has_colour(source)
    elif isinstance(source, ArrayFile):
        coloured = array_files.has_colour(source, limits or Limits())
    else:
        coloured = picture_files.has_colour(source, limits or Limits())
    return 3 if coloured else 1


def count_images(source: Source, limits: Limits | None = None) -> int:
    """Returns about how many pictures a source has, from names and headers alone; no picture is read.

    Raises:
        DatasetError: The source cannot be read.
    """
    if isinstance(source, BuiltIn):
        return builtin_sets.num_images(source)
    if isinstance(source, ArrayFile):
        return array_files.count_images(source, limits or Limits())
    return picture_files.count_images(source, limits or Limits())


def sample_of(
    source: Source, preprocessing: Preprocessing, count: int, limits: Limits | None = None
) -> NDArray[np.uint8]:
    """Returns a few of a source's pictures, always the same ones while it does not change.

    Args:
        source: The data set.
        preprocessing: Size, channels and crop.
        count: Largest number of pictures.
        limits: Bounds on files, bytes and pixels (default: Limits()).

    Returns:
        (n, H, W, C) uint8, with n at least 1.

    Raises:
        DatasetError: The source cannot be read, or holds no picture.
    """
    limits = limits or Limits()
    if isinstance(source, BuiltIn):
        return builtin_sets.draw_sample(source, preprocessing, count)
    if isinstance(source, ArrayFile):
        return array_files.sample_array(source, preprocessing, count, limits)
    return picture_files.sample_pictures(source, preprocessing, count, limits)


def source_for(path: Path, *, layout: str = "auto", split: str = "official") -> Source:
    """Returns the source at a path, whose kind follows from the suffix.

    Args:
        path: A folder, or a file.
        layout: See ImageFolder.layout.
        split: See ImageFolder.split.

    Raises:
        DatasetError: not_found or not_an_archive.
    """
    if path.is_dir():
        return ImageFolder(path, layout, split)
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file or folder")
    return file_source(path, layout=layout, split=split)


def file_source(path: Path, *, layout: str = "auto", split: str = "official", stride: int = 1) -> ZipFile | ArrayFile:
    """Returns the source of a file, whose kind follows from the suffix.

    Args:
        path: The file.
        layout: See ImageFolder.layout.
        split: See ImageFolder.split.
        stride: See ImageFolder.stride.

    Raises:
        DatasetError: not_an_archive.
    """
    suffix = suffix_of(path.name)
    if suffix in FILM_SUFFIXES:
        return ZipFile(path, "frames" if layout == "auto" else layout, split, stride)
    if suffix in ARCHIVE_SUFFIXES:
        return ZipFile(path, layout, split, stride)
    if suffix in ARRAY_SUFFIXES:
        return ArrayFile(path)
    suffixes = ", ".join((*ARCHIVE_SUFFIXES, *ARRAY_SUFFIXES, *FILM_SUFFIXES))
    raise DatasetError("not_an_archive", f"{path.name}: expected a folder, or one of {suffixes}")


def _check_space(target: Path, num_bytes: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if num_bytes + _SPARE_BYTES > free:
        raise DatasetError("no_space", f"the pack needs {num_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _no_progress(done: int, total: int) -> None:
    pass
