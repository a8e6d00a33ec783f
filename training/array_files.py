"""Packing of pixel arrays: .npy, .npz and HDF5 files, among them dSprites, Shapes3D and MPI3D; free of torch.

Arrays are streamed in blocks, also out of compressed archives. Nothing is unpickled: an array of objects is refused,
and the members that are not asked for (dSprites' metadata) are not read.
"""

import math
import tokenize
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from training import dsprites
from training.images import ImageError, Preprocessing, is_coloured, preprocess_array
from training.packs import PackInfo, PackWriter
from training.sources import DAMAGED_ARCHIVE, ArrayFile, DatasetError, Limits, OnProgress

_BLOCK_BYTES = 2**24
_MAX_ROW_BYTES = 2**28
_MAX_LABEL_BYTES = 2**30
_IMAGE_KEYS = ("imgs", "images", "x", "x_train", "arr_0", "data")
_FACTOR_KEYS = ("latents_classes", "factors", "classes", "labels", "y", "y_train")

SHAPES3D_FACTORS = {
    "floor_hue": 10,
    "wall_hue": 10,
    "object_hue": 10,
    "scale": 8,
    "shape": 4,
    "orientation": 15,
}
_MPI3D_NAMES = ("object_color", "object_shape", "object_size", "camera_height", "background_color", "axis_1", "axis_2")
_MPI3D_SIZES = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))

_BROKEN = (*DAMAGED_ARCHIVE, TypeError, SyntaxError, KeyError, IndexError, tokenize.TokenError)
"""What zipfile, h5py and the header of a .npy file, which is parsed as Python, raise where bytes are damaged."""


@dataclass(frozen=True, kw_only=True)
class _Arrays:
    """A file as found: the shape of its pictures, a function that streams them, and its labels."""

    shape: tuple[int, ...]
    """(N, …); leading axes of a factor grid are already folded into N."""
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[NDArray[Any]]]
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
    is black and white.   Raises: DatasetError.
    """
    with ExitStack() as stack:
        try:
            arrays = _read_file(source.path, stack, limits)
            pixels = preprocessing.image_size**2 * preprocessing.num_channels
            check_space(arrays.shape[0] * pixels)
            to_bytes = _byte_scale(arrays)
            with PackWriter(target, preprocessing) as writer, ThreadPoolExecutor(num_workers) as pool:
                for block in arrays.blocks():
                    writer.add(_preprocess_block(_channels_last(to_bytes(block)), preprocessing, pool))
                    on_progress(writer.num_images, arrays.shape[0])
                return writer.finish(
                    name=name,
                    kind=arrays.kind,
                    source=str(source.path),
                    factors=arrays.factors,
                    factor_names=arrays.factor_names,
                    factor_sizes=arrays.factor_sizes,
                    full_grid=_is_full_grid(arrays.factors, arrays.factor_sizes),
                    source_fingerprint=source_fingerprint,
                )
        except (DatasetError, ImageError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError("unsupported_array", f"{source.path.name}: {error.message}") from error


def has_colour(source: ArrayFile, limits: Limits) -> bool:
    """Whether there is a colour in the first 16 MB of an array's pixels. Raises: DatasetError."""
    with ExitStack() as stack:
        arrays = _read_file(source.path, stack, limits)
        block = _channels_last(next(arrays.blocks()))
        if block.shape[3] == 1:
            return False
        # Of 1, 255 or 65 535, whichever these pixels count to.
        top = next((limit for limit in (1, 255) if block.max() <= limit), 65535)
        return is_coloured(np.clip(np.nan_to_num(block * (255 / top)), 0, 255).astype(np.uint8))


def _read_file(path: Path, stack: ExitStack, limits: Limits) -> _Arrays:
    try:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            arrays = _from_npy(path, limits)
        elif suffix == ".npz":
            arrays = _from_npz(path, stack, limits)
        elif suffix in (".h5", ".hdf5"):
            arrays = _from_hdf5(path, stack)
        else:
            raise DatasetError("not_an_archive", f"{path.name}: expected a .npz, .npy, .h5 or .hdf5 file")
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError("not_found", f"{path}: no such file") from error
    except _BROKEN as error:
        raise DatasetError("not_an_archive", f"{path.name}: cannot be read: {error}") from error
    arrays = _recognised(arrays)
    if len(arrays.shape) not in (3, 4) or (
        len(arrays.shape) == 4 and not {1, 3, 4} & {arrays.shape[1], arrays.shape[3]}
    ):
        raise DatasetError("unsupported_array", f"{path.name}: expected (N, H, W[, C]) pixels, found {arrays.shape}")
    if 0 in arrays.shape:
        raise DatasetError("no_images", f"{path.name}: the array is empty")
    _check_count(arrays.shape[0], path.name, limits)
    row_bytes = math.prod(arrays.shape[1:]) * arrays.dtype.itemsize
    if row_bytes > _MAX_ROW_BYTES or math.prod(arrays.shape[1:]) > 4 * limits.max_pixels:
        raise DatasetError("unsupported_array", f"{path.name}: one image of {row_bytes} bytes")
    if arrays.factors is not None and len(arrays.factors) != arrays.shape[0]:
        raise DatasetError("bad_labels", f"{path.name}: {len(arrays.factors)} labels for {arrays.shape[0]} images")
    return replace(arrays, blocks=lambda: _wrap_errors(path, arrays.blocks()))


def _wrap_errors(path: Path, blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    try:
        yield from blocks
    except _BROKEN as error:
        raise DatasetError("not_an_archive", f"{path.name}: damaged: {error}") from error


def _from_npy(path: Path, limits: Limits) -> _Arrays:
    with path.open("rb") as file:
        full_shape, dtype = _npy_header(file, path.name)
    shape = _fold_grid(full_shape)

    def blocks() -> Iterator[NDArray[Any]]:
        with path.open("rb") as file:
            _npy_header(file, path.name)
            yield from _stream(file, shape, dtype)

    return _unfolded(_Arrays(shape=shape, dtype=dtype, blocks=blocks), full_shape, path.name, limits)


def _from_npz(path: Path, stack: ExitStack, limits: Limits) -> _Arrays:
    archive = stack.enter_context(zipfile.ZipFile(path))
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    key = _images_key(keys, path.name)
    with archive.open(f"{key}.npy") as file:
        full_shape, dtype = _npy_header(file, key)
    shape = _fold_grid(full_shape)

    def blocks() -> Iterator[NDArray[Any]]:
        with archive.open(f"{key}.npy") as file:
            _npy_header(file, key)
            yield from _stream(file, shape, dtype)

    arrays = _unfolded(_Arrays(shape=shape, dtype=dtype, blocks=blocks), full_shape, path.name, limits)
    if arrays.factors is not None:
        return arrays
    label_key = next((k for k in _FACTOR_KEYS if k in keys and k != key), None)
    if label_key is None:
        return arrays
    with archive.open(f"{label_key}.npy") as file:
        label_shape, label_dtype = _npy_header(file, label_key)
        if math.prod(label_shape) * label_dtype.itemsize > _MAX_LABEL_BYTES:
            raise DatasetError("bad_labels", f"{path.name}: {label_key} is larger than {_MAX_LABEL_BYTES} bytes")
        labels = np.concatenate(list(_stream(file, label_shape, label_dtype)))
    return _with_labels(arrays, labels)


def _from_hdf5(path: Path, stack: ExitStack) -> _Arrays:
    try:
        import h5py  # An optional dependency: the API's image does without it.
    except ImportError as error:
        raise DatasetError("needs_h5py", "HDF5 files need the package h5py") from error
    file = stack.enter_context(h5py.File(path, "r"))
    key = _images_key(list(file), path.name)
    pictures = _own_data(h5py, file, key, path.name)
    shape, dtype = _fold_grid(pictures.shape), pictures.dtype
    if dtype.hasobject or shape != pictures.shape:
        raise DatasetError("unsupported_array", f"{path.name}: {key} is {pictures.dtype} {pictures.shape}")

    def blocks() -> Iterator[NDArray[Any]]:
        rows = _rows_per_block(shape, dtype)
        # Whole chunks: a compressed chunk that is split is unpacked twice.
        if pictures.chunks:
            rows = max(1, rows // pictures.chunks[0]) * pictures.chunks[0]
        for start in range(0, shape[0], rows):
            yield pictures[start : start + rows]

    arrays = _Arrays(shape=shape, dtype=dtype, blocks=blocks)
    label_key = next((k for k in _FACTOR_KEYS if k in file and k != key), None)
    if label_key is None:
        return arrays
    labels = _own_data(h5py, file, label_key, path.name)
    if labels.dtype.hasobject or labels.size * labels.dtype.itemsize > _MAX_LABEL_BYTES:
        raise DatasetError("bad_labels", f"{path.name}: {label_key} is {labels.dtype} {labels.shape}")
    return _with_labels(arrays, labels[...])


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


def _images_key(keys: list[str], name: str) -> str:
    found = [key for key in _IMAGE_KEYS if key in keys]
    if not found and len(keys) == 1:
        found = keys
    if not found:
        raise DatasetError(
            "unsupported_array", f"{name}: none of the arrays {', '.join(_IMAGE_KEYS)}; found {', '.join(keys[:20])}"
        )
    return found[0]


def _npy_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise DatasetError("unsupported_array", f"{name}: an array of Python objects, which only unpickling could read")
    if fortran_order and len(shape) > 1:
        raise DatasetError("unsupported_array", f"{name}: in Fortran order; save it with numpy.ascontiguousarray")
    if not shape:
        raise DatasetError("unsupported_array", f"{name}: a single number")
    return tuple(map(int, shape)), dtype


def _stream(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The rows of an array whose header has just been read, block by block."""
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    rows = _rows_per_block(shape, dtype)
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        parts, missing = [], count * row_bytes
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
        if missing:
            raise EOFError(f"the array ends after {start} of {shape[0]} rows")
        yield np.frombuffer(b"".join(parts), dtype).reshape(count, *shape[1:])


def _rows_per_block(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return max(1, _BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))


def _fold_grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """MPI3D also comes as one axis per factor; three axes (H, W, C) remain."""
    return (math.prod(shape[:-3]), *shape[-3:]) if len(shape) > 5 else shape


def _unfolded(arrays: _Arrays, full_shape: tuple[int, ...], name: str, limits: Limits) -> _Arrays:
    """With the labels that the axes of its file stand for, where it has one for each factor."""
    if len(full_shape) <= 5:
        return arrays
    _check_count(arrays.shape[0], name, limits)
    return _with_grid(arrays, full_shape[:-3])


def _check_count(num_images: int, name: str, limits: Limits) -> None:
    if num_images > limits.max_files:
        raise DatasetError("too_many_files", f"{name}: {num_images} images, the limit is {limits.max_files}")


def _with_grid(arrays: _Arrays, sizes: tuple[int, ...], names: tuple[str, ...] = ()) -> _Arrays:
    """Labels of a full grid, the last factor fastest."""
    if len(sizes) == len(_MPI3D_NAMES):
        names = _MPI3D_NAMES
    factors = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1).astype(np.uint16)
    names = names or tuple(f"factor_{i}" for i in range(1, len(sizes) + 1))
    return replace(arrays, factors=factors, factor_names=names, factor_sizes=sizes)


def _with_labels(arrays: _Arrays, labels: NDArray[Any]) -> _Arrays:
    """Class indices of any labels: whole numbers from 0 stay, other values are numbered in their order."""
    labels = labels.reshape(len(labels), -1)
    if labels.dtype.kind not in "biuf" or labels.shape[1] > 256 or not np.isfinite(labels.astype(np.float64)).all():
        raise DatasetError("bad_labels", f"labels of type {labels.dtype} and shape {labels.shape}")
    columns = []
    for column in labels.T:
        whole = column.dtype.kind in "biu" and column.min(initial=0) >= 0 and column.max(initial=0) < 2**16
        columns.append(column if whole else np.unique(column, return_inverse=True)[1])
    factors = np.stack(columns, axis=1)
    if factors.max(initial=0) >= 2**16:
        raise DatasetError("bad_labels", "a factor has more than 65 536 values")
    sizes = tuple(int(n) + 1 for n in factors.max(axis=0, initial=0))
    names = tuple(f"factor_{i}" for i in range(1, len(sizes) + 1)) if len(sizes) > 1 else ("label",)
    return replace(arrays, factors=factors.astype(np.uint16), factor_names=names, factor_sizes=sizes)


def _recognised(arrays: _Arrays) -> _Arrays:
    """Names the factors of the published sets, by the shape of their labels and pictures."""
    factors = arrays.factors
    if arrays.kind == "array" and factors is None and arrays.shape[1:] == (64, 64, 3):
        grids = [sizes for sizes in _MPI3D_SIZES if math.prod(sizes) == arrays.shape[0]]
        return replace(_with_grid(arrays, grids[0]), kind="mpi3d") if grids else arrays
    if factors is None:
        return arrays
    if factors.shape[1] == len(_MPI3D_NAMES) and arrays.factor_names == _MPI3D_NAMES:
        return replace(arrays, kind="mpi3d")
    if factors.shape[1] == 6 and arrays.shape[1:3] == (64, 64) and len(arrays.shape) == 3 and not factors[:, 0].any():
        factors = factors[:, 1:]  # dSprites' first factor is its one colour
    if factors.shape[1] == 5 and len(arrays.shape) == 3 and _within(factors, dsprites.FACTOR_SIZES):
        return replace(
            arrays,
            kind="dsprites",
            factors=factors,
            factor_names=dsprites.FACTOR_NAMES,
            factor_sizes=dsprites.FACTOR_SIZES,
        )
    sizes = tuple(SHAPES3D_FACTORS.values())
    if factors.shape[1] == 6 and arrays.shape[1:] == (64, 64, 3) and _within(factors, sizes):
        return replace(arrays, kind="shapes3d", factor_names=tuple(SHAPES3D_FACTORS), factor_sizes=sizes)
    return arrays


def _within(factors: NDArray[np.integer[Any]], sizes: tuple[int, ...]) -> bool:
    return bool((factors.max(axis=0) < np.array(sizes)).all())


def _is_full_grid(factors: NDArray[np.integer[Any]] | None, sizes: tuple[int, ...]) -> bool:
    if factors is None or math.prod(sizes) != len(factors):
        return False
    grid = np.stack(np.unravel_index(np.arange(len(factors)), sizes), axis=1)
    return bool((factors == grid).all())


def _byte_scale(arrays: _Arrays) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """How values become bytes. Where the type leaves it open, the array is read once for its range."""
    dtype = arrays.dtype
    if dtype.kind == "b" or arrays.kind == "dsprites":
        return lambda block: (block > 0) * np.uint8(255)
    if dtype == np.uint8 and arrays.kind in ("shapes3d", "mpi3d"):
        return lambda block: block
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise DatasetError("unsupported_array", f"pixels of type {dtype} are not supported")
    low, high = math.inf, -math.inf
    for block in arrays.blocks():
        if dtype.kind == "f" and not np.isfinite(block).all():
            raise DatasetError("unsupported_array", "the pixels hold values that are not finite")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    ranges = {1: 1.0, 255: 255.0} | ({65535: 65535.0} if dtype.kind != "f" else {})
    top = next((limit for limit in ranges if high <= limit), None)
    if low < 0 or top is None:
        raise DatasetError("unsupported_array", f"pixels from {low:g} to {high:g}; expected 0 to 1 or 0 to 255")
    if top == 255 and dtype == np.uint8:
        return lambda block: block
    return lambda block: np.round(block.astype(np.float64) * (255 / ranges[top])).astype(np.uint8)


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
