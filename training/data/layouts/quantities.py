"""Labels that are quantities, which are numbers with fractions: their classes and their values; free of torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_CLASSES = 2**16


def is_quantity(numbers: NDArray[np.float64]) -> bool:
    """Returns whether any number has a fraction; whole numbers may be mere classes."""
    return bool((numbers != np.floor(numbers)).any())


def ranks_of(numbers: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Numbers the distinct values of a column in ascending order.

    Args:
        numbers: (N,).

    Raises:
        ValueError: There are more than 65 536 values.
    """
    distinct, ranks = np.unique(numbers, return_inverse=True)
    if len(distinct) > MOST_CLASSES:
        raise ValueError(f"more than {MOST_CLASSES} values; it is not a factor")
    return ranks.astype(np.uint16)


def value_columns(quantities: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    """Joins the quantities of a set, (N,) each, as Pack.values; None, in the place of each class, gives NaN."""
    known = [quantity for quantity in quantities if quantity is not None]
    if not known:
        return None
    classes = np.full(len(known[0]), np.nan)
    return np.stack([classes if quantity is None else quantity for quantity in quantities], axis=1)
