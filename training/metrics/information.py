"""Mutual information and correlation between latent dimensions and factors; free of torch."""

import numpy as np
from numpy.typing import NDArray

from training.metrics.factor_samples import Codes, Factors

Matrix = NDArray[np.float64]

NUM_BINS = 20


def bins_of(codes: Codes, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Returns the bins of codes, (N, D) from 0 to num_bins − 1; the bins of a dimension have equal width.

    Args:
        codes: (N, D).
        num_bins: Number of bins between the lowest and the highest code of a dimension.
    """
    return np.stack([np.digitize(column, _lower_edges(column, num_bins)) - 1 for column in codes.T], axis=1)


def _lower_edges(column: Codes, num_bins: int) -> Codes:
    try:
        return np.histogram(column, num_bins)[1][:-1]
    except ValueError:
        # A collapsed dimension differs only in the last bits of float32, a range that only float64 can divide.
        column = column.astype(np.float64)
        return np.linspace(column.min(), column.max(), num_bins + 1)[:-1]


def information_between(a: NDArray[np.int64], b: NDArray[np.int64], counts: NDArray[np.int64] | None) -> float:
    """Returns the mutual information of two columns of small class indices, in nats.

    The arithmetic is that of sklearn.metrics.mutual_info_score, including exact zeros, but without its checks of the
    arguments, which would take most of a bootstrap's time.

    Args:
        a: (N,).
        b: (N,).
        counts: How often each point counts, (N,); None counts each once.
    """
    width = int(b.max()) + 1
    table = np.bincount(a * width + b, counts, minlength=(int(a.max()) + 1) * width).reshape(-1, width)
    rows, columns, total = table.sum(1), table.sum(0), table.sum()
    if np.count_nonzero(rows) < 2 or np.count_nonzero(columns) < 2:
        return 0.0
    i, j = np.nonzero(table)
    share = table[i, j] / total
    terms = share * (np.log(table[i, j]) - np.log(total)) + share * (2 * np.log(total) - np.log(rows[i] * columns[j]))
    return max(0.0, float(terms[np.abs(terms) >= np.finfo(np.float64).eps].sum()))


def information_matrix(bins: NDArray[np.int64], factors: Factors, counts: NDArray[np.int64] | None = None) -> Matrix:
    """Returns the mutual information of each column of bins (N, D) with each factor (N, F), as (D, F) nats."""
    return np.array([[information_between(code, factor, counts) for factor in factors.T] for code in bins.T])


def compact(factors: Factors) -> NDArray[np.int64]:
    """Renumbers factors to 0 … values − 1, which keeps tables of them small."""
    return np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)


def mutual_information(codes: Codes, factors: Factors) -> Matrix:
    """Returns the mutual information of each dimension, in 20 bins of equal width, with each factor, (D, F) nats."""
    check_points(codes, factors)
    return information_matrix(bins_of(codes), compact(factors))


def factor_entropy(factors: Factors) -> Matrix:
    """Returns the entropy of each factor in the sample, (F,) nats."""
    return np.array([entropy_of(column, None) for column in compact(factors).T])


def entropy_of(column: NDArray[np.int64], counts: NDArray[np.int64] | None) -> float:
    """Returns the entropy of a column of class indices in nats; each point counts `counts` times (None: once)."""
    share = np.bincount(column, counts)
    share = share[share > 0] / share.sum()
    return max(0.0, float(-(share * np.log(share)).sum()))


def correlation(codes: Codes, factors: Factors | Matrix) -> Matrix:
    """Returns |Pearson's r| of each dimension with the number of each factor, (D, F); 0 if either is constant."""
    check_points(codes, factors)
    x, y = codes - codes.mean(0, dtype=np.float64), factors - factors.mean(0)
    varies = np.outer(np.ptp(codes, axis=0) > 0, np.ptp(factors, axis=0) > 0)
    scale = np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0))
    matrix: Matrix = np.abs(np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=varies))
    return matrix


def check_points(
    codes: Codes, factors: Factors | Matrix, *, min_dimensions: int = 1, min_factors: int = 1, vary: bool = False
) -> None:
    """Checks that points can be scored.

    Args:
        codes: (N, D) is expected.
        factors: (N, F) is expected.
        min_dimensions: The fewest dimensions.
        min_factors: The fewest factors.
        vary: Whether every factor must have two values or more.

    Raises:
        ValueError: The points cannot be scored.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) == 0:
        raise ValueError(f"expected codes (N, D) and factors (N, F), not {codes.shape} and {factors.shape}")
    if codes.shape[1] < min_dimensions:
        raise ValueError(f"this score compares dimensions and needs at least {min_dimensions}")
    if factors.shape[1] < min_factors:
        raise ValueError(f"this score compares factors and needs at least {min_factors}")
    if not np.isfinite(codes).all():
        raise ValueError("codes: values that are not finite")
    if vary and (factors.max(0) == factors.min(0)).any():
        raise ValueError("factors: one has a single value; every factor needs two or more")
