"""Packing of pixel arrays: .npy, .npz and HDF5 files, among them dSprites, Shapes3D and MPI3D; free of torch.

Arrays are streamed in blocks, also out of compressed archives. Nothing is unpickled: an array of objects is refused,
and the members that are not asked for (dSprites' metadata) are not read.
"""

import math
import operator
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from models.archives import open_archive
from training.data import dsprites
from training.data.expansion import is_bomb
from training.data.images import DARKEST, ImageError, Preprocessing, is_coloured, preprocess_array, white_of_floats
from training.data.npy_headers import read_npy_header
from training.data.packs import PackInfo, PackWriter, factor_grid
from training.data.sources import DAMAGED_ARCHIVE, ArrayFile, DatasetError, Limits, OnProgress

_BLOCK_BYTES = 2**24
_MAX_ROW_BYTES = 2**28
_MAX_LABEL_BYTES = 2**30
_MAX_COLUMNS = 256
_MAX_CHUNKS = 2**14
_CHUNK_BYTES = 2**13
"""What HDF5 costs for each chunk that a read touches, in memory (5 kB) and in time (12 µs)."""

_MAX_SPRITE_ERROR = 0.002

_NUM_PEEKS = 64
_PEEK_BYTES = 2**30
_MAX_KEYS = 100
_MAX_MEMBERS = 10_000
_IMAGE_KEYS = ("imgs", "images", "x", "x_train", "arr_0", "data")
_DSPRITES_KEY = "latents_classes"
_FACTOR_KEYS = (_DSPRITES_KEY, "factors", "classes", "labels", "y", "y_train")

_SHAPES3D_VALUES = {
    "floor_hue": np.linspace(0, 0.9, 10),
    "wall_hue": np.linspace(0, 0.9, 10),
    "object_hue": np.linspace(0, 0.9, 10),
    "scale": np.linspace(0.75, 1.25, 8),
    "shape": np.arange(4.0),
    "orientation": np.linspace(-30, 30, 15),
}
_MPI3D_NAMES = ("object_color", "object_shape", "object_size", "camera_height", "background_color", "axis_1", "axis_2")
_MPI3D_SIZES = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))

_BROKEN = (*DAMAGED_ARCHIVE, TypeError, SyntaxError, KeyError, IndexError, tokenize.TokenError)
"""What zipfile, h5py and the header of a .npy file, which is parsed as Python, raise where bytes are damaged."""


@dataclass(frozen=True, kw_only=True)
class _Array:
    """One array of a file."""

    shape: tuple[int, ...]
    """(N, …), as it is stored; leading axes of a factor grid are already folded into N."""
    dtype: np.dtype[Any]
    read: Callable[[Iterable[range]], Iterator[NDArray[Any]]]
    """Reads ranges of rows, which ascend."""
    grid: tuple[int, ...] = ()
    """Sizes of the axes that are folded."""
    transposed: bool = False
    """Whether it was saved in Fortran order: it is the transpose of what is read."""
    chunks: tuple[int, ...] = ()
    """Shape of the pieces that are unpacked whole; empty where there are none."""
    is_stream: bool = False
    """Whether all that lies before a row is unpacked to reach it."""

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        return self.chunks[0] if self.chunks else 1

    @property
    def row_chunks(self) -> int:
        """Number of pieces that one row lies in."""
        return math.prod(-(-n // part) for n, part in zip(self.shape[1:], self.chunks[1:], strict=False))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a file holds."""

    pictures: _Array
    """(N, H, W[, C]) or (N, C, H, W)."""
    labels: Mapping[str, Callable[[], _Array]] = field(default_factory=dict)
    """Arrays that are called as labels are, by their key."""


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """As PackWriter.finish takes them."""

    kind: str = "array"
    factors: NDArray[np.integer[Any]] | None = None
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()


def pack_array_file(
    source: ArrayFile,
    target: Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    limits: Limits,
    num_workers: int,
    on_progress: OnProgress,
    check_space: Callable[[int], None],
    source_fingerprint: str,
) -> PackInfo:
    """Packs (N, H, W), (N, H, W, C) or (N, C, H, W) pixels.

    Bytes, booleans, 16-bit integers, and floats in [0, 1] or [0, 255] are understood; an array that holds only 0 and 1
    is black and white. Floats that overshoot a little, as after an interpolation, are clipped; values that fit none of
    these are refused. Labels that cannot be used are noted in rejected.jsonl, and the pictures packed without factors.
    Raises: DatasetError.
    """
    with ExitStack() as stack:
        try:
            found = _read_file(source.path, stack, limits)
            num_images = found.pictures.shape[0]
            _check_expansion(found.pictures, source.path, limits)
            packed_bytes = preprocessing.image_size**2 * preprocessing.num_channels
            check_space(num_images * packed_bytes)
            labels, unusable = _read_labels(found, source.path)
            to_bytes = _byte_scale(found.pictures)
            with PackWriter(target, preprocessing) as writer, ThreadPoolExecutor(num_workers) as pool:
                for key, reason in unusable:
                    writer.reject(key, "bad_labels", reason)
                for block in _blocks(found.pictures, packed_bytes):
                    writer.add(_preprocess_block(_channels_last(to_bytes(block)), preprocessing, pool))
                    on_progress(writer.num_images, num_images)
                return writer.finish(
                    name=name,
                    source=str(source.path),
                    full_grid=_is_full_grid(labels.factors, labels.factor_sizes),
                    source_fingerprint=source_fingerprint,
                    **vars(labels),
                )
        except (DatasetError, ImageError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError("unsupported_array", f"{source.path.name}: {error.message}") from error


def has_colour(source: ArrayFile, limits: Limits) -> bool:
    """Whether there is a colour in any of at most 64 pictures from all over an array (an archive: its first GB).

    Raises: DatasetError.
    """
    with ExitStack() as stack, np.errstate(all="ignore"):  # Packing refuses values that are not finite.
        pictures = _read_file(source.path, stack, limits).pictures
        high = spread = 0.0
        for row in pictures.read(range(i, i + 1) for i in _places(pictures)):
            colours = _channels_last(row)[..., :3]
            if colours.shape[3] == 1:
                return False
            brightest, darkest = colours.max(axis=3), colours.min(axis=3)
            high = max(high, float(brightest.max()))
            spread = max(spread, float(np.subtract(brightest, darkest, dtype=np.float64).max()))
        white, _ = _white(pictures.dtype, 0, high)
        spread *= 255 / white
        return is_coloured(np.array([0, min(spread, 255)]).astype(np.uint8))


def _read_file(path: Path, stack: ExitStack, limits: Limits) -> _Found:
    with _told(path, "cannot be read"):
        suffix = path.suffix.lower()
        if suffix == ".npy":
            found = _from_npy(path)
        elif suffix == ".npz":
            found = _from_npz(path, stack)
        elif suffix in (".h5", ".hdf5"):
            found = _from_hdf5(path, stack)
        else:
            raise DatasetError("not_an_archive", f"{path.name}: expected a .npz, .npy, .h5 or .hdf5 file")
    pictures = found.pictures
    shape, dtype = pictures.shape, pictures.dtype
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise DatasetError("unsupported_array", f"{path.name}: pixels of type {dtype}; save them as uint8")
    if pictures.transposed:
        raise DatasetError("unsupported_array", f"{path.name}: in Fortran order; save it with numpy.ascontiguousarray")
    if len(shape) not in (3, 4) or (len(shape) == 4 and not {1, 3, 4} & {shape[1], shape[3]}):
        raise DatasetError("unsupported_array", f"{path.name}: expected (N, H, W[, C]) pixels, found {shape}")
    if 0 in shape:
        raise DatasetError("no_images", f"{path.name}: the array is empty")
    if shape[0] > limits.max_files:
        raise DatasetError("too_many_files", f"{path.name}: {shape[0]} images, the limit is {limits.max_files}")
    if pictures.row_bytes > _MAX_ROW_BYTES or math.prod(shape[1:]) > 4 * limits.max_pixels:
        raise DatasetError("unsupported_array", f"{path.name}: one image of {pictures.row_bytes} bytes")
    if pictures.chunk_rows * pictures.row_bytes > _MAX_ROW_BYTES or pictures.row_chunks > _MAX_CHUNKS:
        raise DatasetError(
            "unsupported_array",
            f"{path.name}: in chunks of {pictures.chunks}; save it in chunks of whole pictures, {(1, *shape[1:])}",
        )

    def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
        with _told(path, "damaged"):
            yield from pictures.read(ranges)

    return replace(found, pictures=replace(pictures, read=read))


def _check_expansion(pictures: _Array, path: Path, limits: Limits) -> None:
    """Raises DatasetError unsupported_array where a small file declares pictures without end."""
    total_bytes, file_bytes = pictures.shape[0] * pictures.row_bytes, path.stat().st_size
    if is_bomb(total_bytes, file_bytes, limits):
        raise DatasetError(
            "unsupported_array", f"{path.name}: {total_bytes} bytes of pixels in a file of {file_bytes} bytes"
        )


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """What reading a damaged file raises, as a DatasetError."""
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError("not_found", f"{path}: no such file") from error
    except _BROKEN as error:
        raise DatasetError("not_an_archive", f"{path.name}: {what}: {error}") from error


def _from_npy(path: Path) -> _Found:
    return _Found(pictures=_npy_array(lambda: path.open("rb"), is_stream=False))


def _from_npz(path: Path, stack: ExitStack) -> _Found:
    archive = stack.enter_context(open_archive(path, max_entries=_MAX_MEMBERS))
    keys = [entry.filename.removesuffix(".npy") for entry in archive.entries if entry.filename.endswith(".npy")]

    def array(key: str) -> _Array:
        return _npy_array(lambda: archive.open(archive.entry(f"{key}.npy")), is_stream=True)

    key = _images_key(keys, lambda key: array(key).shape, path.name)
    labels = {k: partial(array, k) for k in _FACTOR_KEYS if k in keys and k != key}
    return _Found(pictures=array(key), labels=labels)


def _from_hdf5(path: Path, stack: ExitStack) -> _Found:
    try:
        import h5py  # An optional dependency: the API's image does without it.
    except ImportError as error:
        raise DatasetError("needs_h5py", "HDF5 files need the package h5py") from error
    file = stack.enter_context(h5py.File(path, "r"))

    def shape(key: str) -> tuple[int, ...]:
        is_own = isinstance(file.get(key, getlink=True), h5py.HardLink)
        return (getattr(file[key], "shape", None) or ()) if is_own else ()

    def array(key: str) -> _Array:
        data = _own_data(h5py, file, key, path.name)

        def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
            for rows in ranges:
                yield data[rows.start : rows.stop]

        return _Array(shape=data.shape, dtype=data.dtype, read=read, chunks=data.chunks or ())

    key = _images_key(list(file), shape, path.name)
    labels = {k: partial(array, k) for k in _FACTOR_KEYS if k in file and k != key}
    return _Found(pictures=array(key), labels=labels)


def _own_data(h5py: Any, file: Any, key: str, name: str) -> Any:
    """A data set that lies in the file itself: an HDF5 file may name other files of this machine as its content."""
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise DatasetError("unsupported_array", f"{name}: {key} is a link")
    data = file[key]
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or not data.shape:
        raise DatasetError("unsupported_array", f"{name}: {key} is not a plain array in this file")
    if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > _MAX_ROW_BYTES:
        raise DatasetError("unsupported_array", f"{name}: {key} has chunks of more than {_MAX_ROW_BYTES} bytes")
    return data


def _images_key(keys: list[str], shape_of: Callable[[str], tuple[int, ...]], name: str) -> str:
    """The array of three or more axes that is called as pictures are, or else the only one of them."""
    known = [key for key in _IMAGE_KEYS if key in keys]
    found = next((key for key in known if len(shape_of(key)) > 2), None)
    if found is not None:
        return found
    others = [key for key in keys[:_MAX_KEYS] if key not in known and len(shape_of(key)) > 2]
    if len(others) == 1:
        return others[0]
    raise DatasetError(
        "unsupported_array",
        f"{name}: none of the arrays {', '.join(_IMAGE_KEYS)} has three axes or more and lies in the file itself; "
        f"found {', '.join(keys[:20])}",
    )


def _npy_array(open_file: Callable[[], IO[bytes]], *, is_stream: bool) -> _Array:
    with open_file() as file:
        shape, fortran_order, dtype = read_npy_header(file)
    grid: tuple[int, ...] = ()
    transposed = fortran_order and len(shape) > 1
    if transposed:
        shape = shape[::-1]
    elif len(shape) > 5:  # MPI3D also comes as one axis per factor; three axes (H, W, C) remain.
        grid, shape = shape[:-3], (math.prod(shape[:-3]), *shape[-3:])

    def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
        with open_file() as file:
            read_npy_header(file)
            yield from _stream(file, shape, dtype, ranges)

    return _Array(shape=shape, dtype=dtype, read=read, grid=grid, transposed=transposed, is_stream=is_stream)


def _stream(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], ranges: Iterable[range]
) -> Iterator[NDArray[Any]]:
    """Ranges of the rows of an array whose header has just been read."""
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


def _blocks(array: _Array, packed_bytes: int = 0) -> Iterator[NDArray[Any]]:
    """All rows in order, in blocks of at most 16 MB, both as they are and as they are packed, or of one row.

    Args: packed_bytes, of one packed picture.
    """
    num_rows, chunk_rows = array.shape[0], array.chunk_rows
    rows = max(1, _BLOCK_BYTES // max(1, array.row_bytes, packed_bytes))
    if array.chunks:
        rows = min(rows, chunk_rows * max(1, _MAX_CHUNKS // array.row_chunks))
    # Whole chunks: one that is split is unpacked twice.
    step = max(1, rows // chunk_rows) * chunk_rows
    for part in array.read(range(start, min(start + step, num_rows)) for start in range(0, num_rows, step)):
        for start in range(0, len(part), rows):
            # A copy: whoever holds on to a view keeps the whole part while the next is read.
            yield part if len(part) <= rows else part[start : start + rows].copy()
        del part


def _places(array: _Array) -> Sequence[int]:
    """Rows from all over an array: 64, or fewer (but 4) where more than 1 GB would be unpacked for them."""
    reach = array.shape[0]
    if array.is_stream:
        reach = min(reach, max(1, _PEEK_BYTES // array.row_bytes))
    row_cost = max(array.chunk_rows * array.row_bytes, array.row_chunks * _CHUNK_BYTES)
    count = min(_NUM_PEEKS, max(4, _PEEK_BYTES // row_cost))
    return range(0, reach, -(-reach // count))


def _read_labels(found: _Found, path: Path) -> tuple[_Labels, list[tuple[str, str]]]:
    """The first labels that can be used, and key and reason of those that cannot."""
    pictures = found.pictures
    if pictures.grid:
        return _grid_labels(pictures.grid, pictures.shape[1:]), []
    unusable: list[tuple[str, str]] = []
    for key, array in found.labels.items():
        try:
            with _told(path, "damaged"):
                values = _label_values(array(), pictures.shape[0])
            return _named_labels(values, pictures, key), unusable
        except DatasetError as error:
            if error.code == "not_an_archive":
                raise
            unusable.append((key, error.message))
    sizes = next((sizes for sizes in _MPI3D_SIZES if math.prod(sizes) == pictures.shape[0]), None)
    if sizes is not None and pictures.shape[1:] == (64, 64, 3):
        return _grid_labels(sizes, pictures.shape[1:]), unusable
    return _Labels(), unusable


def _label_values(array: _Array, num_images: int) -> NDArray[Any]:
    """(N, F) numbers."""
    shape = array.shape[::-1] if array.transposed else array.shape
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DatasetError("bad_labels", f"labels of type {array.dtype}; save them as whole numbers")
    if shape[:1] != (num_images,):
        raise DatasetError("bad_labels", f"labels of shape {shape} for {num_images} images; save a row for each")
    num_columns = math.prod(shape[1:])
    if not 0 < num_columns <= _MAX_COLUMNS or num_columns * num_images * array.dtype.itemsize > _MAX_LABEL_BYTES:
        raise DatasetError("bad_labels", f"labels of shape {shape}; save at most {_MAX_COLUMNS} columns")
    values = np.concatenate(list(_blocks(array)))
    if not np.isfinite(values).all():
        raise DatasetError("bad_labels", "labels that are not finite; leave those pictures out")
    return (values.T if array.transposed else values).reshape(num_images, num_columns)


def _named_labels(values: NDArray[Any], pictures: _Array, key: str) -> _Labels:
    """The factors that labels stand for, by their own names where they are those of Shapes3D or dSprites.

    Args: key, of the labels in their file.
    """
    classes = _shapes3d_classes(values) if pictures.shape[1:] == (64, 64, 3) else None
    if classes is not None:
        sizes = tuple(map(len, _SHAPES3D_VALUES.values()))
        return _Labels(kind="shapes3d", factors=classes, factor_names=tuple(_SHAPES3D_VALUES), factor_sizes=sizes)
    factors = _class_indices(values)
    # dSprites' first factor is its one colour.
    sprites = factors[:, 1:] if factors.shape[1] == 6 and not factors[:, 0].any() else factors
    if _are_dsprites(pictures, sprites, key):
        return _Labels(
            kind="dsprites",
            factors=sprites,
            factor_names=dsprites.FACTOR_NAMES,
            factor_sizes=dsprites.FACTOR_SIZES,
        )
    sizes = tuple(int(n) + 1 for n in factors.max(axis=0))
    names = _numbered(len(sizes)) if len(sizes) > 1 else ("label",)
    return _Labels(factors=factors, factor_names=names, factor_sizes=sizes)


def _class_indices(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Whole numbers from 0 stay, other values are numbered in their order."""
    columns = []
    for number, column in enumerate(values.T, 1):
        whole = column.dtype.kind in "biu" and column.min() >= 0 and column.max() < 2**16
        indices = column if whole else np.unique(column, return_inverse=True)[1]
        if indices.max() >= 2**16:
            raise DatasetError("bad_labels", f"column {number} has more than 65 536 values; save classes")
        columns.append(indices.astype(np.uint16))
    return np.stack(columns, axis=1)


def _shapes3d_classes(values: NDArray[Any]) -> NDArray[np.uint16] | None:
    """The class indices where every value is one that Shapes3D has in its column."""
    if values.shape[1] != len(_SHAPES3D_VALUES):
        return None
    columns = []
    for column, published in zip(values.T, _SHAPES3D_VALUES.values(), strict=True):
        indices = np.abs(column[:, None] - published).argmin(axis=1)
        if not np.allclose(column, published[indices], rtol=0, atol=1e-3):
            return None
        columns.append(indices.astype(np.uint16))
    return np.stack(columns, axis=1)


def _are_dsprites(pictures: _Array, classes: NDArray[np.uint16], key: str) -> bool:
    """Whether some pictures are of two values, and the labels called as in the published file, or the pictures the very
    sprites that the classes name.

    Of the published pictures, 1 pixel in 11 000 differs from ours; of a resized copy, too many do.
    """
    if classes.shape[1] != 5 or pictures.shape[1:] not in ((64, 64), (64, 64, 1), (1, 64, 64)):
        return False
    if (classes.max(axis=0) >= dsprites.FACTOR_SIZES).any():
        return False
    places = _places(pictures)
    seen = np.concatenate(list(pictures.read(range(i, i + 1) for i in places))).reshape(-1, 64, 64)
    ink = seen == seen.max()
    if not (ink | (seen == 0)).all():
        return False
    return key == _DSPRITES_KEY or bool((ink != (dsprites.render(classes[places]) > 0)).mean() < _MAX_SPRITE_ERROR)


def _grid_labels(sizes: tuple[int, ...], shape: tuple[int, ...]) -> _Labels:
    """Labels of a full grid, the last factor fastest, by their own names where it can be one of MPI3D's values."""
    factors = factor_grid(sizes)
    is_part = len(sizes) == len(_MPI3D_NAMES) and all(map(operator.le, sizes, _MPI3D_SIZES[0]))
    if is_part and shape == (64, 64, 3):
        return _Labels(kind="mpi3d", factors=factors, factor_names=_MPI3D_NAMES, factor_sizes=sizes)
    return _Labels(factors=factors, factor_names=_numbered(len(sizes)), factor_sizes=sizes)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"factor_{i}" for i in range(1, count + 1))


def _is_full_grid(factors: NDArray[np.integer[Any]] | None, sizes: tuple[int, ...]) -> bool:
    if factors is None or math.prod(sizes) != len(factors):
        return False
    return bool((factors == factor_grid(sizes)).all())


def _byte_scale(pictures: _Array) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """How values become bytes. Where the type leaves it open, the array is read once for its range."""
    dtype = pictures.dtype
    if dtype.kind == "b":
        return lambda block: block * np.uint8(255)
    low, high = math.inf, -math.inf
    for block in _blocks(pictures):
        if not np.isfinite(block).all():
            raise DatasetError("unsupported_array", "the pixels hold values that are not finite")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if dtype == np.uint8 and high > 1:
            return lambda block: block
    white, fits = _white(dtype, low, high)
    if not fits:
        raise DatasetError(
            "unsupported_array", f"pixels from {low:g} to {high:g}; scale them to 0 to 1, or to 0 to 255 as uint8"
        )
    if white == 1 and dtype.kind != "f":
        return lambda block: block.astype(np.uint8) * np.uint8(255)
    return lambda block: np.clip(np.round(block.astype(np.float64) * (255 / white)), 0, 255).astype(np.uint8)


def _white(dtype: np.dtype[Any], low: float, high: float) -> tuple[int, bool]:
    """What white counts to in values of this range, 1, 255 or, in whole numbers, 65 535, and whether they fit that."""
    if dtype.kind == "f":
        return white_of_floats(low, high)
    white = next((white for white in (1, 255) if high <= white), 65535)
    return white, low >= 0 and high <= white and (white <= 255 or high >= DARKEST * white)


def _channels_last(block: NDArray[Any]) -> NDArray[Any]:
    if block.ndim == 3:
        return block[..., None]
    return block if block.shape[3] in (1, 3, 4) else block.transpose(0, 2, 3, 1)


def _preprocess_block(
    block: NDArray[np.uint8], preprocessing: Preprocessing, pool: ThreadPoolExecutor
) -> NDArray[np.uint8]:
    size = preprocessing.image_size
    cut = preprocessing.crop_size is not None and preprocessing.crop_size < size
    if block.shape[1:3] == (size, size) and not cut:
        if block.shape[3] == preprocessing.num_channels:
            return block
        if block.shape[3] == 1:
            return np.repeat(block, 3, axis=3)
    return np.stack(list(pool.map(lambda image: preprocess_array(image, preprocessing), block)))
