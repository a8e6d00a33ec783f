"""Which factors are numbers with an order, and which of these are continuous; free of torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MANY_VALUES = 64
"""Number of different values above which a quantity counts as continuous in any case."""
_PICTURES_PER_VALUE = 10
"""Number of pictures for each value, on average, below which a quantity counts as continuous."""

_PUBLISHED = frozenset({"builtin", "dsprites", "shapes3d", "mpi3d", "chairs3d", "cars3d", "smallnorb"})
"""Kinds of packs whose factors are known."""
_CLASSES = frozenset({
    "shape", "object_shape", "object_color", "background_color", "object", "category", "instance", "lighting",
})  # fmt: skip
"""Factors of these sets whose numbers have no order."""


def has_order(kind: str, name: str) -> bool:
    """Returns whether the class numbers of a factor are known to have an order.

    Args:
        kind: Kind of the pack (PackInfo.kind).
        name: Name of the factor.
    """
    return kind in _PUBLISHED and name not in _CLASSES


def is_continuous(quantity: NDArray[np.float64]) -> bool:
    """Returns whether a quantity has too many values for a classifier to learn each.

    It has if it takes more than 64 values, or if each value has fewer than ten pictures on average.

    Args:
        quantity: The quantity of each picture, (N,).
    """
    return len(np.unique(quantity)) > max(2, min(MANY_VALUES, len(quantity) / _PICTURES_PER_VALUE))


def quantities_of(values: NDArray[np.float64] | None, columns: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Returns the quantities (N,) among some columns of a pack's values, by their place in `columns`.

    Args:
        values: The values of the pack, (N, F), NaN in the columns of classes; None if it has none.
        columns: The columns.
    """
    if values is None:
        return {}
    return {place: values[:, column] for place, column in enumerate(columns) if np.isfinite(values[0, column])}
