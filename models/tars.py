"""Foreign tar archives, under the rule of models/archives.py: counted, bounded, and never extracted; free of torch.

`tarfile` reads a header of any declared length into memory and follows links and sparse maps. Therefore its reads are
bounded while the members are listed, only plain files are members, and their bytes are read from their place. A
compressed tar can only be read from its beginning, so it is unpacked into an unnamed temporary file under a limit.
"""

import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.archives import ArchiveError

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_GZIP = b"\x1f\x8b"
_MAX_HEADER_BYTES = 2**20
"""Longest header that is read; a name of 4096 bytes needs 9 KiB."""
_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A member that is not a folder."""

    name: str
    offset: int
    """Place of its bytes in the uncompressed archive."""
    size: int
    problem: str | None = None
    """Why it is not read: a link, a device, a sparse file, or one that is cut off."""


class TarArchive:
    """An open tar.

    Attributes:
        entries: The members that are not folders, in the archive's order.
    """

    def __init__(self, file: IO[bytes], entries: list[TarEntry]) -> None:
        self._file = file
        self.entries = entries

    def read(self, entry: TarEntry, max_bytes: int, start: int = 0) -> bytes:
        """Reads a member, or at most `max_bytes` of it from `start`; several threads may do so at the same time."""
        size = min(entry.size - start, max_bytes)
        return os.pread(self._file.fileno(), max(0, size), entry.offset + start)


@contextmanager
def open_tar(path: Path, *, max_entries: int, max_bytes: int, is_sample: bool = False) -> Iterator[TarArchive]:
    """Opens a tar, which may be compressed by gzip.

    Args:
        path: The archive.
        max_entries: Most members, including folders.
        max_bytes: Most bytes that a compressed archive may unpack to.
        is_sample: True lists only the members within `max_bytes` of a compressed archive that unpacks to more.

    Raises:
        ArchiveError: not_a_tar, too_many_files or tar_bomb.
        OSError: The file cannot be read, or the temporary file cannot be written.
    """
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if file.read(len(_GZIP)) == _GZIP:
            file = _unpacked(path, stack, max_bytes, is_sample)
        yield TarArchive(file, _entries(file, max_entries))


def _unpacked(path: Path, stack: ExitStack, max_bytes: int, is_sample: bool) -> IO[bytes]:
    target = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    num_bytes = 0
    try:
        with gzip.open(path) as source:
            while piece := source.read(_PIECE_BYTES):
                num_bytes += len(piece)
                if num_bytes > max_bytes:
                    if is_sample:
                        break
                    raise ArchiveError("tar_bomb", f"the archive unpacks to more than {max_bytes} bytes")
                target.write(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArchiveError("not_a_tar", f"the compressed archive is damaged: {error}") from error
    target.flush()
    return target


def _entries(file: IO[bytes], max_entries: int) -> list[TarEntry]:
    end = file.seek(0, 2)
    file.seek(0)
    entries: list[TarEntry] = []
    count = at = 0
    try:
        with _Lister(fileobj=_Gate(file)) as archive:  # type: ignore[arg-type]
            while (member := archive.next()) is not None:
                archive.members = []  # tarfile would keep them all.
                if archive.offset <= at or member.size < 0:
                    raise ArchiveError("not_a_tar", f"{member.name[:100]} has a size below 0")
                at, count = archive.offset, count + 1
                if count > max_entries:
                    raise ArchiveError("too_many_files", f"the tar holds more than {max_entries} files")
                if not member.isdir():
                    entries.append(TarEntry(member.name, member.offset_data, member.size, _problem(member, end)))
    except ArchiveError:
        raise
    except MemoryError as error:
        raise ArchiveError("too_many_files", "the list of its files does not fit into memory") from error
    except Exception as error:  # Hostile bytes make tarfile raise many kinds of errors, which mean the same.
        if not entries:
            raise ArchiveError("not_a_tar", f"not a tar file: {error}") from error
    return entries


def _problem(member: tarfile.TarInfo, end: int) -> str | None:
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse():
        return "a sparse file"
    if not member.isreg():
        return "not a file, but a device"
    return "it is cut off" if member.offset_data + member.size > end else None


class _Lister(tarfile.TarFile):
    members: list[tarfile.TarInfo]


class _Gate:
    """The file through which tarfile reads headers, none longer than a name needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.name, self.mode = "", "rb"

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise ArchiveError("not_a_tar", f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
