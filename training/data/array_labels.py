"""Labels of pixel arrays, their factors, and recognition of published sets; free of torch."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import dsprites
from training.data.array_keys import CLASSES_KEY, VALUES_KEY
from training.data.array_readers import damage_as_dataset_error, read_blocks, read_rows, sample_rows
from training.data.layouts.quantities import is_quantity, ranks_of, value_columns
from training.data.packs import factor_grid
from training.data.sources import DatasetError
from training.data.stored_arrays import ArrayContents, StoredArray

_MAX_LABEL_BYTES = 2**30
_MAX_COLUMNS = 256

SHAPES3D_VALUES = {
    "floor_hue": np.linspace(0, 0.9, 10),
    "wall_hue": np.linspace(0, 0.9, 10),
    "object_hue": np.linspace(0, 0.9, 10),
    "scale": np.linspace(0.75, 1.25, 8),
    "shape": np.arange(4.0),
    "orientation": np.linspace(-30, 30, 15),
}
_MPI3D_NAMES = ("object_color", "object_shape", "object_size", "camera_height", "background_color", "axis_1", "axis_2")
_MPI3D_SIZES = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))


@dataclass(frozen=True, kw_only=True)
class ArrayLabels:
    """Kind and factors of a set, as arguments of PackWriter.finish."""

    kind: str = "array"
    factors: NDArray[np.integer[Any]] | None = None
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    values: NDArray[np.float64] | None = None
    """See Pack.values."""
    key: str | None = None
    """The array that the factors are from, if they are from one."""

    @property
    def is_full_grid(self) -> bool:
        """True if image i has the factors np.unravel_index(i, factor_sizes)."""
        if self.factors is None or math.prod(self.factor_sizes) != len(self.factors):
            return False
        return bool((self.factors == factor_grid(self.factor_sizes)).all())


def read_labels(contents: ArrayContents, path: Path) -> tuple[ArrayLabels, list[tuple[str, str]]]:
    """Reads the first labels that can be used.

    Args:
        contents: The arrays of the file.
        path: The file, for messages.

    Returns:
        The labels, without factors if there are none; and key and reason of each array that cannot be used.

    Raises:
        DatasetError: not_an_archive if the bytes of the labels are damaged.
    """
    pictures = contents.pictures
    if pictures.grid:
        return _grid_labels(pictures.grid, pictures.shape[1:]), []
    unusable: list[tuple[str, str]] = []
    for key, array in contents.labels.items():
        try:
            with damage_as_dataset_error(path, "damaged"):
                values = _label_values(array(), pictures.shape[0])
            return replace(_named_labels(values, pictures, key), key=key), unusable
        except DatasetError as error:
            if error.code == "not_an_archive":
                raise
            unusable.append((key, error.message))
    sizes = next((sizes for sizes in _MPI3D_SIZES if math.prod(sizes) == pictures.shape[0]), None)
    if sizes is not None and pictures.shape[1:] == (64, 64, 3):
        return _grid_labels(sizes, pictures.shape[1:]), unusable
    return ArrayLabels(), unusable


def unused_arrays(contents: ArrayContents, used: str | None, reported: Sequence[str]) -> list[str]:
    """Returns the keys of the arrays with a row for each picture that are neither used nor reported yet.

    The values of dSprites are left out beside its classes, which mean the same.

    Args:
        contents: The arrays of the file.
        used: Key of the labels that are used.
        reported: Keys of labels that cannot be used.
    """
    keys = [key for key in contents.labels if key != used and key not in reported]
    if used is not None and used.replace("/", "_") == CLASSES_KEY:
        keys = [key for key in keys if key.replace("/", "_") != VALUES_KEY]
    return [*keys, *contents.unused]


def _label_values(array: StoredArray, num_images: int) -> NDArray[Any]:
    """Reads labels as an (N, F) array of numbers."""
    shape = array.shape[::-1] if array.transposed else array.shape
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DatasetError("bad_labels", f"the labels have the type {array.dtype}; save them as whole numbers")
    if shape[:1] != (num_images,):
        raise DatasetError(
            "bad_labels", f"the labels have the shape {shape}; save a row for each of {num_images} images"
        )
    num_columns = math.prod(shape[1:])
    if not 0 < num_columns <= _MAX_COLUMNS or num_columns * num_images * array.dtype.itemsize > _MAX_LABEL_BYTES:
        raise DatasetError("bad_labels", f"the labels have the shape {shape}; save at most {_MAX_COLUMNS} columns")
    values = np.concatenate(list(read_blocks(array)))
    if not np.isfinite(values).all():
        raise DatasetError("bad_labels", "some labels are not finite; leave those pictures out")
    return (values.T if array.transposed else values).reshape(num_images, num_columns)


def _named_labels(values: NDArray[Any], pictures: StoredArray, key: str) -> ArrayLabels:
    """Turns label values into factors, with their published names if the set is Shapes3D or dSprites.

    Args:
        values: (N, F) numbers.
        pictures: The pictures that the labels belong to.
        key: Name of the labels in their file.
    """
    classes = _shapes3d_classes(values) if pictures.shape[1:] == (64, 64, 3) else None
    if classes is not None:
        sizes = tuple(map(len, SHAPES3D_VALUES.values()))
        return ArrayLabels(kind="shapes3d", factors=classes, factor_names=tuple(SHAPES3D_VALUES), factor_sizes=sizes)
    factors = _class_indices(values)
    # The first factor of dSprites is its only colour, which is constant.
    sprites = factors[:, 1:] if factors.shape[1] == 6 and not factors[:, 0].any() else factors
    if _are_dsprites(pictures, sprites, key):
        return ArrayLabels(
            kind="dsprites",
            factors=sprites,
            factor_names=dsprites.FACTOR_NAMES,
            factor_sizes=dsprites.FACTOR_SIZES,
        )
    sizes = tuple(int(n) + 1 for n in factors.max(axis=0))
    names = _numbered(len(sizes)) if len(sizes) > 1 else ("label",)
    numbers = values.astype(np.float64)
    quantities = [column if is_quantity(column) else None for column in numbers.T]
    return ArrayLabels(factors=factors, factor_names=names, factor_sizes=sizes, values=value_columns(quantities))


def _class_indices(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Keeps columns of whole numbers ≥ 0 as they are, and numbers the distinct values of others in ascending order."""
    columns = []
    for number, column in enumerate(values.T, 1):
        whole = column.dtype.kind in "biu" and column.min() >= 0 and column.max() < 2**16
        try:
            columns.append(column.astype(np.uint16) if whole else ranks_of(column))
        except ValueError as error:
            message = f"column {number} has more than 65 536 values; save classes"
            raise DatasetError("bad_labels", message) from error
    return np.stack(columns, axis=1)


def _shapes3d_classes(values: NDArray[Any]) -> NDArray[np.uint16] | None:
    """Returns class indices if every value is one that Shapes3D has in that column, else None."""
    if values.shape[1] != len(SHAPES3D_VALUES):
        return None
    columns = []
    for column, published in zip(values.T, SHAPES3D_VALUES.values(), strict=True):
        indices = np.abs(column[:, None] - published).argmin(axis=1)
        if not np.allclose(column, published[indices], rtol=0, atol=1e-3):
            return None
        columns.append(indices.astype(np.uint16))
    return np.stack(columns, axis=1)


def _are_dsprites(pictures: StoredArray, classes: NDArray[np.uint16], key: str) -> bool:
    """Checks sampled pictures against dSprites if the shapes allow it."""
    if pictures.shape[1:] not in ((64, 64), (64, 64, 1), (1, 64, 64)) or not dsprites.are_classes(classes):
        return False
    rows = sample_rows(pictures)
    sample = np.concatenate(list(read_rows(pictures, rows))).reshape(-1, 64, 64)
    return dsprites.are_sprites(sample, classes[rows], labels_key=key.replace("/", "_"))


def _grid_labels(sizes: tuple[int, ...], shape: tuple[int, ...]) -> ArrayLabels:
    """Returns the labels of a full grid, the last factor fastest, with MPI3D's names if sizes and shape fit it.

    Args:
        sizes: Number of values of each factor.
        shape: Shape of one picture.
    """
    factors = factor_grid(sizes)
    is_part = len(sizes) == len(_MPI3D_NAMES) and all(map(operator.le, sizes, _MPI3D_SIZES[0]))
    if is_part and shape == (64, 64, 3):
        return ArrayLabels(kind="mpi3d", factors=factors, factor_names=_MPI3D_NAMES, factor_sizes=sizes)
    return ArrayLabels(factors=factors, factor_names=_numbered(len(sizes)), factor_sizes=sizes)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"factor_{i}" for i in range(1, count + 1))
