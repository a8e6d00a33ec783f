"""Packed data sets, whose images are decoded once into one uint8 array that training maps into memory.

A pack is a folder of dataset.json, images.npy (N, H, W, C), rejected.jsonl and, if they are known, factors.npy and
values.npy (N, F), split.npy (N,), identities.npy (N,) and sequences.npy (N, 2). pack_writer.py writes it.
"""

import hashlib
import itertools
import json
import math
import os
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from models.atomic import write_bytes
from models.config import ConfigError
from models.info import Preprocessing

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"
IMAGES_FILE = "images.npy"
REJECTED_FILE = "rejected.jsonl"
STAMP_FILE = ".verified.json"
KEPT_FOLDER = ".pack"
"""Name of the folder, in a run's folder, with the pack that the run began with."""
_MOST_WARNINGS = 100
SPLITS = ("train", "validation", "test")
LABELS = ("factors", "split", "identities", "values", "sequences")
"""Names of the arrays that a pack may have beside its images."""


class PackError(ValueError):
    """A pack that is missing, damaged, stale, or cannot be written."""


@dataclass(frozen=True, kw_only=True)
class PackInfo:
    """The description of a pack, which is the content of dataset.json."""

    id: str
    name: str
    kind: str
    """The kind is builtin, array, dsprites, shapes3d, mpi3d, or the layout of a folder (see Layout.kind)."""
    source: str
    num_images: int
    preprocessing: Preprocessing
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    full_grid: bool = False
    """True if image i has the factors np.unravel_index(i, factor_sizes): all combinations, the last factor fastest."""
    split_sizes: dict[str, int] | None = None
    """The number of images of each split; None if the set has no split, so that the training makes one."""
    num_identities: int | None = None
    num_rejected: int = 0
    digest: str = ""
    """The sha256 over the pixels, the factors, the split, the identities, the values and the sequences, in this
    order."""
    source_fingerprint: str | None = None
    """The fingerprint of the source when it was packed (files, sizes, times); None if it cannot change."""
    arrays: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """The type and shape of every array file, by its name without .npy."""
    created_at: str = ""

    @property
    def image_size(self) -> int:
        """The height and width of the images, px."""
        return self.preprocessing.image_size

    @property
    def num_channels(self) -> int:
        """The number of channels, 1 or 3."""
        return self.preprocessing.num_channels

    @property
    def has_sequences(self) -> bool:
        """Whether the images are known to be frames of sequences."""
        return "sequences" in self.arrays

    def to_json(self) -> dict[str, Any]:
        """Returns the content of dataset.json."""
        data: dict[str, Any] = {"format_version": FORMAT_VERSION, "id": self.id}
        data |= {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["preprocessing"] = dict(vars(self.preprocessing))
        data["arrays"] = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in self.arrays.items()}
        return data | {"image_size": self.image_size, "num_channels": self.num_channels}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PackInfo":
        """Reads what to_json wrote.

        Raises:
            PackError: A part is missing or wrong, or the format version is another one.
        """
        if data.get("format_version") != FORMAT_VERSION:
            raise PackError(f"stale: packed in format {data.get('format_version')!r}, not {FORMAT_VERSION}; pack again")
        try:
            known = {name: data[name] for name in cls.__dataclass_fields__}
            known["preprocessing"] = Preprocessing(**data["preprocessing"])
            known["factor_names"] = tuple(map(str, data["factor_names"]))
            known["factor_sizes"] = tuple(map(int, data["factor_sizes"]))
            known["arrays"] = {
                name: (str(a["dtype"]), tuple(map(int, a["shape"]))) for name, a in data["arrays"].items()
            }
            return cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise PackError(f"{INFO_FILE} is damaged: {error!r}") from error


@dataclass(frozen=True)
class Pack:
    """An open pack, whose images are read when they are indexed."""

    folder: Path
    info: PackInfo
    images: NDArray[np.uint8]
    """The images, (N, H, W, C) uint8, mapped read-only from the file."""
    factors: NDArray[np.integer[Any]] | None
    """The class indices of the factors, (N, F)."""
    split: NDArray[np.uint8] | None
    """The split of each image, (N,): 0 for train, 1 for validation and 2 for test."""
    identities: NDArray[np.int32] | None
    """The number of the person or of the chair model, (N,)."""
    values: NDArray[np.float64] | None = None
    """The numbers that the set gives for its factors, (N, F), NaN in the columns of classes; None if all are."""
    sequences: NDArray[np.int32] | None = None
    """The number of each image's sequence, −1 for none, and its place in it, (N, 2); None without sequences."""

    def indices(self, split: str) -> NDArray[np.int64]:
        """Returns the indices of the images of a split (train, validation or test), or of all if there is no split."""
        if self.split is None:
            return np.arange(self.info.num_images)
        return np.flatnonzero(self.split == SPLITS.index(split))


@dataclass(frozen=True)
class Rejected:
    """A file that was left out, and the reason."""

    file: str
    code: str
    reason: str


def factor_grid(sizes: tuple[int, ...]) -> NDArray[np.uint16]:
    """Returns the factors of a full grid (see PackInfo.full_grid), (N, F), where N is the product of the sizes."""
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1).astype(np.uint16)


def read_pack_info(folder: Path) -> PackInfo:
    """Reads dataset.json without opening the arrays.

    Raises:
        PackError: There is no pack, or its description is damaged.
    """
    try:
        data = json.loads((folder / INFO_FILE).read_text("utf-8"))
    except FileNotFoundError as error:
        raise PackError(f"{folder}: no pack here ({INFO_FILE} is missing)") from error
    except (OSError, ValueError) as error:
        raise PackError(f"{folder}: {INFO_FILE} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise PackError(f"{folder}: {INFO_FILE} is damaged: not an object")
    return PackInfo.from_json(data)


def _rejected_lines(folder: Path) -> TextIO:
    return (folder / REJECTED_FILE).open("r", encoding="utf-8", errors="surrogateescape")


def read_rejected(folder: Path, *, limit: int | None = None) -> list[Rejected]:
    """Returns the files that were left out, or the first `limit` of them."""
    with _rejected_lines(folder) as lines:
        return [Rejected(**json.loads(line)) for line in itertools.islice(lines, limit)]


def left_out_text(folder: Path) -> str | None:
    """Returns how many files a pack left out, and why, with an example for each reason; None if it has them all."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError), _rejected_lines(folder) as lines:
        for rejected in (Rejected(**json.loads(line)) for line in lines):
            if rejected.code != "bad_labels":  # Labels are no files; label_warnings has them.
                counts[rejected.code] += 1
                examples.setdefault(rejected.code, f"{rejected.file}: {rejected.reason}")
    if not counts:
        return None
    parts = [f"{count} {code} ({examples[code]})" for code, count in counts.most_common()]
    return f"{counts.total()} {'file was' if counts.total() == 1 else 'files were'} left out: {', '.join(parts)}"


def label_warnings(folder: Path) -> list[str]:
    """Returns a sentence for each list or array of labels that is not used, or only in part."""
    with suppress(OSError, ValueError, TypeError):
        found = [rejected for rejected in read_rejected(folder, limit=_MOST_WARNINGS) if rejected.code == "bad_labels"]
        return [f"labels in {rejected.file}: {rejected.reason}" for rejected in found]
    return []


def open_pack(
    folder: Path,
    *,
    preprocessing: Preprocessing | None = None,
    source_fingerprint: str | None = None,
    verify: bool = False,
) -> Pack:
    """Maps a pack into memory, after checking that it has not changed since it was written.

    The digest is computed anew (about a second per GB) if the size or time of a file differs from when it was last
    verified, for instance after a copy, or if `verify` is set.

    Args:
        folder: The pack's folder.
        preprocessing: What the caller needs; a pack with another preprocessing is stale.
        source_fingerprint: Fingerprint of the source now; a pack with another one is stale.
        verify: Compute the digest in any case.

    Raises:
        PackError: The pack is missing, damaged or stale.
    """
    info = read_pack_info(folder)
    if preprocessing is not None and preprocessing != info.preprocessing:
        raise PackError(f"{folder}: stale: packed with {info.preprocessing}, needed {preprocessing}; pack again")
    if source_fingerprint is not None and source_fingerprint != info.source_fingerprint:
        raise PackError(f"{folder}: stale: the source has changed since it was packed; pack again")
    arrays = {label: _map_array(folder, label, *info.arrays[label]) for label in info.arrays}
    if "images" not in arrays or any(len(a) != info.num_images for a in arrays.values()):
        raise PackError(f"{folder}: damaged: the arrays do not hold {info.num_images} images")
    if verify or not _stamp_matches(folder, info):
        if _digest(arrays) != info.digest:
            raise PackError(f"{folder}: damaged: the pixels or labels are not those that were packed; pack again")
        write_stamp(folder, info)
    labels = {label: None if label not in arrays else np.asarray(arrays[label]) for label in LABELS}
    return Pack(folder, info, arrays["images"], **labels)


def keep_pack(pack: Pack, run_folder: Path) -> None:
    """Keeps a pack for a run, which may be resumed after the set has been packed anew.

    The pack is kept as hard links, which take no space until then. Nothing is kept if the file system has no hard
    links, or if the run's folder lies on another one.
    """
    release_pack(run_folder)
    folder = run_folder / KEPT_FOLDER
    with suppress(OSError):
        folder.mkdir(parents=True)
        for path in pack.folder.iterdir():
            os.link(path, folder / path.name)


def kept_pack(run_folder: Path, preprocessing: Preprocessing) -> Pack | None:
    """Opens the pack that a run began with; returns None if none was kept or its preprocessing differs."""
    try:
        return open_pack(run_folder / KEPT_FOLDER, preprocessing=preprocessing)
    except PackError:
        return None


def release_pack(run_folder: Path) -> None:
    """Removes the pack that was kept for a run."""
    shutil.rmtree(run_folder / KEPT_FOLDER, ignore_errors=True)


def _map_array(folder: Path, label: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(folder / f"{label}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PackError(f"{folder}: damaged: {label}.npy: {error}") from error
    if array.dtype.str != dtype or array.shape != shape:
        raise PackError(f"{folder}: damaged: {label}.npy holds {array.dtype.str} {array.shape}, not {dtype} {shape}")
    return array


def _digest(arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for label in ("images", *LABELS):
        if label in arrays:
            rows = max(1, 2**26 // max(1, arrays[label][:1].nbytes))
            for start in range(0, len(arrays[label]), rows):
                digest.update(np.ascontiguousarray(arrays[label][start : start + rows]).data)
    return digest.hexdigest()


def _stamp(folder: Path, info: PackInfo) -> dict[str, Any]:
    """Returns the digest, and the size and modification time of every array file as they are now."""
    stats = {label: (folder / f"{label}.npy").stat() for label in info.arrays}
    return {"digest": info.digest, "files": {label: [s.st_size, s.st_mtime_ns] for label, s in stats.items()}}


def _stamp_matches(folder: Path, info: PackInfo) -> bool:
    try:
        return bool(json.loads((folder / STAMP_FILE).read_text("utf-8")) == _stamp(folder, info))
    except (OSError, ValueError):
        return False


def write_stamp(folder: Path, info: PackInfo) -> None:
    """Records that the arrays of a pack were verified in their present state."""
    with suppress(OSError):  # A pack in a read-only folder is verified each time that it is opened.
        write_bytes(folder / STAMP_FILE, json.dumps(_stamp(folder, info)).encode())
