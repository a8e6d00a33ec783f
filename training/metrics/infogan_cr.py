"""Scores as the published code of InfoGAN-CR computes them (Lin et al. 2020), for tables that cite it; free of torch.

They differ from those of the same names in `scores`: classifiers are judged on the points that they were trained on, no
dimension is pruned, and DCI and SAP are of regressors. Differences to that code: DCI and SAP use the points of the
other scores (10 000, where it draws a tenth of the set), and a dimension that never varies, or a regressor that uses
none, counts 0 where that code has NaN. Its forests had the ten trees that were scikit-learn's default at its time. Its
DCI has several regressors; which one its paper's table shows is not certain, so that the two cheap ones are here: Lasso
with α 0.02 (the class's default), and forests with its depths for the factors of dSprites.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.svm import LinearSVC

from training.metrics.factor_samples import Codes, FactorSamples
from training.metrics.information import Matrix, correlation
from training.metrics.quiet import quiet_convergence

NUM_GROUPS, GROUP_SIZE = 500, 100
LASSO_ALPHA = 0.02
FOREST_DEPTHS = {"shape": 4, "scale": 5, "orientation": 2, "x": 5, "y": 5}
OTHER_DEPTH = 5
"""Depth of the forest of a factor that dSprites has not."""
NUM_TREES = 10
_TINY = 1e-12


@dataclass(frozen=True)
class Groups:
    """Groups of codes that share the value of one factor."""

    codes: Codes
    """(500, 100, D)."""
    fixed: NDArray[np.int64]
    """The factor that each group shares, (500,)."""
    std: Matrix
    """Standard deviation of each dimension over the set, (D,)."""


def draw_groups(samples: FactorSamples, rng: np.random.Generator, *, num_points: int = 10_000) -> Groups:
    """Draws 500 groups of 100 codes, which share each factor in turn.

    Args:
        samples: Source of codes.
        rng: Source of randomness.
        num_points: Number of codes that the standard deviations are computed from.
    """
    counts = [len(range(factor, NUM_GROUPS, samples.num_factors)) for factor in range(samples.num_factors)]
    parts = [samples.draw_groups(factor, count, GROUP_SIZE, rng) for factor, count in enumerate(counts)]
    return Groups(
        np.concatenate(parts),
        np.repeat(np.arange(samples.num_factors), counts),
        np.std(samples.draw(num_points, rng)[0].astype(np.float64), axis=0),
    )


def factor_vae(groups: Groups) -> float:
    """Returns the accuracy of the FactorVAE score's majority vote on the groups that it was counted from."""
    varies = groups.std > 0
    if not varies.any():
        return 0.0
    spread = np.std(groups.codes[:, :, varies] / groups.std[varies], axis=1)
    votes = np.zeros((spread.shape[1], groups.fixed.max() + 1))
    np.add.at(votes, (spread.argmin(1), groups.fixed), 1)
    return float(votes.max(1).sum() / votes.sum())


def beta_vae(groups: Groups) -> float:
    """Returns the accuracy of the BetaVAE score's logistic regression on the groups that it was trained on."""
    features = np.abs(groups.codes[:, 0::2] - groups.codes[:, 1::2]).mean(1)
    with quiet_convergence():
        return float(LogisticRegression().fit(features, groups.fixed).score(features, groups.fixed))


def sap(codes: Codes, numbers: Matrix, ordered: NDArray[np.bool_]) -> float:
    """Returns the SAP score of R² for ordered factors, and of a linear machine's training accuracy for classes.

    Args:
        codes: (N, D), D ≥ 2.
        numbers: Factors, (N, F): values, or the numbers of classes.
        ordered: Whether each factor is a number with an order, (F,).
    """
    scores = np.square(correlation(codes, numbers))
    for factor in np.flatnonzero(~ordered):
        for dimension, code in enumerate(codes.T):
            classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            with quiet_convergence():
                classifier.fit(code[:, None], numbers[:, factor])
            scores[dimension, factor] = classifier.score(code[:, None], numbers[:, factor])
    top = np.sort(scores, axis=0)
    return float(np.mean(top[-1] - top[-2]))


def dci_lasso(codes: Codes, numbers: Matrix) -> tuple[float, float]:
    """Returns disentanglement and completeness from the weights of Lasso regressors of standardised factors."""
    x, y = _standardised(codes), _standardised(numbers)
    with quiet_convergence():
        return dci_of(np.stack([np.abs(Lasso(alpha=LASSO_ALPHA).fit(x, column).coef_) for column in y.T], axis=1))


def dci_forest(codes: Codes, numbers: Matrix, names: list[str], *, seed: int = 0) -> tuple[float, float]:
    """Returns disentanglement and completeness from the importances of random forests of standardised factors."""
    x, y = _standardised(codes), _standardised(numbers)
    importances = []
    for name, column in zip(names, y.T, strict=True):
        depth = FOREST_DEPTHS.get(name, OTHER_DEPTH)
        forest = RandomForestRegressor(n_estimators=NUM_TREES, max_depth=depth, random_state=seed)
        importances.append(forest.fit(x, column).feature_importances_)
    return dci_of(np.stack(importances, axis=1))


def dci_of(importance: Matrix) -> tuple[float, float]:
    """Returns disentanglement, weighted by the dimensions' importance, and completeness, the plain mean over factors.

    Args:
        importance: (D, F), ≥ 0.
    """
    total = importance.sum()
    weights = importance.sum(1) / total if total > 0 else np.zeros(len(importance))
    return float(_concentrations(importance.T) @ weights), float(_concentrations(importance).mean())


def _concentrations(importance: Matrix) -> Matrix:
    """Returns 1 − H/log n of each column of n importances; 0 for a column without any."""
    sums = importance.sum(0)
    shares = np.divide(importance, sums, out=np.zeros_like(importance), where=sums > 0)
    entropies = -(shares * np.log(shares + _TINY)).sum(0) / np.log(len(importance) + _TINY)
    found: Matrix = np.where(sums > 0, 1 - entropies, 0.0)
    return found


def _standardised(columns: NDArray[Any]) -> Matrix:
    columns = columns.astype(np.float64)
    std = columns.std(0)
    scaled: Matrix = np.divide(columns - columns.mean(0), std, out=np.zeros_like(columns), where=std > 0)
    return scaled
