"""SAP and DCI of continuous factors, by regressors; free of torch.

For DCI, disentanglement_lib has classifiers only. Here the regressors of the same library take their place, with the
same defaults, and R² that of the accuracy. For SAP it has what is here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor

from training.metrics.factor_samples import Codes
from training.metrics.information import Matrix, correlation

_LEAST_VARIANCE = 1e-12


def sap_columns(codes: Codes, numbers: Matrix) -> Matrix:
    """Returns R² of a line from each dimension to each factor, (D, F), on the points themselves.

    Args:
        codes: (N, D); a dimension whose variance is at most 1e-12 predicts nothing.
        numbers: (N, F).
    """
    r2 = np.square(correlation(codes, numbers))
    r2[np.var(codes, axis=0, ddof=1, dtype=np.float64) <= _LEAST_VARIANCE] = 0
    return r2


def dci_columns(
    codes: Codes,
    numbers: Matrix,
    test_codes: Codes,
    test_numbers: Matrix,
    *,
    seed: int = 0,
    on_factor: Callable[[int, int], None] | None = None,
) -> tuple[Matrix, NDArray[np.float64]]:
    """Fits a regressor to each factor.

    Args:
        codes: (N, D) to train on.
        numbers: (N, F) to train on.
        test_codes: Codes of other points.
        test_numbers: Factors of other points.
        seed: Decides ties between equally good splits.
        on_factor: Called with the number of factors done and the total.

    Returns:
        The importance of each dimension for each factor, (D, F); and R² on the test points, (F,), at least 0.
    """
    importances, shares = [], []
    for factor, (train, test) in enumerate(zip(numbers.T, test_numbers.T, strict=True), 1):
        model = GradientBoostingRegressor(random_state=seed).fit(codes, train)
        importances.append(model.feature_importances_)
        shares.append(max(0.0, model.score(test_codes, test)))
        if on_factor is not None:
            on_factor(factor, numbers.shape[1])
    return np.stack(importances, axis=1), np.array(shares)
