"""TAD: total AUROC difference of binary attributes (Yeats et al. 2022, NashAE); free of torch.

This is the score of the authors' published evaluation of CelebA with two differences: the area under the ROC curve is
exact, where theirs has 101 thresholds, and the points are those of the other scores, where theirs are 1 000 images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from training.metrics.factor_samples import Codes, Factors
from training.metrics.information import Matrix, check_points, compact, entropy_of, information_matrix

MIN_AUROC = 0.75
"""Area under the ROC curve from which an attribute is captured."""
MAX_SHARED = 0.2
"""Largest share of an attribute's entropy that another attribute may remove."""
MIN_RANGE = 0.2
"""A dimension with a smaller range detects nothing."""


@dataclass(frozen=True)
class Tad:
    """The score, and what it is computed from.

    Attributes:
        total: Sum of the gaps of the captured attributes, from 0 to half their number.
        captured: Whether each attribute is captured and nearly independent of the others, (F,).
        gaps: Difference of the two largest areas of each attribute, (F,).
        auroc: Area under the ROC curve of each dimension as a detector of each attribute, (D, F), from .5 to 1.
    """

    total: float
    captured: NDArray[np.bool_]
    gaps: Matrix
    auroc: Matrix


def tad(codes: Codes, attributes: Factors) -> Tad:
    """Computes the total AUROC difference.

    Each dimension is a detector of each attribute. An attribute is captured if the best detector reaches .75, unless
    another attribute removes more than a fifth of its entropy. The score adds up, over captured attributes, by how much
    the best detector is better than the second.

    Args:
        codes: (N, D).
        attributes: (N, F), of two values each.

    Raises:
        ValueError: There are fewer than two dimensions, or an attribute has not two values.
    """
    check_points(codes, attributes, min_dimensions=2, vary=True)
    attributes = compact(attributes)
    if attributes.max() > 1:
        raise ValueError("TAD is a score of attributes of two values")
    auroc = _auroc(codes, attributes)
    top = np.sort(auroc, axis=0)
    gaps = top[-1] - top[-2]
    captured = (top[-1] >= MIN_AUROC) & (_shared(attributes) <= MAX_SHARED)
    return Tad(float(gaps[captured].sum()), captured, gaps, auroc)


def _auroc(codes: Codes, attributes: NDArray[np.int64]) -> Matrix:
    """Returns the areas under the ROC curves, (D, F), by the ranks of the codes (Mann and Whitney)."""
    positive = attributes.sum(0)
    negative = len(attributes) - positive
    ranks = rankdata(codes, axis=0).T @ attributes
    area = (ranks - positive * (positive + 1) / 2) / (positive * negative)
    area[np.ptp(codes, axis=0) <= MIN_RANGE] = 0.5
    best: Matrix = np.maximum(area, 1 - area)
    return best


def _shared(attributes: NDArray[np.int64]) -> Matrix:
    """Returns the largest share of each attribute's entropy that another attribute removes, (F,)."""
    information = information_matrix(attributes, attributes)
    np.fill_diagonal(information, 0)
    largest: Matrix = information.max(0) / np.array([entropy_of(column, None) for column in attributes.T])
    return largest
