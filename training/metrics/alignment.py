"""Alignment of the dimensions of two models by the correlation of their codes; free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from training.metrics.information import Matrix


@dataclass(frozen=True)
class Pair:
    """Two aligned dimensions, one of each model, with Pearson's r of their codes."""

    first: int
    second: int
    correlation: float


def align(first: Matrix, second: Matrix, active: Sequence[Sequence[int]]) -> list[Pair]:
    """Pairs active dimensions so that the sum of |r| is largest (Hungarian algorithm).

    Args:
        first: Codes of one model, (N, D₁).
        second: Codes of the other for the same pictures, (N, D₂).
        active: The active dimensions of each.

    Returns:
        The pairs, the largest |r| first; as many as the model with fewer active dimensions has.
    """
    x, y = (_standardised(codes)[:, list(kept)] for codes, kept in zip((first, second), active, strict=True))
    correlation = x.T @ y / len(first)
    rows, columns = linear_sum_assignment(-np.abs(correlation))
    pairs = [Pair(active[0][i], active[1][j], float(correlation[i, j])) for i, j in zip(rows, columns, strict=True)]
    return sorted(pairs, key=lambda pair: -abs(pair.correlation))


def _standardised(codes: Matrix) -> Matrix:
    """Returns codes with mean 0 and standard deviation 1; a dimension that does not vary is 0."""
    centred, scale = codes - codes.mean(0), codes.std(0)
    scaled: Matrix = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
    return scaled
