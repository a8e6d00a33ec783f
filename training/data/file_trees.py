"""Files of a folder or of a zip, by name; a zip is read in place and never extracted; free of torch."""

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from training.data.images import ImageError
from training.data.sources import DAMAGED_ARCHIVE, DatasetError, Limits, is_own

_HEAD_BYTES = 32
_END_OF_ZIP = struct.Struct("<4s4H2LH")
_MIN_ENTRY_BYTES = 46
"""Size of the heading of a zip entry, without its name."""
_MEAN_NAME_BYTES = 300
"""Allowed mean length of an entry's name, in bytes; ordinary archives need less."""
_MAX_DEFLATE = 1032
"""Largest expansion by Deflate, which a blank BMP reaches, for instance."""
_MODEST_BYTES = 16 * 2**30
"""Size that can be unpacked, entry by entry and never to the disk, in half a minute."""

_IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


class Files(Protocol):
    """The files of a folder or a zip."""

    refused: list[tuple[str, str, str]]
    """The name, the code and the reason of each file that is not read."""

    def names(self) -> list[str]:
        """Returns the relative POSIX paths of the files."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Reads a file.

        Raises:
            ImageError: It cannot be read, or is larger than max_bytes.
        """
        ...

    def head(self, name: str) -> bytes:
        """Returns the first 32 bytes of a file, or none if they cannot be read."""
        ...


@contextmanager
def open_folder(folder: Path, limits: Limits) -> Iterator[Files]:
    """Opens a folder.

    Raises:
        DatasetError: not_found or too_many_files.
    """
    if not folder.is_dir():
        raise DatasetError("not_found", f"{folder}: no such folder")
    yield _FolderFiles(folder, limits)


@contextmanager
def open_zip(path: Path, limits: Limits) -> Iterator[Files]:
    """Opens a zip.

    Raises:
        DatasetError: not_found, not_a_zip, zip_bomb or too_many_files.
    """
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file")
    _check_directory_size(path, limits)
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED_ARCHIVE as error:
        raise DatasetError("not_a_zip", f"{path.name}: {error}") from error
    with archive:
        yield _ZipFiles(archive, path.stat().st_size, limits)


def folder_fingerprint(folder: Path) -> str:
    """Returns the sha256 over name, size and time of every file.

    The result changes when a file is added, removed or changed.
    """
    digest = hashlib.sha256()
    for name, entry in sorted(pair for pair in _walk(folder, lambda *_: None) if os.path.isfile(pair[1].path)):
        status = entry.stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class _FolderFiles:
    def __init__(self, folder: Path, limits: Limits) -> None:
        self.refused: list[tuple[str, str, str]] = []
        self._paths: dict[str, str] = {}

        def refuse(name: str, error: OSError) -> None:
            self.refused.append((name, "unreadable", f"the folder cannot be read: {error.strerror}"))

        for name, entry in _walk(folder, refuse):
            if os.path.isfile(entry.path):
                self._paths[name] = entry.path
            else:
                self.refused.append((name, "unreadable", "not a file, but a broken link or a device"))
            if len(self._paths) > limits.max_files:
                raise DatasetError("too_many_files", f"{folder}: more than {limits.max_files} files")

    def names(self) -> list[str]:
        return list(self._paths)

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            with open(self._paths[name], "rb") as file:
                data = file.read(max_bytes + 1)
        except OSError as error:
            raise ImageError("unreadable", f"cannot be read: {error.strerror}") from error
        if len(data) > max_bytes:
            raise ImageError("image_too_large", f"the file has more than {max_bytes} bytes")
        return data

    def head(self, name: str) -> bytes:
        try:
            with open(self._paths[name], "rb") as file:
                return file.read(_HEAD_BYTES)
        except OSError:
            return b""


class _ZipFiles:
    def __init__(self, archive: zipfile.ZipFile, archive_bytes: int, limits: Limits) -> None:
        self.refused: list[tuple[str, str, str]] = []
        self._archive = archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        entries = [entry for entry in archive.infolist() if not _slashed(entry).endswith("/")]
        if len(entries) > limits.max_files:
            raise DatasetError("too_many_files", f"the zip holds {len(entries)} files, the limit is {limits.max_files}")
        total = sum(entry.file_size for entry in entries)
        if _is_bomb(total, archive_bytes, limits):
            raise DatasetError("zip_bomb", f"the zip would unpack to {total} bytes from {archive_bytes}")
        for entry in entries:
            name = _slashed(entry)
            if reason := _unsafe(entry):
                self.refused.append((name, *reason))
            elif name in self._entries:
                self.refused.append((name, "unreadable", "a second file of this name"))
            elif not _is_ignored(PurePosixPath(name)):
                self._entries[name] = entry

    def names(self) -> list[str]:
        return list(self._entries)

    def read(self, name: str, max_bytes: int) -> bytes:
        entry = self._entries[name]
        if entry.file_size > max_bytes:
            raise ImageError("image_too_large", f"the file has {entry.file_size} bytes, the limit is {max_bytes}")
        try:
            with self._archive.open(entry) as file:
                return file.read(max_bytes + 1)[:max_bytes]
        except DAMAGED_ARCHIVE as error:
            raise ImageError("unreadable", f"cannot be unpacked: {error}") from error

    def head(self, name: str) -> bytes:
        try:
            with self._archive.open(self._entries[name]) as file:
                return file.read(_HEAD_BYTES)
        except DAMAGED_ARCHIVE:
            return b""


def _slashed(entry: zipfile.ZipInfo) -> str:
    """Returns the name of an entry with POSIX separators; some programs for Windows write backslashes."""
    return entry.filename.replace("\\", "/")


def _is_bomb(total: int, archive_bytes: int, limits: Limits) -> bool:
    """Returns True if a zip declares a content that is out of proportion to its size.

    A content that Deflate can make of that size is accepted up to 16 GiB.

    Args:
        total: Declared size of all entries, in bytes.
        archive_bytes: Size of the zip.
        limits: Holds the largest ratio of the two.
    """
    modest = total <= min(_MODEST_BYTES, _MAX_DEFLATE * archive_bytes)
    return not modest and total > limits.max_expansion * archive_bytes + 2**30


def _walk(folder: Path, on_error: Callable[[str, OSError], None]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields everything below a folder that is neither a folder nor hidden, with its relative POSIX path.

    Links are followed, but no folder is visited twice. Folders that this software writes into are skipped.

    Args:
        folder: Where to begin.
        on_error: Called with the relative path of each folder below it that cannot be read.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    waiting = [("", str(folder))]
    seen = {os.path.realpath(folder)}
    while waiting:
        prefix, path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if _is_ignored(PurePosixPath(entry.name)):
                        continue
                    if not os.path.isdir(entry.path):  # entry.is_dir() raises for links that lead in a circle.
                        yield prefix + entry.name, entry
                    elif (real := os.path.realpath(entry.path)) not in seen and not is_own(real):
                        seen.add(real)
                        waiting.append((f"{prefix}{entry.name}/", entry.path))
        except OSError as error:
            if not prefix:
                raise
            on_error(prefix, error)


def _is_ignored(name: PurePosixPath) -> bool:
    """Returns True for hidden files and for the files that file managers leave behind."""
    return any((part.startswith(".") and part != "..") or part in _IGNORED for part in name.parts)


def _unsafe(entry: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Returns code and reason if an entry of a zip is refused, although nothing is ever extracted; else None."""
    name = _slashed(entry)
    if not name:
        return "unreadable", "it has no name"
    if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/":
        return "unsafe_path", "the path leads out of the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "unsafe_path", "a symbolic link"
    if entry.flag_bits & 1:
        return "unreadable", "encrypted"
    return None


def _check_directory_size(path: Path, limits: Limits) -> None:
    """Refuses a zip of too many entries before zipfile reads all of them into memory."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**16 - _END_OF_ZIP.size))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END_OF_ZIP.size > len(tail):
        raise DatasetError("not_a_zip", f"{path.name}: not a zip file")
    directory_bytes = _END_OF_ZIP.unpack_from(tail, at)[5]
    locator = tail.rfind(b"PK\x06\x06", 0, at)
    if directory_bytes == 0xFFFFFFFF and locator >= 0 and locator + 56 <= len(tail):
        directory_bytes = struct.unpack_from("<Q", tail, locator + 40)[0]
    if directory_bytes > limits.max_files * (_MIN_ENTRY_BYTES + _MEAN_NAME_BYTES):
        raise DatasetError("too_many_files", f"{path.name}: the directory alone has {directory_bytes} bytes")
