"""DCI-ES: the explicitness and the size of a code (Eastwood et al. 2023); free of torch.

The probes are random forests, and the numbers are those of the authors' published code: forests of 100 trees, whose
capacity is their greatest depth, and a loss of 1 − R² for ordered factors and of 1 − accuracy for classes. The losses
are those of the test points. Explicitness from other probes (MLPs, random Fourier features) is not comparable.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from training.metrics.factor_samples import Codes
from training.metrics.information import Matrix

DEPTHS = (1, 2, 3, 4, 8, 10, 12, 14, 16, 18, 20, 32)
NUM_TREES = 100


@dataclass(frozen=True)
class DciEs:
    """Explicitness and size, and the curves of the first.

    Attributes:
        explicitness: Mean of the factors' explicitness.
        size: K/L, the number of factors over the number of dimensions; 1 if there is a dimension for each.
        per_factor: Explicitness of each factor, (F,).
        losses: Loss of each factor at each depth, (F, depths).
    """

    explicitness: float
    size: float
    per_factor: Matrix
    losses: Matrix


def explicitness(capacities: Matrix, losses: Matrix, baseline: float) -> float:
    """Returns E = 1 − A/Z of a loss-capacity curve.

    A is the area between the curve of the lowest loss up to each capacity and its lowest point, and Z is half of the
    range of capacities times the baseline. A code whose loss is lowest at the first capacity has 1; so has a code
    without information, and explicitness is to be read beside informativeness. A loss that falls in a straight line
    from the baseline to 0 has 0, and one that falls at the last capacity alone comes near −1.

    Args:
        capacities: (n,), rising.
        losses: (n,).
        baseline: Loss of the best prediction without codes.
    """
    lowest = np.minimum.accumulate(losses)
    area = np.trapezoid(lowest - lowest[-1], capacities)
    return float(1 - 2 * area / ((capacities[-1] - capacities[0]) * baseline))


def dci_es(
    codes: Codes,
    numbers: Matrix,
    test_codes: Codes,
    test_numbers: Matrix,
    ordered: NDArray[np.bool_],
    *,
    depths: tuple[int, ...] = DEPTHS,
    num_trees: int = NUM_TREES,
    seed: int = 0,
    num_threads: int = 1,
    on_forest: Callable[[int, int], None] | None = None,
) -> DciEs:
    """Computes explicitness and size.

    Each ordered factor takes about 50 seconds of a core at 10 000 points and 10 dimensions.

    Args:
        codes: (N, D) to train on.
        numbers: Factors, (N, F) to train on: values, or the numbers of classes.
        test_codes: Codes of other points.
        test_numbers: Factors of other points.
        ordered: Whether each factor is a number with an order, (F,); the others are classes.
        depths: Capacities, rising.
        num_trees: Trees of a forest.
        seed: Seed of the forests.
        num_threads: Trees grown at the same time; the result does not depend on it.
        on_forest: Called with the number of forests done and the total.
    """
    num_factors = numbers.shape[1]
    losses = np.empty((num_factors, len(depths)))
    baselines = np.ones(num_factors)
    for factor in range(num_factors):
        train, test = numbers[:, factor], test_numbers[:, factor]
        if not ordered[factor]:
            baselines[factor] = 1 - 1 / len(np.unique(train))
        for place, depth in enumerate(depths):
            kind = RandomForestRegressor if ordered[factor] else RandomForestClassifier
            forest = kind(n_estimators=num_trees, max_depth=depth, random_state=seed, n_jobs=num_threads)
            losses[factor, place] = 1 - forest.fit(codes, train).score(test_codes, test)
            if on_forest is not None:
                on_forest(factor * len(depths) + place + 1, num_factors * len(depths))
    capacities = np.array(depths, dtype=np.float64)
    per_factor = np.array([explicitness(capacities, curve, b) for curve, b in zip(losses, baselines, strict=True)])
    return DciEs(float(per_factor.mean()), num_factors / codes.shape[1], per_factor, losses)
