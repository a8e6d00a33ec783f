"""Packing of any data set: built-in, folder, zip or array file; free of torch."""

import hashlib
import shutil
from pathlib import Path

from training.data import array_files, builtin_sets, picture_files
from training.data.images import Preprocessing
from training.data.packs import PackError, PackInfo
from training.data.sources import (
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    OnProgress,
    Source,
    ZipFile,
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
    "fingerprint",
    "num_channels_of",
    "pack_dataset",
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
    """Decodes or draws a whole data set into a pack, which replaces what stood at target_folder.

    A file that cannot be read is noted in rejected.jsonl and costs nothing else.
    Args: name, for people (default: the source's); on_progress, called with (done, total), may raise to stop;
    num_workers, threads (default: the processors at hand, at most 8).
    Raises: DatasetError; OSError where the disk fails. Nothing is left behind then, and an older pack stays.
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
    source_fingerprint = fingerprint(source, limits)
    if isinstance(source, ArrayFile):
        return array_files.pack_array_file(
            source,
            target_folder,
            preprocessing,
            name=name or source.path.stem,
            limits=limits,
            num_workers=workers,
            on_progress=progress,
            check_space=lambda num_bytes: _check_space(target_folder, num_bytes),
            source_fingerprint=source_fingerprint,
        )
    return picture_files.pack_pictures(
        source,
        target_folder,
        preprocessing,
        name=name or source.path.stem,
        limits=limits,
        num_workers=workers,
        on_progress=progress,
        source_fingerprint=source_fingerprint,
    )


def fingerprint(source: Source, limits: Limits | None = None) -> str:
    """What a source looks like now; open_pack compares it with what was packed. Reads no picture.

    Args: limits, of the packing: with others, other pictures are left out.
    Raises: DatasetError not_found.
    """
    if isinstance(source, BuiltIn):
        return builtin_sets.builtin_fingerprint(source)
    if isinstance(source, ImageFolder):
        if not source.path.is_dir():
            raise DatasetError("not_found", f"{source.path}: no such folder")
        look = picture_files.folder_fingerprint(source.path)
    else:
        if not source.path.is_file():
            raise DatasetError("not_found", f"{source.path}: no such file")
        status = source.path.stat()
        look = f"{status.st_size} {status.st_mtime_ns}"
    options = "" if isinstance(source, ArrayFile) else f"{source.layout} {source.split}"
    if limits not in (None, Limits()):
        options += f" {limits}"
    return hashlib.sha256(f"{look} {options}".encode()).hexdigest()


def num_channels_of(source: Source, limits: Limits | None = None) -> int:
    """3 where some of a source's pictures, of which a few are looked at, have colours; otherwise 1.

    Raises: DatasetError.
    """
    if isinstance(source, BuiltIn):
        coloured = builtin_sets.has_colour(source)
    elif isinstance(source, ArrayFile):
        coloured = array_files.has_colour(source, limits or Limits())
    else:
        coloured = picture_files.has_colour(source, limits or Limits())
    return 3 if coloured else 1


def source_for(path: Path, *, layout: str = "auto", split: str = "official") -> Source:
    """The kind of source that a path is, by its suffix. Raises: DatasetError not_found or not_an_archive."""
    if path.is_dir():
        return ImageFolder(path, layout, split)
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return ZipFile(path, layout, split)
    if suffix in (".npz", ".npy", ".h5", ".hdf5"):
        return ArrayFile(path)
    raise DatasetError("not_an_archive", f"{path.name}: expected a folder, or a .zip, .npz, .npy, .h5 or .hdf5 file")


def _check_space(target: Path, num_bytes: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if num_bytes + _SPARE_BYTES > free:
        raise DatasetError("no_space", f"the pack needs {num_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _no_progress(done: int, total: int) -> None:
    pass
