"""Packing of picture files, from a folder or a zip, decoded by several threads; free of torch."""

import hashlib
import os
import stat
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.archives import Archive, ArchiveError, open_archive, unsupported
from training.data.expansion import is_bomb
from training.data.images import (
    ImageError,
    Preprocessing,
    has_picture_suffix,
    is_coloured,
    load_image,
    looks_like_picture,
)
from training.data.layouts import read_layout
from training.data.packs import PackInfo, PackWriter
from training.data.sources import DAMAGED_ARCHIVE, DatasetError, ImageFolder, Limits, OnProgress, ZipFile, is_own

_CHUNK = 64
_CHUNK_BYTES = 16 * 2**20
_NUM_PEEKS = 64
_NUM_COLOUR_PEEKS = 32
_HEAD_BYTES = 32
_NUM_FOLDERS = 1000
"""Entries that a zip may have beside its files; a tenth of max_files where that is more."""
_MAX_LIST_BYTES = 256 * 2**20

_IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


class Files(Protocol):
    """Files of a folder or a zip."""

    refused: list[tuple[str, str, str]]
    """name, code and reason of each that may not be read."""

    def names(self) -> list[str]:
        """Relative POSIX paths."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Raises ImageError when it cannot be read or is larger than max_bytes."""
        ...

    def head(self, name: str) -> bytes:
        """The first 32 bytes; empty when they cannot be read."""
        ...


def pack_pictures(
    source: ImageFolder | ZipFile,
    target: Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    limits: Limits,
    num_workers: int,
    on_progress: OnProgress,
    source_fingerprint: str,
) -> PackInfo:
    """Decodes every picture of a folder or zip into a pack. Raises: DatasetError."""
    with _opened(source, limits) as files, PackWriter(target, preprocessing) as writer:
        layout = read_layout(files.names(), lambda n: _read_text(files, n), layout=source.layout, split=source.split)
        for refused in files.refused:
            writer.reject(*refused)
        for other in layout.unlabelled:
            writer.reject(other, "no_label", f"not one of the {layout.kind} set's pictures")
        kept: list[str] = []
        for images, good, bad in _decode_all(files, layout.names, preprocessing, limits, num_workers):
            for file, error in bad:
                writer.reject(file, error.code, error.message)
            if good:
                writer.add(images)
                kept += good
            on_progress(
                len(kept) + len(writer.rejected), len(layout.names) + len(files.refused) + len(layout.unlabelled)
            )
        if not kept:
            raise DatasetError("no_images", _no_images(source.path, writer))
        labels = layout.label(kept)
        return writer.finish(
            name=name,
            kind=layout.kind,
            source=str(source.path),
            source_fingerprint=source_fingerprint,
            **vars(labels),
        )


def folder_fingerprint(folder: Path) -> str:
    """sha256 over the name, size and time of every file: differs when one was added, removed or changed."""
    digest = hashlib.sha256()
    for name, entry in sorted(pair for pair in _walk(folder, lambda *_: None) if os.path.isfile(pair[1].path)):
        status = entry.stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@contextmanager
def open_folder(folder: Path, limits: Limits) -> Iterator[Files]:
    """The files of a folder. Raises: DatasetError not_found or too_many_files."""
    if not folder.is_dir():
        raise DatasetError("not_found", f"{folder}: no such folder")
    yield _FolderFiles(folder, limits)


@contextmanager
def open_zip(path: Path, limits: Limits) -> Iterator[Files]:
    """The files in a zip. Raises: DatasetError not_found, not_a_zip, zip_bomb or too_many_files."""
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file")
    with ExitStack() as stack:
        try:
            max_entries = limits.max_files + max(_NUM_FOLDERS, limits.max_files // 10)
            archive = stack.enter_context(open_archive(path, max_entries=max_entries))
        except ArchiveError as error:
            raise DatasetError(error.code, f"{path.name}: {error.message}") from error
        except OSError as error:
            raise DatasetError("not_a_zip", f"{path.name}: {error}") from error
        yield _ZipFiles(archive, path.stat().st_size, limits)


def _opened(source: ImageFolder | ZipFile, limits: Limits) -> AbstractContextManager[Files]:
    return open_folder(source.path, limits) if isinstance(source, ImageFolder) else open_zip(source.path, limits)


def check_folder(folder: Path, limits: Limits) -> None:
    """As check_zip, for a folder. Raises: as open_folder does; DatasetError no_images."""
    with open_folder(folder, limits) as files:
        _check_sample(files, folder)


def check_zip(path: Path, limits: Limits) -> None:
    """Refuses a zip without pictures by the first bytes of at most 64 files; what only packing can tell passes.

    Raises: as open_zip does; DatasetError no_images.
    """
    with open_zip(path, limits) as files:
        _check_sample(files, path)


def has_colour(source: ImageFolder | ZipFile, limits: Limits) -> bool:
    """Whether there is a colour in any of at most 32 pictures from all over a folder or zip. Raises: DatasetError."""
    as_seen = Preprocessing(num_channels=3, crop="none")
    with _opened(source, limits) as files:
        for name in _spread(_candidates(files.names()), _NUM_COLOUR_PEEKS):
            try:
                data = files.read(name, limits.max_file_bytes)
                pixels = load_image(data, as_seen, max_bytes=limits.max_file_bytes, max_pixels=limits.max_pixels)
            except ImageError:  # The report of the packing says so.
                continue
            if is_coloured(pixels):
                return True
    return False


def _candidates(names: list[str]) -> list[str]:
    """The files that are called as pictures are; all of them where none is."""
    return [name for name in names if has_picture_suffix(name)] or names


def _spread(names: list[str], count: int) -> list[str]:
    """At most `count` of them, at equal distances."""
    return names[:: max(1, -(-len(names) // count))]


def _check_sample(files: Files, path: Path) -> None:
    names = files.names()
    candidates = _candidates(names)
    sample = _spread(candidates, _NUM_PEEKS)
    if any(looks_like_picture(files.head(name)) for name in sample):
        return
    if not names and files.refused:
        refused, _, reason = files.refused[0]
        raise DatasetError("no_images", f"{path.name}: no file can be read; {_shown(refused)}: {reason}")
    if not names:
        raise DatasetError("no_images", f"{path.name}: there are no files")
    # Those that were not looked at may be pictures.
    if len(sample) == len(candidates):
        first = _shown(sample[0])
        raise DatasetError("no_images", f"{path.name}: none of {len(names)} files is a picture, {first} for one")


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
                self.refused.append((name, "unreadable", "no file: a link to nothing, or a device"))
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

    def head(self, name: str) -> bytes:
        try:
            with self._archive.open(self._entries[name]) as file:
                return file.read(_HEAD_BYTES)
        except DAMAGED_ARCHIVE:
            return b""


def _slashed(entry: zipfile.ZipInfo) -> str:
    """An entry's name with the separators of POSIX: some programs for Windows write their own."""
    return entry.filename.replace("\\", "/")


def _walk(folder: Path, on_error: Callable[[str, OSError], None]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All below a folder that is no folder and not hidden, with its relative POSIX path.

    Links are followed, loops are not; folders that this software writes into are passed over.
    One below it that cannot be read is given to on_error, with its relative path.   Raises: OSError for `folder`.
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
                    if not os.path.isdir(entry.path):  # entry.is_dir() fails where links lead in a circle.
                        yield prefix + entry.name, entry
                    elif (real := os.path.realpath(entry.path)) not in seen and not is_own(real):
                        seen.add(real)
                        waiting.append((f"{prefix}{entry.name}/", entry.path))
        except OSError as error:
            if not prefix:
                raise
            on_error(prefix, error)


def _is_ignored(name: PurePosixPath) -> bool:
    """Hidden files and what file managers leave behind."""
    return any((part.startswith(".") and part != "..") or part in _IGNORED for part in name.parts)


def _unsafe(entry: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Code and reason where an entry of a zip is refused, though nothing is ever extracted."""
    name = _slashed(entry)
    if not name:
        return "unreadable", "it has no name"
    if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/":
        return "unsafe_path", "the path leads out of the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "unsafe_path", "a symbolic link"
    if entry.flag_bits & 1:
        return "unreadable", "encrypted"
    reason = unsupported(entry)
    return ("unreadable", reason) if reason else None


def _read_text(files: Files, name: str) -> str:
    try:
        return files.read(name, _MAX_LIST_BYTES).decode("utf-8-sig")
    except (ImageError, UnicodeDecodeError) as error:
        raise DatasetError("bad_labels", f"{name}: {error}") from error


Decoded = tuple[NDArray[np.uint8], list[str], list[tuple[str, ImageError]]]


def _decode_all(
    files: Files, names: Sequence[str], preprocessing: Preprocessing, limits: Limits, num_workers: int
) -> Iterator[Decoded]:
    """Decodes chunk by chunk, in order, several at a time; at most four chunks a thread are held in memory."""

    def decode(chunk: Sequence[str]) -> Decoded:
        images, good, bad = [], [], []
        for name in chunk:
            try:
                data = files.read(name, limits.max_file_bytes)
                images.append(
                    load_image(data, preprocessing, max_bytes=limits.max_file_bytes, max_pixels=limits.max_pixels)
                )
                good.append(name)
            except ImageError as error:
                bad.append((name, error))
        return np.stack(images) if images else np.empty(0, np.uint8), good, bad

    size = _chunk_size(preprocessing)
    chunks = (names[i : i + size] for i in range(0, len(names), size))
    pending: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(num_workers, thread_name_prefix="decode") as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(decode, chunk))
                if len(pending) >= 4 * num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _chunk_size(preprocessing: Preprocessing) -> int:
    """Pictures of a chunk: 64, or as many as 16 MiB hold once they are preprocessed."""
    row_bytes = preprocessing.image_size**2 * preprocessing.num_channels
    return min(_CHUNK, max(1, _CHUNK_BYTES // row_bytes))


def _no_images(path: Path, writer: PackWriter) -> str:
    if not writer.rejected:
        return f"{path.name}: there are no files"
    first, count = writer.rejected[0], len(writer.rejected)
    return f"{path.name}: none of {count} files is a readable picture; {_shown(first.file)}: {first.reason}"


def _shown(name: str) -> str:
    """A file's name for a message, which is UTF-8 whatever the name is."""
    return name.encode("utf-8", "backslashreplace").decode()
