"""InfoMEC: modularity, compactness and explicitness from normalised information (Hsu et al. 2023); free of torch.

This is the first published version, which takes a dimension for active where its range exceeds a twentieth of the
largest one; a later copy of it uses a tenth. Mutual information of continuous codes is estimated from 10 nearest
neighbours (Ross 2014).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.metrics.factor_samples import Codes, Factors
from training.metrics.information import Matrix, check_points, compact, entropy_of, information_matrix
from training.metrics.quiet import quiet_convergence

NUM_NEIGHBOURS = 10
ACTIVE_SHARE = 1 / 20
"""Share of the largest range of a dimension above which another dimension is active."""


@dataclass(frozen=True)
class InfoMEC:
    """The three scores of Hsu et al. 2023, and the information that the first two are computed from.

    Attributes:
        modularity: InfoM, how close each active dimension is to informing about one factor only; NaN for one factor.
        compactness: InfoC, how close each factor is to being in one dimension only; NaN for one active dimension.
        explicitness: InfoE, the share of a factor's entropy that a linear classifier of all dimensions removes.
        information: I(s; z)/H(s) of each dimension and factor, (D, F).
        active: Which dimensions are active, (D,).
    """

    modularity: float
    compactness: float
    explicitness: float
    information: Matrix
    active: NDArray[np.bool_]


def infomec(codes: Codes, factors: Factors, *, discrete: bool = False, seed: int | None = 0) -> InfoMEC:
    """Computes InfoMEC.

    Args:
        codes: (N, D).
        factors: Class indices, (N, F).
        discrete: Whether the codes are classes, whose information is counted instead of estimated.
        seed: Seed of the tiny noise by which the estimator separates equal codes; None takes NumPy's global state.

    Raises:
        ValueError: A factor has a single value.
    """
    check_points(codes, factors, vary=True)
    factors = compact(factors)
    information = _information(codes, factors, discrete, seed)
    ranges = np.ptp(codes, axis=0)
    active = ranges > (0 if discrete else ranges.max() * ACTIVE_SHARE)
    pruned = information[active]
    return InfoMEC(
        modularity=_concentration(pruned),
        compactness=_concentration(pruned.T),
        explicitness=_explicitness(codes, factors, discrete),
        information=information,
        active=active,
    )


def _information(codes: Codes, factors: Factors, discrete: bool, seed: int | None) -> Matrix:
    """Returns I(s; z)/H(s) of each dimension and factor, (D, F)."""
    entropies = np.array([entropy_of(column, None) for column in factors.T])
    if discrete:
        classes = np.stack([np.unique(column, return_inverse=True)[1] for column in codes.T], axis=1)
        shares: Matrix = information_matrix(classes, factors) / entropies
        return shares
    scaled = StandardScaler().fit_transform(codes)
    information = np.stack(
        [
            mutual_info_classif(scaled, factor, discrete_features=False, n_neighbors=NUM_NEIGHBOURS, random_state=seed)
            for factor in factors.T
        ],
        axis=1,
    )
    normalised: Matrix = information / entropies
    return normalised


def _concentration(information: Matrix) -> float:
    """Returns the mean over rows of (max/sum − 1/n)/(1 − 1/n) for rows of n values; a row of zeros counts as 1/n."""
    if information.shape[1] < 2 or not len(information):
        return float("nan")
    even = 1 / information.shape[1]
    sums = information.sum(1)
    shares = np.divide(information.max(1), sums, out=np.full_like(sums, even), where=sums > 0)
    return float((shares.mean() - even) / (1 - even))


def _explicitness(codes: Codes, factors: Factors, discrete: bool) -> float:
    """Returns the mean over factors of (H₀ − H)/H₀, with the cross entropies of a classifier without and with codes."""
    inputs: Any = OneHotEncoder().fit_transform(codes) if discrete else StandardScaler().fit_transform(codes)
    nothing = np.zeros((len(codes), 1))
    gains = []
    for factor in factors.T:
        without, with_codes = _cross_entropy(nothing, factor), _cross_entropy(inputs, factor)
        gains.append((without - with_codes) / without)
    return float(np.mean(gains))


def _cross_entropy(inputs: Any, factor: NDArray[np.int64]) -> float:
    """Returns the mean cross entropy, nats, of a logistic regression without penalty on the points it was fitted to."""
    model = LogisticRegression(C=np.inf, class_weight="balanced")
    with quiet_convergence():
        model.fit(inputs, factor)
    return float(log_loss(factor, model.predict_proba(inputs)))
