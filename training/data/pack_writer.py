"""Writing of packs: a pack appears whole or not at all."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from models.atomic import umask, write_bytes
from models.info import Preprocessing
from training.data.packs import (
    IMAGES_FILE,
    INFO_FILE,
    LABELS,
    REJECTED_FILE,
    SPLITS,
    PackError,
    PackInfo,
    Rejected,
    write_stamp,
)
from training.data.sources import bounded_text

MOST_REJECTED = 10_000
"""Most files that rejected.jsonl lists; further files are counted but not listed."""
MAX_FACTOR_NAME = 100
_HEADER_BYTES = 128
_LEFTOVER_SECONDS = 60


class PackWriter:
    """Writes a pack block by block into a temporary folder, which `finish` moves into place.

    If the `with` block ends before `finish`, the temporary folder is removed:

        with PackWriter(folder, preprocessing) as writer:
            writer.add(images)
            info = writer.finish(name=..., kind=..., source=...)
    """

    def __init__(self, folder: Path, preprocessing: Preprocessing) -> None:
        self.folder = folder
        self.preprocessing = preprocessing
        self.num_images = 0
        self.rejected: list[Rejected] = []
        """The first MOST_REJECTED files that were left out."""
        self.num_rejected = 0
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
        with suppress(OSError):  # On a full disk, closing fails once more.
            self._file.close()
        shutil.rmtree(self._work, ignore_errors=True)
        # Leftovers of a packer that was killed just before this one began were too recent at that time.
        _remove_leftovers(self.folder)

    def add(self, images: NDArray[np.uint8]) -> None:
        """Appends images.

        Args:
            images: (n, H, W, C) uint8.

        Raises:
            PackError: The shape or type is another one.
        """
        size = self.preprocessing.image_size
        expected = (size, size, self.preprocessing.num_channels)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise PackError(f"expected uint8 (n, {expected}), got {images.dtype} {images.shape}")
        block = np.ascontiguousarray(images).data
        self._digest.update(block)
        self._file.write(block)
        self.num_images += len(images)

    def reject(self, file: str, code: str, reason: str) -> None:
        """Records a file that was left out.

        Args:
            file: Its name, of which a bounded part is kept.
            code: Stable code of the reason.
            reason: The reason in words.
        """
        self.num_rejected += 1
        if len(self.rejected) < MOST_REJECTED:
            self.rejected.append(Rejected(bounded_text(file), code, bounded_text(reason)))

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
        values: NDArray[np.float64] | None = None,
        sequences: NDArray[np.int32] | None = None,
        source_fingerprint: str | None = None,
    ) -> PackInfo:
        """Writes labels and description, flushes everything to the disk, and moves the pack into place.

        Args:
            name: Name of the set, for people.
            kind: See PackInfo.kind.
            source: Where the images come from, for people.
            factors: (N, F) class indices.
            factor_names: F names.
            factor_sizes: Number of values of each factor.
            full_grid: See PackInfo.full_grid.
            split: (N,), 0 train, 1 validation, 2 test.
            identities: (N,), the number of the person or of the chair model.
            values: (N, F), see Pack.values.
            sequences: (N, 2), see Pack.sequences.
            source_fingerprint: See PackInfo.source_fingerprint.

        Raises:
            PackError: There is no image, or labels have another number of rows.
        """
        if self.num_images == 0:
            raise PackError("a pack needs at least one image")
        arrays = {"images": self._close_images()}
        for label, rows in zip(LABELS, (factors, split, identities, values, sequences), strict=True):
            if rows is not None:
                arrays[label] = self._write_labels(label, rows)
        info = PackInfo(
            id=self.folder.name,
            name=name,
            kind=kind,
            source=source,
            num_images=self.num_images,
            preprocessing=self.preprocessing,
            factor_names=_bounded_names(factor_names),
            factor_sizes=factor_sizes,
            full_grid=full_grid,
            split_sizes=None if split is None else {s: int((split == i).sum()) for i, s in enumerate(SPLITS)},
            num_identities=None if identities is None else len(np.unique(identities)),
            num_rejected=self.num_rejected,
            digest=self._digest.hexdigest(),
            source_fingerprint=source_fingerprint,
            arrays=arrays,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._publish(info)
        return info

    def _close_images(self) -> tuple[str, tuple[int, ...]]:
        """Fills in the header of the images and flushes them; returns their type and shape."""
        size = self.preprocessing.image_size
        shape = (self.num_images, size, size, self.preprocessing.num_channels)
        self._file.seek(0)
        self._file.write(_npy_header("|u1", shape))
        _sync(self._file)
        self._file.close()
        return "|u1", shape

    def _publish(self, info: PackInfo) -> None:
        write_bytes(self._work / REJECTED_FILE, "".join(map(_json_line, self.rejected)).encode())
        write_stamp(self._work, info)
        write_bytes(self._work / INFO_FILE, (json.dumps(info.to_json(), indent=2) + "\n").encode())
        _move_into_place(self._work, self.folder)

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


def _bounded_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of factors in a bounded length, still all different."""
    kept = [bounded_text(name, MAX_FACTOR_NAME) for name in names]
    return tuple(f"{name} {i}" if kept.count(name) > names.count(names[i]) else name for i, name in enumerate(kept))


def _json_line(rejected: Rejected) -> str:
    """Returns a line of rejected.jsonl; bytes of a name that are not UTF-8 are escaped."""
    line = json.dumps(vars(rejected), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(vars(rejected))
    return line + "\n"


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Returns a .npy header (version 1.0) of fixed length, to be filled in once the number of images is known."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (_HEADER_BYTES - 10).to_bytes(2, "little")
        + text.ljust(_HEADER_BYTES - 11).encode()
        + b"\n"
    )


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _move_into_place(work: Path, folder: Path) -> None:
    os.chmod(work, 0o777 & ~umask())
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
            # Another process has just moved its pack there; it is replaced in the next round.
        finally:
            shutil.rmtree(old, ignore_errors=True)  # Processes that have mapped the old arrays keep them.


def _remove_leftovers(folder: Path) -> None:
    """Removes the folders that killed packers left behind; a running packer holds a lock on its images."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.packing-*"):
        with suppress(OSError):
            newest = max(path.stat().st_mtime for path in (leftover, *leftover.iterdir()))
            # A packer holds no lock just after its start and just before its end.
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
