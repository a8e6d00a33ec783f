"""Foreign zip archives: one rule for data sets, .npz files, model bundles and torch checkpoints; free of torch.

`zipfile` reads the whole directory of an archive into objects before its entries can be counted, and it bounds what one
read yields only for Deflate: a member of bzip2 or LZMA is unpacked as a whole. Therefore the directory is walked as a
stream under a limit before `zipfile` reads it, only stored and deflated members are opened, and the bytes of a member
are counted while they are read, whatever its header declares.
"""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
"""Compression methods of the members that are opened."""
MAX_ENTRY_BYTES = 346
"""Mean size of an entry in the directory that is accepted: 46 bytes of heading and 300 of name."""

_OTHER_METHODS = {1: "shrunk", 6: "imploded", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
_HEADING = struct.Struct("<4s24xHHH12x")
"""Signature, and lengths of name, extra field and comment, in the heading of a directory entry."""
_SIGNATURE = b"PK\x01\x02"
_TAIL_BYTES = 2**16 + 22
"""The longest read with which zipfile searches for the end record; only the directory itself may be longer."""
_WALK_BYTES = 2**20


class ArchiveError(ValueError):
    """An archive, or a member of it, that is refused."""

    def __init__(self, code: str, message: str) -> None:
        """Takes a stable code and a message for people.

        Args:
            code: not_a_zip, not_a_tar, too_many_files, tar_bomb, unsupported_method or member_too_large.
            message: What is wrong with the archive.
        """
        super().__init__(message)
        self.code = code
        self.message = message


class Archive:
    """An open zip.

    Attributes:
        entries: The entries of the directory, in its order.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.entries: list[zipfile.ZipInfo] = archive.infolist()

    def entry(self, name: str) -> zipfile.ZipInfo:
        """Returns the last entry of a name.

        Raises:
            KeyError: There is none.
        """
        return self._archive.getinfo(name)

    def open(self, entry: zipfile.ZipInfo) -> IO[bytes]:
        """Opens a member as a stream, which is to be read in pieces of bounded size.

        Raises:
            ArchiveError: Its compression method is not supported (unsupported_method).
        """
        if reason := unsupported(entry):
            raise ArchiveError("unsupported_method", f"{entry.filename[:100]}: {reason}")
        return self._archive.open(entry)

    def read(self, entry: zipfile.ZipInfo, max_bytes: int) -> bytes:
        """Reads a member.

        Args:
            entry: The member.
            max_bytes: Most bytes that it may unpack to.

        Raises:
            ArchiveError: unsupported_method, or member_too_large.
        """
        with self.open(entry) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ArchiveError("member_too_large", f"{entry.filename[:100]} has more than {max_bytes} bytes")
        return data


@contextmanager
def open_archive(source: Path | IO[bytes], *, max_entries: int) -> Iterator[Archive]:
    """Opens a zip after its directory was walked under a limit.

    Args:
        source: A path, or an open binary file that can seek.
        max_entries: Most entries of the directory, including folders. The directory may have MAX_ENTRY_BYTES for each,
            and at least 64 KiB.

    Raises:
        ArchiveError: not_a_zip or too_many_files.
        OSError: The file cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        gate = _Gate(file, max_entries)
        try:
            archive = stack.enter_context(zipfile.ZipFile(gate))
        except ArchiveError:
            raise
        except MemoryError as error:
            raise ArchiveError("too_many_files", "the directory does not fit into memory") from error
        except Exception as error:  # Hostile bytes make zipfile raise a dozen kinds of errors, which mean the same.
            raise ArchiveError("not_a_zip", f"not a zip file: {error}") from error
        if len(archive.infolist()) > max_entries:
            raise _too_many(max_entries)
        gate.is_open = True
        yield Archive(archive)


def unsupported(entry: zipfile.ZipInfo) -> str | None:
    """Returns why the compression method of a member is refused, or None if it is supported."""
    method = entry.compress_type
    if method in METHODS:
        return None
    name = _OTHER_METHODS.get(method, f"method {method}")
    return f"compressed by {name}; only stored and deflated files are read"


class _Gate:
    """The file through which zipfile reads an archive.

    zipfile decides where the directory lies (the 32-bit record, the 64-bit one, a shifted archive) and reads it in one
    go. That read is checked here, so that no second parser has to find the same place.
    """

    def __init__(self, file: IO[bytes], max_entries: int) -> None:
        self._file = file
        self._max_entries = max_entries
        self.is_open = False

    def read(self, size: int = -1) -> bytes:
        if not self.is_open and not 0 <= size <= _TAIL_BYTES:
            self._check_directory(size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return self._file.seekable()

    def close(self) -> None:
        """Does nothing: the file is closed where it was opened."""

    def _check_directory(self, size: int) -> None:
        """Walks the directory from the current position, and returns to it.

        Args:
            size: Size of the directory in bytes; negative for everything that follows.

        Raises:
            ArchiveError: too_many_files.
        """
        start = self._file.tell()
        left = self._file.seek(0, 2) - start
        size = min(size, left) if size >= 0 else left
        if size > max(_TAIL_BYTES, self._max_entries * MAX_ENTRY_BYTES):
            raise ArchiveError(
                "too_many_files", f"the directory alone has {size} bytes, for at most {self._max_entries} files"
            )
        self._file.seek(start)
        if _count_entries(self._file, size, self._max_entries) > self._max_entries:
            raise _too_many(self._max_entries)
        self._file.seek(start)


def _count_entries(file: IO[bytes], size: int, most: int) -> int:
    """Counts the entries in the next `size` bytes, up to the first invalid one and to one more than `most`."""
    count, at, data = 0, 0, b""
    while count <= most:
        if at + _HEADING.size > len(data):
            piece = file.read(min(_WALK_BYTES, size))
            if not piece:
                break
            size -= len(piece)
            # The name and comment of an entry may reach beyond the bytes that were read.
            skipped = max(0, at - len(data))
            data, at = data[at:] + piece, skipped
            continue
        signature, *lengths = _HEADING.unpack_from(data, at)
        if signature != _SIGNATURE:
            break
        count += 1
        at += _HEADING.size + sum(lengths)
    return count


def _too_many(max_entries: int) -> ArchiveError:
    return ArchiveError("too_many_files", f"the zip holds more than {max_entries} files")
