"""Packed data sets: every image decoded once, into one uint8 array that training maps into memory.

A pack is a folder: dataset.json, images.npy (N, H, W, C), where known factors.npy (N, F), split.npy (N,) and
identities.npy (N,), and rejected.jsonl. It appears whole or not at all.
"""

import errno
import fcntl
import glob
import hashlib
import itertools
import json
import math
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

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
"""In a run's folder: the pack that it began with."""
SPLITS = ("train", "validation", "test")

_HEADER_BYTES = 128
_LABELS = ("factors", "split", "identities")
_LEFTOVER_SECONDS = 60


class PackError(ValueError):
    """A pack that is missing, damaged, stale, or cannot be written."""


@dataclass(frozen=True, kw_only=True)
class PackInfo:
    """What dataset.json says of a pack."""

    id: str
    name: str
    kind: str
    """builtin, images, chairs3d, celeba, dsprites, shapes3d, mpi3d, array."""
    source: str
    num_images: int
    preprocessing: Preprocessing
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    full_grid: bool = False
    """Whether image i has the factors np.unravel_index(i, factor_sizes): all combinations, the last factor fastest."""
    split_sizes: dict[str, int] | None = None
    """Number of images per split where the set brings one; None where the training chooses."""
    num_identities: int | None = None
    num_rejected: int = 0
    digest: str = ""
    """sha256 of the pixels, then of the factors, the split and the identities."""
    source_fingerprint: str | None = None
    """What the source looked like when it was packed (files, sizes, times); None where it cannot change."""
    arrays: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """dtype and shape of every array file."""
    created_at: str = ""

    @property
    def image_size(self) -> int:
        """Height and width, px."""
        return self.preprocessing.image_size

    @property
    def num_channels(self) -> int:
        """1 or 3."""
        return self.preprocessing.num_channels

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"format_version": FORMAT_VERSION, "id": self.id}
        data |= {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["preprocessing"] = dict(vars(self.preprocessing))
        data["arrays"] = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in self.arrays.items()}
        return data | {"image_size": self.image_size, "num_channels": self.num_channels}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PackInfo":
        """Reads what to_json wrote. Raises PackError for a missing or wrong part, or another format version."""
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
    """An open pack. Nothing is read until it is indexed."""

    folder: Path
    info: PackInfo
    images: NDArray[np.uint8]
    """(N, H, W, C), mapped read-only."""
    factors: NDArray[np.integer[Any]] | None
    """(N, F) class indices."""
    split: NDArray[np.uint8] | None
    """(N,): 0 train, 1 validation, 2 test."""
    identities: NDArray[np.int32] | None
    """(N,): whose face, which chair model."""

    def indices(self, split: str) -> NDArray[np.int64]:
        """Indices of the images of a split (train, validation, test); of all where the set brings no split."""
        if self.split is None:
            return np.arange(self.info.num_images)
        return np.flatnonzero(self.split == SPLITS.index(split))


@dataclass(frozen=True)
class Rejected:
    """A file that was left out, and why."""

    file: str
    code: str
    reason: str


class PackWriter:
    """Writes a pack block by block into a temporary folder; `finish` puts it in place, leaving the block removes it.

    with PackWriter(folder, preprocessing) as writer:
        writer.add(images)
        info = writer.finish(name=..., kind=..., source=...)
    """

    def __init__(self, folder: Path, preprocessing: Preprocessing) -> None:
        self.folder = folder
        self.preprocessing = preprocessing
        self.num_images = 0
        self.rejected: list[Rejected] = []
        self._digest = hashlib.sha256()
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        self._work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.packing-"))
        self._file: BinaryIO = (self._work / IMAGES_FILE).open("wb")
        with suppress(OSError):  # Some network file systems have no locks.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.write(bytes(_HEADER_BYTES))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # On a full disk it fails once more.
            self._file.close()
        shutil.rmtree(self._work, ignore_errors=True)
        # What a packer left that was killed just before this one began was too young then.
        _remove_leftovers(self.folder)

    def add(self, images: NDArray[np.uint8]) -> None:
        """Appends (n, H, W, C) uint8. Raises PackError for another shape or type."""
        size = self.preprocessing.image_size
        expected = (size, size, self.preprocessing.num_channels)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise PackError(f"expected uint8 (n, {expected}), got {images.dtype} {images.shape}")
        block = np.ascontiguousarray(images).data
        self._digest.update(block)
        self._file.write(block)
        self.num_images += len(images)

    def reject(self, file: str, code: str, reason: str) -> None:
        """Notes a file that was left out."""
        self.rejected.append(Rejected(file, code, reason))

    def finish(
        self,
        *,
        name: str,
        kind: str,
        source: str,
        factors: NDArray[np.integer[Any]] | None = None,
        factor_names: tuple[str, ...] = (),
        factor_sizes: tuple[int, ...] = (),
        full_grid: bool = False,
        split: NDArray[np.uint8] | None = None,
        identities: NDArray[np.int32] | None = None,
        source_fingerprint: str | None = None,
    ) -> PackInfo:
        """Writes the labels and the description, flushes all to the disk and moves the pack to its place."""
        if self.num_images == 0:
            raise PackError("a pack needs at least one image")
        size = self.preprocessing.image_size
        shape = (self.num_images, size, size, self.preprocessing.num_channels)
        self._file.seek(0)
        self._file.write(_npy_header("|u1", shape))
        _sync(self._file)
        self._file.close()
        arrays: dict[str, tuple[str, tuple[int, ...]]] = {"images": ("|u1", shape)}
        for label, values in zip(_LABELS, (factors, split, identities), strict=True):
            if values is not None:
                arrays[label] = self._write_labels(label, values)
        info = PackInfo(
            id=self.folder.name,
            name=name,
            kind=kind,
            source=source,
            num_images=self.num_images,
            preprocessing=self.preprocessing,
            factor_names=factor_names,
            factor_sizes=factor_sizes,
            full_grid=full_grid,
            split_sizes=None if split is None else {s: int((split == i).sum()) for i, s in enumerate(SPLITS)},
            num_identities=None if identities is None else len(np.unique(identities)),
            num_rejected=len(self.rejected),
            digest=self._digest.hexdigest(),
            source_fingerprint=source_fingerprint,
            arrays=arrays,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_bytes(self._work / REJECTED_FILE, "".join(map(_json_line, self.rejected)).encode())
        _write_stamp(self._work, info)
        write_bytes(self._work / INFO_FILE, (json.dumps(info.to_json(), indent=2) + "\n").encode())
        _move_into_place(self._work, self.folder)
        return info

    def _write_labels(self, label: str, values: NDArray[Any]) -> tuple[str, tuple[int, ...]]:
        if len(values) != self.num_images:
            raise PackError(f"{label}: expected {self.num_images} rows, got {len(values)}")
        values = np.ascontiguousarray(values)
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        self._digest.update(values.tobytes())
        with (self._work / f"{label}.npy").open("wb") as file:
            np.save(file, values, allow_pickle=False)
            _sync(file)
        return values.dtype.str, values.shape


def factor_grid(sizes: tuple[int, ...]) -> NDArray[np.uint16]:
    """The factors of a full grid (PackInfo.full_grid), the last one fastest: (N, F), N the product of the sizes."""
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1).astype(np.uint16)


def read_pack_info(folder: Path) -> PackInfo:
    """What dataset.json says, without opening the arrays. Raises PackError."""
    try:
        data = json.loads((folder / INFO_FILE).read_text("utf-8"))
    except FileNotFoundError as error:
        raise PackError(f"{folder}: no pack here ({INFO_FILE} is missing)") from error
    except (OSError, ValueError) as error:
        raise PackError(f"{folder}: {INFO_FILE} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise PackError(f"{folder}: {INFO_FILE} is damaged: not an object")
    return PackInfo.from_json(data)


def _json_line(rejected: Rejected) -> str:
    """Readable where it can be; a name of bytes that are no UTF-8 has escapes in their place."""
    line = json.dumps(vars(rejected), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(vars(rejected))
    return line + "\n"


def read_rejected(folder: Path, *, limit: int | None = None) -> list[Rejected]:
    """The files that were left out, the first `limit` of them."""
    with (folder / REJECTED_FILE).open("r", encoding="utf-8", errors="surrogateescape") as lines:
        return [Rejected(**json.loads(line)) for line in itertools.islice(lines, limit)]


def open_pack(
    folder: Path,
    *,
    preprocessing: Preprocessing | None = None,
    source_fingerprint: str | None = None,
    verify: bool = False,
) -> Pack:
    """Maps a pack into memory, after making sure that it is what it was.

    The digest is computed anew (about a second per GB) when a file's size or time differs from what was last verified,
    as after a copy, or when `verify` asks for it.
    Args: preprocessing and source_fingerprint, what the caller needs; a pack made otherwise is stale.
    Raises: PackError.
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
        _write_stamp(folder, info)
    labels = {label: None if label not in arrays else np.asarray(arrays[label]) for label in _LABELS}
    return Pack(folder, info, arrays["images"], **labels)


def keep_pack(pack: Pack, run_folder: Path) -> None:
    """Keeps a pack for a run that may be stopped and go on when the set has been packed anew.

    By hard links, which take no room before that; where a file system has none, or the run's folder lies on another,
    nothing is kept.
    """
    release_pack(run_folder)
    folder = run_folder / KEPT_FOLDER
    with suppress(OSError):
        folder.mkdir(parents=True)
        for path in pack.folder.iterdir():
            os.link(path, folder / path.name)


def kept_pack(run_folder: Path, preprocessing: Preprocessing) -> Pack | None:
    """The pack that a run began with; None where none was kept, or another is wanted."""
    try:
        return open_pack(run_folder / KEPT_FOLDER, preprocessing=preprocessing)
    except PackError:
        return None


def release_pack(run_folder: Path) -> None:
    """Lets go of the pack of a run that has ended."""
    shutil.rmtree(run_folder / KEPT_FOLDER, ignore_errors=True)


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """A version 1.0 .npy header of a fixed length, so that it can be filled in when the number of images is known."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (_HEADER_BYTES - 10).to_bytes(2, "little")
        + text.ljust(_HEADER_BYTES - 11).encode()
        + b"\n"
    )


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
    for label in ("images", *_LABELS):
        if label in arrays:
            rows = max(1, 2**26 // max(1, arrays[label][:1].nbytes))
            for start in range(0, len(arrays[label]), rows):
                digest.update(np.ascontiguousarray(arrays[label][start : start + rows]).data)
    return digest.hexdigest()


def _stamp(folder: Path, info: PackInfo) -> dict[str, Any]:
    """Digest, and size and modification time of every array: what was true when it was last verified."""
    stats = {label: (folder / f"{label}.npy").stat() for label in info.arrays}
    return {"digest": info.digest, "files": {label: [s.st_size, s.st_mtime_ns] for label, s in stats.items()}}


def _stamp_matches(folder: Path, info: PackInfo) -> bool:
    try:
        return bool(json.loads((folder / STAMP_FILE).read_text("utf-8")) == _stamp(folder, info))
    except (OSError, ValueError):
        return False


def _write_stamp(folder: Path, info: PackInfo) -> None:
    with suppress(OSError):  # A read-only folder is verified at every opening.
        write_bytes(folder / STAMP_FILE, json.dumps(_stamp(folder, info)).encode())


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _move_into_place(work: Path, folder: Path) -> None:
    os.chmod(work, 0o777 & ~_umask())
    while True:
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.packing-"))
        try:
            with suppress(FileNotFoundError):
                os.replace(folder, old / "old")
            os.replace(work, folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with suppress(OSError):
                    os.replace(old / "old", folder)
                raise
            # Another process has just put its pack of the same there.
        finally:
            shutil.rmtree(old, ignore_errors=True)  # Whoever has the old arrays mapped keeps them.


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _remove_leftovers(folder: Path) -> None:
    """Clears what a killed packer left behind: a packer at work holds a lock on its images."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.packing-*"):
        with suppress(OSError):
            newest = max(path.stat().st_mtime for path in (leftover, *leftover.iterdir()))
            # Just after its start and just before its end a packer holds no lock.
            if time.time() - newest > _LEFTOVER_SECONDS and not _is_locked(leftover / IMAGES_FILE):
                shutil.rmtree(leftover, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
