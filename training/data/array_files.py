"""Packing of pixel arrays: .npy, .npz and HDF5 files, among them dSprites, Shapes3D and MPI3D; free of torch."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.array_labels import read_labels, unused_arrays
from training.data.array_readers import open_array_file, read_blocks, read_rows, sample_rows
from training.data.expansion import is_bomb
from training.data.images import DARKEST, ImageError, Preprocessing, is_coloured, preprocess_array, white_of_floats
from training.data.layouts.layout import complete_split
from training.data.pack_writer import PackWriter
from training.data.packs import PackInfo
from training.data.sources import ArrayFile, DatasetError, Limits, OnProgress
from training.data.stored_arrays import StoredArray


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
    """Packs an array of (N, H, W), (N, H, W, C) or (N, C, H, W) pixels.

    Pixels may be bytes, booleans, 16-bit integers, or floats in [0, 1] or [0, 255]; an array that holds only 0 and 1 is
    black and white. Floats that overshoot a little, as after an interpolation, are clipped; values that fit none of
    these ranges are refused. Labels that cannot be used are noted in rejected.jsonl, and the pictures are packed
    without factors.

    Args:
        source: The file.
        target: Folder of the pack, which is replaced.
        preprocessing: Size, channels and crop of the packed pictures.
        name: Name of the pack, for people.
        limits: Bounds on the number of images and on the pixels of each.
        num_workers: Threads that resize pictures.
        on_progress: Called with (done, total) images after each block.
        check_space: Called with the number of bytes that the pack needs; raises if they are not free.
        source_fingerprint: Stored in the pack, to detect later that the source has changed.

    Returns:
        The description of the pack.

    Raises:
        DatasetError: The file cannot be read, or its arrays are not pictures.
    """
    with ExitStack() as stack:
        try:
            contents = open_array_file(source.path, stack, limits)
            num_images = contents.pictures.shape[0]
            _check_expansion(contents.pictures, source.path, limits)
            packed_bytes = preprocessing.image_size**2 * preprocessing.num_channels
            check_space(num_images * packed_bytes)
            labels, unusable = read_labels(contents, source.path)
            to_bytes = _byte_scale(contents.pictures)
            with PackWriter(target, preprocessing) as writer, ThreadPoolExecutor(num_workers) as pool:
                for key, reason in unusable:
                    writer.reject(key, "bad_labels", reason)
                for key in unused_arrays(contents, labels.key, [key for key, _ in unusable]):
                    writer.reject(key, "not_used", "an array with a row for each picture that is not used")
                for block in read_blocks(contents.pictures, packed_bytes):
                    writer.add(_preprocess_block(_channels_last(to_bytes(block)), preprocessing, pool))
                    on_progress(writer.num_images, num_images)
                return writer.finish(
                    name=name,
                    source=str(source.path),
                    full_grid=labels.is_full_grid,
                    source_fingerprint=source_fingerprint,
                    kind=labels.kind,
                    factors=labels.factors,
                    factor_names=labels.factor_names,
                    factor_sizes=labels.factor_sizes,
                    values=labels.values,
                    split=None if contents.split is None else complete_split(contents.split),
                )
        except ImageError as error:
            raise DatasetError("unsupported_array", f"{source.path.name}: {error.message}") from error


def count_images(source: ArrayFile, limits: Limits) -> int:
    """Returns the number of pictures that the file's header declares.

    Raises:
        DatasetError: The file cannot be read, or its arrays are not pictures.
    """
    with ExitStack() as stack:
        return open_array_file(source.path, stack, limits).pictures.shape[0]


def has_colour(source: ArrayFile, limits: Limits) -> bool:
    """Returns True if any of at most 64 pictures that are spread over an array shows a colour.

    Only the first GB of an archive is read.

    Args:
        source: The file.
        limits: Bounds on the number of images and on the pixels of each.

    Raises:
        DatasetError: The file cannot be read, or its arrays are not pictures.
    """
    with ExitStack() as stack, np.errstate(all="ignore"):  # Values that are not finite are refused by the packing.
        pictures = open_array_file(source.path, stack, limits).pictures
        high = spread = 0.0
        for row in read_rows(pictures, sample_rows(pictures)):
            colours = _channels_last(row)[..., :3]
            if colours.shape[3] == 1:
                return False
            brightest, darkest = colours.max(axis=3), colours.min(axis=3)
            high = max(high, float(brightest.max()))
            spread = max(spread, float(np.subtract(brightest, darkest, dtype=np.float64).max()))
        white, _ = _white(pictures.dtype, 0, high)
        spread *= 255 / white
        return is_coloured(np.array([0, min(spread, 255)]).astype(np.uint8))


def sample_array(source: ArrayFile, preprocessing: Preprocessing, count: int, limits: Limits) -> NDArray[np.uint8]:
    """Returns a few pictures that are spread over an array; the range of the values is guessed from these.

    Args:
        source: The file.
        preprocessing: Size, channels and crop.
        count: Largest number of pictures.
        limits: Bounds on the number of images and on the pixels of each.

    Returns:
        (n, H, W, C) uint8.

    Raises:
        DatasetError: The file cannot be read, or its arrays are not pictures.
    """
    with ExitStack() as stack:
        try:
            pictures = open_array_file(source.path, stack, limits).pictures
            rows = sample_rows(pictures)
            chosen = rows[:: -(-len(rows) // count)]
            block = _channels_last(np.concatenate(list(read_rows(pictures, chosen))))
            to_bytes = _scale(block.dtype, *_range_of(block))
            return np.stack([preprocess_array(image, preprocessing) for image in to_bytes(block)])
        except ImageError as error:
            raise DatasetError("unsupported_array", f"{source.path.name}: {error.message}") from error


def _check_expansion(pictures: StoredArray, path: Path, limits: Limits) -> None:
    """Refuses a small file that declares pictures without end.

    Raises:
        DatasetError: unsupported_array.
    """
    total_bytes, file_bytes = pictures.shape[0] * pictures.row_bytes, path.stat().st_size
    if is_bomb(total_bytes, file_bytes, limits):
        raise DatasetError(
            "unsupported_array", f"{path.name}: {total_bytes} bytes of pixels in a file of {file_bytes} bytes"
        )


def _byte_scale(pictures: StoredArray) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Returns the function that turns stored values into bytes.

    If the range of the values does not follow from the type, the whole array is read once to find it.

    Raises:
        DatasetError: unsupported_array if the values fit no known range.
    """
    dtype = pictures.dtype
    low, high = math.inf, -math.inf
    for block in () if dtype.kind == "b" else read_blocks(pictures):
        block_low, block_high = _range_of(block)
        low, high = min(low, block_low), max(high, block_high)
        if dtype == np.uint8 and high > 1:
            break
    return _scale(dtype, low, high)


def _range_of(block: NDArray[Any]) -> tuple[float, float]:
    """Returns the smallest and the largest value.

    Raises:
        DatasetError: unsupported_array if a value is not finite.
    """
    if not np.isfinite(block).all():
        raise DatasetError("unsupported_array", "the pixels hold values that are not finite")
    return float(block.min()), float(block.max())


def _scale(dtype: np.dtype[Any], low: float, high: float) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Returns the function that turns values of a type and a range into bytes.

    Raises:
        DatasetError: unsupported_array if the values fit no known range.
    """
    if dtype.kind == "b":
        return lambda block: block * np.uint8(255)
    if dtype == np.uint8 and high > 1:
        return lambda block: block
    white, fits = _white(dtype, low, high)
    if not fits:
        raise DatasetError(
            "unsupported_array",
            f"the pixels range from {low:g} to {high:g}; scale them to 0–1, or to 0–255 as uint8",
        )
    if white == 1 and dtype.kind != "f":
        return lambda block: block.astype(np.uint8) * np.uint8(255)
    return lambda block: np.clip(np.round(block.astype(np.float64) * (255 / white)), 0, 255).astype(np.uint8)


def _white(dtype: np.dtype[Any], low: float, high: float) -> tuple[int, bool]:
    """Guesses the value of white (1, 255, or 65 535 for integers) from a range, and checks that the range fits it."""
    if dtype.kind == "f":
        return white_of_floats(low, high)
    white = next((white for white in (1, 255) if high <= white), 65535)
    return white, low >= 0 and high <= white and (white <= 255 or high >= DARKEST * white)


def _channels_last(block: NDArray[Any]) -> NDArray[Any]:
    """Returns (n, H, W), (n, H, W, C) or (n, C, H, W) pixels as (n, H, W, C)."""
    if block.ndim == 3:
        return block[..., None]
    return block if block.shape[3] in (1, 3, 4) else block.transpose(0, 2, 3, 1)


def _preprocess_block(
    block: NDArray[np.uint8], preprocessing: Preprocessing, pool: ThreadPoolExecutor
) -> NDArray[np.uint8]:
    """Crops and resizes (n, H, W, C) pixels; pixels that already have the right size stay as they are."""
    size = preprocessing.image_size
    cut = preprocessing.crop_size is not None and preprocessing.crop_size < size
    if block.shape[1:3] == (size, size) and not cut:
        if block.shape[3] == preprocessing.num_channels:
            return block
        if block.shape[3] == 1:
            return np.repeat(block, 3, axis=3)
    return np.stack(list(pool.map(lambda image: preprocess_array(image, preprocessing), block)))
