"""Sources of images, their limits, and the error that all of them raise; free of torch."""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from models.tars import SUFFIXES as TAR_SUFFIXES

OnProgress = Callable[[int, int], None]
"""A function that is called with (done, total) images. If it raises, the packing ends and leaves nothing behind."""

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
"""Errors that zipfile raises for an entry that is damaged or compressed by an unknown method."""

LAYOUTS = ("auto", "images", "classes", "labels", "chairs3d", "celeba", "cars3d", "smallnorb", "frames")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv")
ANIMATION_SUFFIXES = (".gif", ".webp", ".png", ".apng")
FILM_SUFFIXES = (*VIDEO_SUFFIXES, ".gif")
"""Suffixes of single files that are data sets of their frames."""
ARRAY_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5")
UPLOAD_SUFFIXES = (*ARCHIVE_SUFFIXES, *ARRAY_SUFFIXES, *FILM_SUFFIXES)
"""Suffixes of the single files that can be a data set."""
LARGEST_STRIDE = 1_000_000
SPLIT_POLICIES = ("official", "identity", "none")
BUILT_IN = ("dsprites", "dsprites_color", "chairs")

OWN_FILE = ".betavae"
"""Name of the file that marks a folder of this software, such as the data folder or the folder of a run. Images below
it do not belong to a data set around it."""


def mark_as_own(folder: Path) -> None:
    """Marks an existing folder with OWN_FILE."""
    with suppress(OSError):  # Nothing is written into a read-only folder, so it needs no mark.
        (folder / OWN_FILE).touch()


def is_own(folder: str) -> bool:
    """Returns True if a folder is marked with OWN_FILE."""
    return os.path.exists(os.path.join(folder, OWN_FILE))


MAX_TEXT, MAX_MESSAGE = 300, 1000
"""Characters of a foreign name or reason that are kept, and of a message that may repeat several."""


def bounded_text(text: str, length: int = MAX_TEXT) -> str:
    """Returns the beginning of a foreign text without control characters, each of which JSON writes as six bytes."""
    return "".join("\ufffd" if c < " " or c == "\x7f" else c for c in text[:length]) + "…" * (len(text) > length)


class DatasetError(ValueError):
    """A data set that cannot be packed."""

    def __init__(self, code: str, message: str) -> None:
        """Takes a stable code and a message for people.

        Args:
            code: no_images, not_found, wrong_layout, bad_labels, not_a_zip, not_a_tar, not_an_archive, zip_bomb,
                tar_bomb, too_many_files, unsupported_array, needs_h5py, no_space, unknown_set, parser_died, no_memory
                or packing_cancelled.
            message: One sentence that names the file and, where possible, the next step.
        """
        self.code = code
        self.message = bounded_text(message, MAX_MESSAGE)
        super().__init__(self.message)


@dataclass(frozen=True)
class BuiltIn:
    """A data set that our own code draws."""

    name: str
    """The name is dsprites, dsprites_color or chairs."""
    max_images: int | None = None
    """Number of images to draw, evenly spaced over the factor grid; None draws all."""

    def __post_init__(self) -> None:
        if self.name not in BUILT_IN:
            raise DatasetError("unknown_set", f"no built-in set {self.name!r}; there are {', '.join(BUILT_IN)}")


@dataclass(frozen=True)
class ImageFolder:
    """Pictures in a folder, nested or flat."""

    path: Path
    layout: str = "auto"
    """The layout is auto (decided by the names), images (no labels), classes (a folder for each), labels (labels.csv),
    chairs3d, celeba, cars3d, smallnorb or frames (of videos and animations)."""
    split: str = "official"
    """The split is official (the set's own; by model for 3D Chairs), identity (none of them in two splits) or none."""
    stride: int = 1
    """Distance between two used frames of a video or an animation; 1 uses every frame."""

    def __post_init__(self) -> None:
        _check_choices(self.layout, self.split, self.stride)


@dataclass(frozen=True)
class ZipFile:
    """Pictures in a zip or a tar, which is read in place, or the frames of one video or GIF."""

    path: Path
    layout: str = "auto"
    """See ImageFolder.layout."""
    split: str = "official"
    """See ImageFolder.split."""
    stride: int = 1
    """See ImageFolder.stride."""

    def __post_init__(self) -> None:
        _check_choices(self.layout, self.split, self.stride)


@dataclass(frozen=True)
class ArrayFile:
    """Pixels in a .npz, .npy, .h5 or .hdf5 file; dSprites, Shapes3D and MPI3D are recognised by their content."""

    path: Path


Source = BuiltIn | ImageFolder | ZipFile | ArrayFile


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on the size of a source."""

    max_files: int = 2_000_000
    max_file_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    max_expansion: int = 200
    """Largest ratio of a zip's declared content, less 1 GiB, to its size. A content of at most 16 GiB that Deflate can
    make of this size is also accepted."""


def usable_cpus() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def suffix_of(name: str) -> str:
    """Returns the suffix of a file's name in lower case, such as .zip or .tar.gz."""
    suffix = PurePath(name).suffix.lower()
    return ".tar.gz" if name.lower().endswith(".tar.gz") else suffix


def check_upload(path: Path) -> None:
    """Checks that a file is one that can be a data set: by its suffix, and archives by their content.

    Raises:
        DatasetError: There is no such file, or it is none of these.
    """
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file or folder")
    suffix = suffix_of(path.name)
    if suffix not in UPLOAD_SUFFIXES:
        raise DatasetError("not_an_archive", f"{path.name}: expected a folder, or one of {', '.join(UPLOAD_SUFFIXES)}")
    if suffix == ".zip" and not zipfile.is_zipfile(path):
        raise DatasetError("not_a_zip", f"{path.name}: the file is not a zip, or is damaged")
    if suffix in TAR_SUFFIXES and not tarfile.is_tarfile(path):
        raise DatasetError("not_a_tar", f"{path.name}: the file is not a tar, or is damaged")


def _check_choices(layout: str, split: str, stride: int) -> None:
    if layout not in LAYOUTS:
        raise DatasetError("wrong_layout", f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    if split not in SPLIT_POLICIES:
        raise DatasetError("wrong_layout", f"no split {split!r}; there are {', '.join(SPLIT_POLICIES)}")
    if not 1 <= stride <= LARGEST_STRIDE:
        raise DatasetError("wrong_layout", f"the stride is {stride}; choose 1 to {LARGEST_STRIDE}")
