"""Uncertainty of scores, by resampling their points; free of torch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def bootstrap_interval(
    score: Callable[[NDArray[np.int64]], float],
    num_points: int,
    rng: np.random.Generator,
    *,
    num_resamples: int = 200,
    level: float = 0.95,
    on_resample: Callable[[int, int], None] | None = None,
) -> tuple[float, float]:
    """Computes the interval in which a score lies over resamples of its points, centred on the score itself.

    Resampling adds the bias of a mutual information a second time, so that plain percentiles would not contain the
    score; their mean is therefore moved onto it. The interval shows the spread from the choice of points. It shows
    neither the bias of the estimator, which scores of other models at the same number of points share, nor the spread
    over training seeds.

    Args:
        score: The score as a function of how often each point counts, (num_points,).
        num_points: Number of points.
        rng: Source of randomness.
        num_resamples: Number of resamples.
        level: Share of resamples inside the interval.
        on_resample: Called before each resample with the number done and the total.

    Returns:
        The lower and the upper end, in [0, 1].
    """
    counts = rng.multinomial(num_points, np.full(num_points, 1 / num_points), size=num_resamples)
    scores = np.empty(num_resamples)
    for k, row in enumerate(counts):
        if on_resample is not None:
            on_resample(k, num_resamples)
        scores[k] = score(row)
    ends = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2]) - scores.mean()
    low, high = np.clip(score(np.ones(num_points, dtype=np.int64)) + ends, 0.0, 1.0)
    return float(low), float(high)


def accuracy_of_counts(hits: NDArray[np.bool_]) -> Callable[[NDArray[np.int64]], float]:
    """Returns the share of hits, (N,) or (N, F), as a function of how often each point counts, for the bootstrap."""
    per_point = hits.reshape(len(hits), -1).mean(1)
    return lambda counts: float(counts @ per_point / counts.sum())
