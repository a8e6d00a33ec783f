"""Readers of pixel arrays in .npy, .npz and HDF5 files; free of torch.

Arrays are read block by block, also from compressed archives. Nothing is unpickled: an array of objects is refused, and
members that are not needed (the metadata of dSprites) are not read.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from models.archives import open_archive
from training.data.array_keys import BROKEN, as_pictures, contents_of
from training.data.npy_headers import read_npy_header
from training.data.sources import DatasetError, Limits
from training.data.stored_arrays import ArrayContents, StoredArray

MAX_ROW_BYTES = 2**28
"""The largest image or HDF5 chunk that is read, in bytes."""

_BLOCK_BYTES = 2**24
_MAX_CHUNKS = 2**14
_CHUNK_BYTES = 2**13
"""Assumed cost of a chunk that a read touches; HDF5 needs 5 kB of memory and 12 µs for each."""

_NUM_SAMPLES = 64
_SAMPLE_BYTES = 2**30
_MAX_DEPTH = 2
"""Most groups around an array of an HDF5 file; a group may contain itself."""
_MAX_MEMBERS = 10_000
"""Most members of a .npz file, and most arrays of an HDF5 file."""


def open_array_file(path: Path, stack: ExitStack, limits: Limits) -> ArrayContents:
    """Opens a .npy, .npz, .h5 or .hdf5 file and checks the declared type and shape of its pictures.

    Args:
        path: The file.
        stack: Keeps the file open for as long as its arrays are read.
        limits: Bounds on the number of images and on the pixels of each.

    Returns:
        The pictures and the arrays that may hold labels; no row has been read yet.

    Raises:
        DatasetError: The file is missing or damaged, or its arrays are not pictures within the limits.
    """
    with damage_as_dataset_error(path, "cannot be read"):
        contents = _open_by_suffix(path, stack)
    pictures = contents.pictures
    _check_layout(pictures, path.name)
    _check_size(pictures, path.name, limits)

    def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
        with damage_as_dataset_error(path, "damaged"):
            yield from pictures.read(ranges)

    return replace(contents, pictures=replace(pictures, read=read))


@contextmanager
def damage_as_dataset_error(path: Path, what: str) -> Iterator[None]:
    """Turns the errors that reading a missing or damaged file raises into a DatasetError.

    Args:
        path: The file that is read.
        what: What is wrong with it, for the message.

    Raises:
        DatasetError: not_found or not_an_archive.
    """
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError("not_found", f"{path}: no such file") from error
    except BROKEN as error:
        raise DatasetError("not_an_archive", f"{path.name}: {what}: {error}") from error


def read_blocks(array: StoredArray, packed_bytes: int = 0) -> Iterator[NDArray[Any]]:
    """Yields all rows in order, in blocks of at most 16 MB, or of one row if that is larger.

    Args:
        array: The array to read.
        packed_bytes: Size of one picture after packing; the limit applies to the packed block too.
    """
    num_rows, chunk_rows = array.shape[0], array.chunk_rows
    rows = max(1, _BLOCK_BYTES // max(1, array.row_bytes, packed_bytes))
    if array.chunks:
        rows = min(rows, chunk_rows * max(1, _MAX_CHUNKS // array.row_chunks))
    # Reads cover whole chunks, because a chunk that is split is decompressed twice.
    step = max(1, rows // chunk_rows) * chunk_rows
    for part in array.read(range(start, min(start + step, num_rows)) for start in range(0, num_rows, step)):
        for start in range(0, len(part), rows):
            # A view would keep the whole part in memory while the next one is read, so the block is copied.
            yield part if len(part) <= rows else part[start : start + rows].copy()
        del part


def sample_rows(array: StoredArray) -> Sequence[int]:
    """Returns the indices of 64 rows that are spread over an array, or of fewer if 64 cost more than 1 GB to read.

    The indices of at least 4 rows are returned.

    Args:
        array: The array.
    """
    reach = array.shape[0]
    if array.is_stream:
        reach = min(reach, max(1, _SAMPLE_BYTES // array.row_bytes))
    row_cost = max(array.chunk_rows * array.row_bytes, array.row_chunks * _CHUNK_BYTES)
    count = min(_NUM_SAMPLES, max(4, _SAMPLE_BYTES // row_cost))
    return range(0, reach, -(-reach // count))


def read_rows(array: StoredArray, rows: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yields single rows, each of shape (1, …); their indices must ascend."""
    return array.read(range(row, row + 1) for row in rows)


def _open_by_suffix(path: Path, stack: ExitStack) -> ArrayContents:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return ArrayContents(pictures=as_pictures(_npy_array(lambda: path.open("rb"), is_stream=False)))
    if suffix == ".npz":
        return _open_npz(path, stack)
    if suffix in (".h5", ".hdf5"):
        return _open_hdf5(path, stack)
    raise DatasetError("not_an_archive", f"{path.name}: expected a .npz, .npy, .h5 or .hdf5 file")


def _check_layout(pictures: StoredArray, name: str) -> None:
    shape, dtype = pictures.shape, pictures.dtype
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise DatasetError("unsupported_array", f"{name}: pixels of type {dtype}; save them as uint8")
    if pictures.transposed:
        raise DatasetError("unsupported_array", f"{name}: in Fortran order; save it with numpy.ascontiguousarray")
    if len(shape) not in (3, 4) or (len(shape) == 4 and not {1, 3, 4} & {shape[1], shape[3]}):
        raise DatasetError("unsupported_array", f"{name}: expected (N, H, W[, C]) pixels, found {shape}")


def _check_size(pictures: StoredArray, name: str, limits: Limits) -> None:
    shape = pictures.shape
    if 0 in shape:
        raise DatasetError("no_images", f"{name}: the array is empty")
    if shape[0] > limits.max_files:
        raise DatasetError("too_many_files", f"{name}: {shape[0]} images, the limit is {limits.max_files}")
    if pictures.row_bytes > MAX_ROW_BYTES or math.prod(shape[1:]) > 4 * limits.max_pixels:
        raise DatasetError("unsupported_array", f"{name}: one image of {pictures.row_bytes} bytes")
    if pictures.chunk_rows * pictures.row_bytes > MAX_ROW_BYTES or pictures.row_chunks > _MAX_CHUNKS:
        raise DatasetError(
            "unsupported_array",
            f"{name}: in chunks of {pictures.chunks}; save it in chunks of whole pictures, {(1, *shape[1:])}",
        )


def _open_npz(path: Path, stack: ExitStack) -> ArrayContents:
    archive = stack.enter_context(open_archive(path, max_entries=_MAX_MEMBERS))
    keys = [entry.filename.removesuffix(".npy") for entry in archive.entries if entry.filename.endswith(".npy")]
    return contents_of(
        keys, lambda key: _npy_array(lambda: archive.open(archive.entry(f"{key}.npy")), is_stream=True), path.name
    )


def _open_hdf5(path: Path, stack: ExitStack) -> ArrayContents:
    try:
        import h5py  # The dependency is optional, and the API's image does not have it.
    except ImportError as error:
        raise DatasetError("needs_h5py", "HDF5 files need the package h5py") from error
    file = stack.enter_context(h5py.File(path, "r"))

    def array(key: str) -> StoredArray:
        data = _own_data(h5py, file, key, path.name)

        def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
            for rows in ranges:
                yield data[rows.start : rows.stop]

        return StoredArray(shape=data.shape, dtype=data.dtype, read=read, chunks=data.chunks or ())

    keys = list(itertools.islice(_hdf5_keys(h5py, file), _MAX_MEMBERS + 1))
    if len(keys) > _MAX_MEMBERS:
        raise DatasetError("unsupported_array", f"{path.name}: more than {_MAX_MEMBERS} arrays")
    return contents_of(keys, array, path.name)


def _hdf5_keys(h5py: Any, group: Any, prefix: str = "") -> Iterator[str]:
    """Yields the paths of the arrays of a file, also of those in groups; a soft or external link is not followed.

    A group may hold itself, or others many times, so that the paths can be far more than the arrays.
    """
    for name in group:
        key = f"{prefix}{name}"
        if key.count("/") < _MAX_DEPTH and _is_group(h5py, group, name):
            yield from _hdf5_keys(h5py, group[name], f"{key}/")
        else:
            yield key


def _is_group(h5py: Any, parent: Any, name: str) -> bool:
    """Returns True for a group in the file itself; False for a link, or for what cannot be opened."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        return False
    try:
        return parent.get(name, getclass=True) is h5py.Group
    except BROKEN:
        return False


def _own_data(h5py: Any, file: Any, key: str, name: str) -> Any:
    """Returns an HDF5 data set that is stored in the file itself.

    An HDF5 file can declare that its content lies in other files of this machine; those are refused.
    """
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise DatasetError("unsupported_array", f"{name}: {key} is a link")
    data = file[key]
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or not data.shape:
        raise DatasetError("unsupported_array", f"{name}: {key} is not a plain array in this file")
    if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > MAX_ROW_BYTES:
        raise DatasetError("unsupported_array", f"{name}: {key} has chunks of more than {MAX_ROW_BYTES} bytes")
    return data


def _npy_array(open_file: Callable[[], IO[bytes]], *, is_stream: bool) -> StoredArray:
    with open_file() as file:
        shape, fortran_order, dtype = read_npy_header(file)
    grid: tuple[int, ...] = ()
    transposed = fortran_order and len(shape) > 1
    if transposed:
        shape = shape[::-1]
    elif len(shape) > 5:  # MPI3D is also published with one axis per factor; three axes (H, W, C) remain.
        grid, shape = shape[:-3], (math.prod(shape[:-3]), *shape[-3:])

    def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
        with open_file() as file:
            read_npy_header(file)
            yield from _read_ranges(file, shape, dtype, ranges)

    return StoredArray(shape=shape, dtype=dtype, read=read, grid=grid, transposed=transposed, is_stream=is_stream)


def _read_ranges(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], ranges: Iterable[range]
) -> Iterator[NDArray[Any]]:
    """Yields ranges of rows from a file that is positioned just behind the array's header."""
    begin = file.tell()
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    for rows in ranges:
        file.seek(begin + rows.start * row_bytes)
        parts, missing = [], len(rows) * row_bytes
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
        if missing:
            raise EOFError(f"the array ends before row {rows.stop} of {shape[0]}")
        yield np.frombuffer(b"".join(parts), dtype).reshape(len(rows), *shape[1:])
