"""Files of a folder, a zip or a tar, by name; an archive is never extracted into a folder; free of torch."""

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from models.archives import Archive, ArchiveError, open_archive, unsupported
from models.tars import SUFFIXES as TAR_SUFFIXES
from models.tars import TarArchive, TarEntry, open_tar
from training.data.expansion import is_bomb, most_bytes
from training.data.images import ImageError
from training.data.sources import DAMAGED_ARCHIVE, FILM_SUFFIXES, DatasetError, Limits, is_own, suffix_of

_HEAD_BYTES = 32
_SAMPLE_BYTES = 2**26
"""Bytes of a compressed tar that are unpacked to look at its first files."""
_NUM_FOLDERS = 1000
"""Entries that a zip may have beside its files; a tenth of max_files if that is more."""

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

    def open(self, name: str) -> IO[bytes]:
        """Opens a file as a stream.

        Raises:
            ImageError: It cannot be read.
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
def open_zip(path: Path, limits: Limits, *, is_sample: bool = False, name: str | None = None) -> Iterator[Files]:
    """Opens a zip, a tar, or a single video or GIF.

    Args:
        path: The archive.
        limits: Bounds on files and bytes.
        is_sample: True suffices with the first files of a compressed tar, which has to be unpacked.
        name: Name whose suffix tells the kind (default: the path's).

    Raises:
        DatasetError: not_found, not_a_zip, not_a_tar, zip_bomb, tar_bomb or too_many_files.
    """
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file")
    name = name or path.name
    if suffix_of(name) in FILM_SUFFIXES:
        yield _OneFile(path, name)
        return
    is_tar = suffix_of(name) in TAR_SUFFIXES
    max_entries = limits.max_files + max(_NUM_FOLDERS, limits.max_files // 10)
    archive_bytes = path.stat().st_size
    with ExitStack() as stack:
        try:
            if is_tar:
                max_bytes = _SAMPLE_BYTES if is_sample else most_bytes(archive_bytes, limits)
                tar = open_tar(path, max_entries=max_entries, max_bytes=max_bytes, is_sample=is_sample)
                files: Files = _TarFiles(stack.enter_context(tar), limits)
            else:
                archive = stack.enter_context(open_archive(path, max_entries=max_entries))
                files = _ZipFiles(archive, archive_bytes, limits)
        except ArchiveError as error:
            raise DatasetError(error.code, f"{path.name}: {error.message}") from error
        except OSError as error:
            raise DatasetError("not_a_tar" if is_tar else "not_a_zip", f"{path.name}: {error}") from error
        yield files


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

    def open(self, name: str) -> IO[bytes]:
        try:
            return open(self._paths[name], "rb")
        except OSError as error:
            raise ImageError("unreadable", f"cannot be read: {error.strerror}") from error

    def head(self, name: str) -> bytes:
        try:
            with open(self._paths[name], "rb") as file:
                return file.read(_HEAD_BYTES)
        except OSError:
            return b""


class _ZipFiles:
    def __init__(self, archive: Archive, archive_bytes: int, limits: Limits) -> None:
        self.refused: list[tuple[str, str, str]] = []
        self._archive = archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        entries = [entry for entry in archive.entries if not _slashed(entry).endswith("/")]
        if len(entries) > limits.max_files:
            raise DatasetError("too_many_files", f"the zip holds {len(entries)} files, the limit is {limits.max_files}")
        total = sum(entry.file_size for entry in entries)
        if is_bomb(total, archive_bytes, limits):
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
            return self._archive.read(entry, max_bytes)
        except DAMAGED_ARCHIVE as error:
            raise ImageError("unreadable", f"cannot be unpacked: {error}") from error

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._archive.open(self._entries[name])
        except DAMAGED_ARCHIVE as error:
            raise ImageError("unreadable", f"cannot be unpacked: {error}") from error

    def head(self, name: str) -> bytes:
        try:
            with self._archive.open(self._entries[name]) as file:
                return file.read(_HEAD_BYTES)
        except DAMAGED_ARCHIVE:
            return b""


class _TarFiles:
    def __init__(self, archive: TarArchive, limits: Limits) -> None:
        self.refused: list[tuple[str, str, str]] = []
        self._archive = archive
        self._entries: dict[str, TarEntry] = {}
        if len(archive.entries) > limits.max_files:
            raise DatasetError(
                "too_many_files", f"the tar holds {len(archive.entries)} files, the limit is {limits.max_files}"
            )
        for entry in archive.entries:
            name = entry.name.removeprefix("./")
            if _leads_out(name):
                self.refused.append((name, "unsafe_path", "the path leads out of the archive"))
            elif entry.problem:
                code = "unsafe_path" if entry.problem == "a link" else "unreadable"
                self.refused.append((name, code, entry.problem))
            elif not _is_ignored(PurePosixPath(name)):
                self._entries[name] = entry  # A tar that was appended to has newer versions of a file last.

    def names(self) -> list[str]:
        return list(self._entries)

    def read(self, name: str, max_bytes: int) -> bytes:
        entry = self._entries[name]
        if entry.size > max_bytes:
            raise ImageError("image_too_large", f"the file has {entry.size} bytes, the limit is {max_bytes}")
        return self._archive.read(entry, max_bytes)

    def open(self, name: str) -> IO[bytes]:
        return io.BufferedReader(_Member(self._archive, self._entries[name]))

    def head(self, name: str) -> bytes:
        return self._archive.read(self._entries[name], _HEAD_BYTES)


class _Member(io.RawIOBase):
    """A member of a tar as a stream."""

    def __init__(self, archive: TarArchive, entry: TarEntry) -> None:
        super().__init__()
        self._archive, self._entry, self._at = archive, entry, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._archive.read(self._entry, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _OneFile(_FolderFiles):
    """One video or animation, as a folder that holds it alone."""

    def __init__(self, path: Path, name: str) -> None:
        self.refused = []
        self._paths = {name: str(path)}


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/"


def _slashed(entry: zipfile.ZipInfo) -> str:
    """Returns the name of an entry with POSIX separators; some programs for Windows write backslashes."""
    return entry.filename.replace("\\", "/")


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
    if _leads_out(name):
        return "unsafe_path", "the path leads out of the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "unsafe_path", "a symbolic link"
    if entry.flag_bits & 1:
        return "unreadable", "encrypted"
    reason = unsupported(entry)
    return ("unreadable", reason) if reason else None
