"""Where images come from, and what may go wrong with it; free of torch."""

import lzma
import os
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OnProgress = Callable[[int, int], None]
"""Called with (done, total) images. What it raises ends the packing and leaves nothing behind."""

DAMAGED_ARCHIVE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises for an entry that is damaged or packed in a way that it does not know."""

LAYOUTS = ("auto", "images", "chairs3d", "celeba")
SPLIT_POLICIES = ("official", "identity", "none")
BUILT_IN = ("dsprites", "dsprites_color", "chairs")

OWN_FILE = ".betavae"
"""In a folder that this software writes into, the data folder or a run's: what lies below it are no pictures of a set
around it."""


def mark_as_own(folder: Path) -> None:
    """Marks a folder, which is there, with OWN_FILE."""
    with suppress(OSError):  # A read-only one is none that is written into.
        (folder / OWN_FILE).touch()


def is_own(folder: str) -> bool:
    """Whether a folder is marked so."""
    return os.path.exists(os.path.join(folder, OWN_FILE))


class DatasetError(ValueError):
    """A data set that cannot be packed. `code` is stable: no_images, not_found, wrong_layout, bad_labels, not_a_zip,
    not_an_archive, zip_bomb, too_many_files, unsupported_array, needs_h5py, no_space, unknown_set,
    parser_died, no_memory or packing_cancelled."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class BuiltIn:
    """A set that our own code draws: dsprites, dsprites_color or chairs.

    With max_images, that many images, evenly spaced over the factor grid, are drawn instead of all.
    """

    name: str
    max_images: int | None = None

    def __post_init__(self) -> None:
        if self.name not in BUILT_IN:
            raise DatasetError("unknown_set", f"no built-in set {self.name!r}; there are {', '.join(BUILT_IN)}")


@dataclass(frozen=True)
class ImageFolder:
    """Pictures in a folder, nested or flat.

    Args: layout, auto (look at the names), images (no labels), chairs3d or celeba; split, official (the set's own;
    by model for 3D Chairs), identity (no person or model in two splits) or none.
    """

    path: Path
    layout: str = "auto"
    split: str = "official"

    def __post_init__(self) -> None:
        _check_choices(self.layout, self.split)


@dataclass(frozen=True)
class ZipFile:
    """The same in a zip archive, which is read in place and never extracted."""

    path: Path
    layout: str = "auto"
    split: str = "official"

    def __post_init__(self) -> None:
        _check_choices(self.layout, self.split)


@dataclass(frozen=True)
class ArrayFile:
    """Pixels in a .npz, .npy, .h5 or .hdf5 file; dSprites, Shapes3D and MPI3D are recognised by what they hold."""

    path: Path


Source = BuiltIn | ImageFolder | ZipFile | ArrayFile


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a source may cost."""

    max_files: int = 2_000_000
    max_file_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    max_expansion: int = 200
    """A zip may hold this many times its own size, and 1 GiB on top; 16 GiB, where they can come of that size."""


def usable_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_choices(layout: str, split: str) -> None:
    if layout not in LAYOUTS:
        raise DatasetError("wrong_layout", f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    if split not in SPLIT_POLICIES:
        raise DatasetError("wrong_layout", f"no split {split!r}; there are {', '.join(SPLIT_POLICIES)}")
