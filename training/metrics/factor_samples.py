"""Drawing of codes by the generative factors of their images, from codes that were computed once; free of torch.

disentanglement_lib renders and encodes an image for every draw, which makes 1.9 million images for the BetaVAE score
alone. Here a draw is a look-up, since the codes of a whole set are a small array.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.floating[Any]]
Factors = NDArray[np.integer[Any]]


class FactorSamples(Protocol):
    """A source of codes, and of the factors of their images."""

    num_factors: int

    def draw(self, num_points: int, rng: np.random.Generator) -> tuple[Codes, Factors]:
        """Draws the codes (N, D) and factors (N, F) of N images."""
        ...

    def draw_groups(self, factor: int, num_groups: int, group_size: int, rng: np.random.Generator) -> Codes:
        """Draws codes (num_groups, group_size, D); within a group one factor has one value and the others vary."""
        ...


class IndependentFactors:
    """Factors that are uniform and independent of each other, as disentanglement_lib samples them."""

    def __init__(self, codes_of: Callable[[Factors, np.random.Generator], Codes], factor_sizes: Sequence[int]) -> None:
        """Takes the source of codes.

        Args:
            codes_of: Returns codes (N, D) for factors (N, F); the generator chooses among images with the same factors.
            factor_sizes: Number of values of each factor, all of which occur.
        """
        self._codes_of, self._sizes = codes_of, np.asarray(factor_sizes)
        self.num_factors = len(factor_sizes)

    def draw(self, num_points: int, rng: np.random.Generator) -> tuple[Codes, Factors]:
        factors = rng.integers(self._sizes, size=(num_points, self.num_factors))
        return self._codes_of(factors, rng), factors

    def draw_groups(self, factor: int, num_groups: int, group_size: int, rng: np.random.Generator) -> Codes:
        factors = rng.integers(self._sizes, size=(num_groups, group_size, self.num_factors))
        factors[:, :, factor] = factors[:, :1, factor]
        codes = self._codes_of(factors.reshape(-1, self.num_factors), rng)
        return codes.reshape(num_groups, group_size, -1)


class RowFactors:
    """The rows of a set as they are, for sets in which some combinations of factors do not occur.

    A factor is fixed by drawing among the rows that have its value. This equals IndependentFactors if the rows were
    drawn with independent factors, and is an approximation otherwise (see points.dependence).
    """

    def __init__(self, codes: Codes, factors: Factors) -> None:
        self._codes, self._factors = codes, factors
        self.num_factors = factors.shape[1]
        self._by_value = [RowsByKey(factors[:, k].astype(np.int64)) for k in range(self.num_factors)]

    @property
    def fewest_rows(self) -> int:
        """The number of rows of the rarest value of any factor."""
        return min(int(rows.counts[rows.counts > 0].min()) for rows in self._by_value)

    def draw(self, num_points: int, rng: np.random.Generator) -> tuple[Codes, Factors]:
        rows = rng.integers(len(self._codes), size=num_points)
        return self._codes[rows], self._factors[rows]

    def draw_groups(self, factor: int, num_groups: int, group_size: int, rng: np.random.Generator) -> Codes:
        values = self._factors[rng.integers(len(self._codes), size=num_groups), factor].astype(np.int64)
        rows = self._by_value[factor].draw(np.repeat(values, group_size), rng)
        return self._codes[rows].reshape(num_groups, group_size, -1)


class RowsByKey:
    """Rows of an array grouped by a key ≥ 0, so that one row of a key is drawn in constant time."""

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self.rows = np.argsort(keys, kind="stable")
        """The rows sorted by key; rows of the same key keep their order."""
        self.counts = np.bincount(keys)
        self.starts = np.cumsum(self.counts) - self.counts

    def draw(self, keys: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draws one row for each key."""
        drawn: NDArray[np.int64] = self.rows[self.starts[keys] + rng.integers(self.counts[keys])]
        return drawn


def full_grid(codes: Codes, factors: Factors, factor_sizes: Sequence[int]) -> IndependentFactors | None:
    """Returns independent factors over a set in which every combination of values occurs, in any order.

    If several rows have a combination (the models of 3D Chairs, seen from one angle), one of them is drawn at random,
    as disentanglement_lib does with factors that a set does not name.

    Args:
        codes: (N, D).
        factors: (N, F).
        factor_sizes: Number of values of each factor.

    Returns:
        The factors; None if a combination does not occur.
    """
    num_cells = math.prod(factor_sizes)
    if num_cells > len(codes) or (factors.max(0) >= np.asarray(factor_sizes)).any():
        return None
    keys = np.ravel_multi_index(tuple(factors.T.astype(np.int64)), tuple(factor_sizes))
    rows = RowsByKey(keys)
    if len(rows.counts) < num_cells or not rows.counts.all():
        return None

    def codes_of(wanted: Factors, rng: np.random.Generator) -> Codes:
        cells = np.ravel_multi_index(tuple(wanted.T), tuple(factor_sizes))
        found: Codes = codes[rows.draw(cells, rng)]
        return found

    return IndependentFactors(codes_of, factor_sizes)
