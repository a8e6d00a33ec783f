"""Which arrays of a file are pictures, labels and splits, by their names and shapes; free of torch."""

import math
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import dsprites
from training.data.layouts.layout import TEST, TRAIN, VALIDATION
from training.data.sources import DAMAGED_ARCHIVE, DatasetError
from training.data.stored_arrays import ArrayContents, StoredArray

_MAX_KEYS = 100
IMAGE_KEYS = ("imgs", "images", "x", "x_train", "arr_0", "data")
CLASSES_KEY, VALUES_KEY = dsprites.LABELS_KEY, "latents_values"
"""Names of dSprites' labels in its .npz file; in its HDF5 file they are latents/classes and latents/values."""
_LABEL_KEYS = (CLASSES_KEY, "factors", "classes", "labels", "label", "y", "y_train", "targets", VALUES_KEY)
_PARTS = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}
_PART_KEY = re.compile(rf"(?:({'|'.join(_PARTS)})_(\w+)|(\w+)_({'|'.join(_PARTS)}))$")
"""train_images, as MedMNIST names its arrays, or x_train, as Keras does."""
_LEAST_SIDE = 8

BROKEN = (*DAMAGED_ARCHIVE, TypeError, SyntaxError, KeyError, IndexError, tokenize.TokenError)
"""Errors that zipfile, h5py and NumPy raise on damaged bytes; NumPy parses the header of a .npy file as Python."""


def contents_of(keys: Sequence[str], array_of: Callable[[str], StoredArray], name: str) -> ArrayContents:
    """Chooses the pictures and the labels of a file.

    Args:
        keys: Names of the arrays; HDF5 paths have slashes.
        array_of: Opens one of them by its header; raises DatasetError for one that cannot be read.
        name: Name of the file, for messages.

    Raises:
        DatasetError: unsupported_array if no array, or more than one, can be the pictures.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    damage: Exception | None = None
    for key in keys[:_MAX_KEYS]:
        try:
            shapes[key] = array_of(key).shape
        except DatasetError:
            shapes[key] = ()
        except BROKEN as error:  # Other arrays may be intact.
            shapes[key], damage = (), damage or error
    if parts := _parts(shapes):
        return _of_parts(parts, shapes, array_of, name)
    images_key = _images_key(shapes)
    if images_key is None:
        if damage is not None:
            raise damage
        raise DatasetError(
            "unsupported_array",
            f"{name}: none of the arrays {', '.join(IMAGE_KEYS)} has three axes or more and lies in the file itself; "
            f"found {', '.join(keys[:20])}",
        )
    pictures = as_pictures(array_of(images_key))
    labels = [k for wanted in _LABEL_KEYS for k in keys if k != images_key and k.replace("/", "_") == wanted]
    rows = [k for k, shape in shapes.items() if shape[:1] == pictures.shape[:1] and k not in (images_key, *labels)]
    return ArrayContents(
        pictures=pictures,
        labels={k: _opener(array_of, k) for k in labels},
        unused=rows,
    )


def as_pictures(array: StoredArray) -> StoredArray:
    """Returns an array of flat square pictures, (N, H·H), as QuickDraw's are, as (N, H, H); others as they are."""
    side = math.isqrt(array.shape[1]) if len(array.shape) == 2 else 0
    if side < _LEAST_SIDE or side**2 != array.shape[1] or array.transposed:
        return array
    read = array.read

    def reshaped(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
        return (block.reshape(-1, side, side) for block in read(ranges))

    chunks = (array.chunks[0], side, side) if array.chunks else ()
    return replace(array, shape=(array.shape[0], side, side), read=reshaped, chunks=chunks)


def _opener(array_of: Callable[[str], StoredArray], key: str) -> Callable[[], StoredArray]:
    return lambda: array_of(key)


def _images_key(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Returns the key of the pictures, or None.

    This is the first array of three or more axes with a usual name for pictures, or else the only array of three or
    more axes, or else one of flat square pictures with a usual name.
    """
    known = [key for wanted in IMAGE_KEYS for key in shapes if key.rpartition("/")[2] == wanted]
    found = next((key for key in known if len(shapes[key]) > 2), None)
    if found is not None:
        return found
    others = [key for key, shape in shapes.items() if key not in known and len(shape) > 2]
    if len(others) == 1:
        return others[0]
    flat = (key for key in known if len(shapes[key]) == 2 and math.isqrt(shapes[key][1]) ** 2 == shapes[key][1])
    return None if others else next(flat, None)


def _parts(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, str]]:
    """Returns the part and the stem of each array of pictures of a set in several parts; empty if there are none."""
    named = {key: _part_and_stem(key) for key in shapes}
    found = {key: place for key, place in named.items() if place and place[1] in ("images", "imgs", "x", "data")}
    found = {key: place for key, place in found.items() if len(shapes[key]) > 2}
    stems = {stem for _, stem in found.values()}
    return found if len(found) > 1 and len(stems) == 1 else {}


def _part_and_stem(key: str) -> tuple[str, str] | None:
    match = _PART_KEY.match(key)
    if match is None:
        return None
    return (match[1], match[2]) if match[1] else (match[4], match[3])


def _of_parts(
    parts: dict[str, tuple[str, str]],
    shapes: Mapping[str, tuple[int, ...]],
    array_of: Callable[[str], StoredArray],
    name: str,
) -> ArrayContents:
    """Joins the pictures and the labels of all parts, training first, and takes the split from them."""
    order = sorted(parts, key=lambda key: _PARTS[parts[key][0]])
    pictures = _joined([array_of(key) for key in order], name)
    split = np.concatenate([np.full(shapes[key][0], _PARTS[parts[key][0]], np.uint8) for key in order])
    stems = {place[1] for key in shapes if (place := _part_and_stem(key)) and key not in parts}
    labels: dict[str, Callable[[], StoredArray]] = {}
    used = set(order)
    for stem in (stem for stem in ("labels", "label", "y", "targets") if stem in stems):
        found = {place[0]: key for key in shapes if (place := _part_and_stem(key)) and place[1] == stem}
        if all(parts[key][0] in found for key in order):
            columns = [found[parts[key][0]] for key in order]
            used |= set(columns)
            labels[stem] = lambda columns=columns: _joined([array_of(key) for key in columns], name)  # type: ignore[misc]
    unused = [key for key, shape in shapes.items() if shape and key not in used]
    return ArrayContents(pictures=pictures, labels=labels, unused=unused, split=split)


def _joined(arrays: Sequence[StoredArray], name: str) -> StoredArray:
    """Returns arrays of the same kind as one, one behind the other.

    Raises:
        DatasetError: unsupported_array if their rows differ.
    """
    first = arrays[0]
    if any(a.shape[1:] != first.shape[1:] or a.dtype != first.dtype or a.transposed or a.grid for a in arrays):
        raise DatasetError("unsupported_array", f"{name}: the parts of the set have other shapes or types of pictures")
    starts = np.cumsum([0, *(a.shape[0] for a in arrays)]).tolist()

    def read(ranges: Iterable[range]) -> Iterator[NDArray[Any]]:
        wanted = list(ranges)
        pieces: list[list[NDArray[Any]]] = [[] for _ in wanted]
        for array, start, end in zip(arrays, starts[:-1], starts[1:], strict=True):
            inside = [(i, max(r.start, start), min(r.stop, end)) for i, r in enumerate(wanted)]
            inside = [(i, low, high) for i, low, high in inside if low < high]
            blocks = array.read(range(low - start, high - start) for _, low, high in inside)
            for (i, _, high), block in zip(inside, blocks, strict=True):
                pieces[i].append(block)
                if high == wanted[i].stop:
                    yield np.concatenate(pieces[i])
                    pieces[i] = []

    return StoredArray(
        shape=(starts[-1], *first.shape[1:]),
        dtype=first.dtype,
        read=read,
        chunks=first.chunks,
        is_stream=any(a.is_stream for a in arrays),
    )
