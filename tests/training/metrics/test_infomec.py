"""InfoMEC and MIG-sup: closed cases, and a second implementation from the papers' formulas."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression

import training.metrics
from training.metrics import scores
from training.metrics.infomec_scores import infomec

GRID = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), -1).reshape(-1, 2).repeat(40, axis=0)
"""Two factors of three values each, every pair forty times."""


def _both_in_one() -> NDArray[np.float64]:
    return (3 * GRID[:, :1] + GRID[:, 1:]).astype(np.float64)


def test_one_dimension_a_factor_is_perfect() -> None:
    found = training.metrics.infomec(GRID.astype(np.float64), GRID, discrete=True)
    assert (found.modularity, found.compactness) == pytest.approx((1, 1))
    assert found.explicitness == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found.information, np.eye(2), atol=1e-12)


def test_a_dimension_with_both_factors_has_no_modularity() -> None:
    codes = np.concatenate([_both_in_one(), _both_in_one()], axis=1)
    found = infomec(codes, GRID, discrete=True)
    assert (found.modularity, found.compactness) == pytest.approx((0, 0), abs=1e-12)
    assert found.explicitness == pytest.approx(1, abs=1e-3)


def test_a_factor_in_two_dimensions_is_not_compact() -> None:
    codes = GRID[:, [0, 0, 1]].astype(np.float64)
    found = infomec(codes, GRID, discrete=True)
    # The first factor is shared by two of three dimensions, (1/2 − 1/3)/(2/3); the second is in one.
    assert found.compactness == pytest.approx((0.25 + 1) / 2)
    assert found.modularity == pytest.approx(1)


def test_a_dimension_of_small_range_is_left_out() -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([GRID + rng.normal(0, 0.01, GRID.shape), rng.normal(0, 1e-3, (len(GRID), 1))], axis=1)
    found = infomec(codes, GRID)
    assert found.active.tolist() == [True, True, False]
    assert found.modularity > 0.95
    assert found.compactness > 0.95


def test_useless_codes_explain_nothing() -> None:
    codes = np.random.default_rng(1).normal(size=(len(GRID), 3))
    assert infomec(codes, GRID).explicitness < 0.05


def test_one_factor_and_one_dimension_are_undefined() -> None:
    assert math.isnan(infomec(GRID.astype(np.float64), GRID[:, :1]).modularity)
    assert math.isnan(infomec(_both_in_one(), GRID).compactness)
    with pytest.raises(ValueError, match="single value"):
        infomec(_both_in_one(), np.zeros((len(GRID), 1), np.int64))


def test_mixed_codes_give_what_the_formulas_give() -> None:
    rng = np.random.default_rng(2)
    codes = GRID @ np.array([[1.0, 0.4, 0.0], [0.2, -1.0, 0.5]]) + rng.normal(0, 0.2, (len(GRID), 3))
    found = infomec(codes, GRID)
    standard = (codes - codes.mean(0)) / codes.std(0)
    nmi = np.empty((2, 3))
    for i in range(2):
        estimate = mutual_info_classif(standard, GRID[:, i], n_neighbors=10, random_state=0)
        nmi[i] = estimate / math.log(3)
    modularity = np.mean([(max(c) / sum(c) - 1 / 2) / (1 / 2) for c in nmi.T])
    compactness = np.mean([(max(r) / sum(r) - 1 / 3) / (2 / 3) for r in nmi])
    assert (found.modularity, found.compactness) == pytest.approx((modularity, compactness))
    gains = []
    for i in range(2):
        chances = LogisticRegression(C=1e12, max_iter=1000).fit(standard, GRID[:, i]).predict_proba(standard)
        entropy = -np.log(chances[np.arange(len(GRID)), GRID[:, i]]).mean()
        gains.append((math.log(3) - entropy) / math.log(3))
    assert found.explicitness == pytest.approx(np.mean(gains), abs=2e-3)


def test_mig_sup_of_closed_cases() -> None:
    assert scores.mig_sup(GRID.astype(np.float64), GRID) == pytest.approx(1)
    assert scores.mig_sup(_both_in_one(), GRID) == pytest.approx(0, abs=1e-12)
    # MIG does not see that one dimension holds both factors beside an idle one; MIG-sup does.
    codes = np.concatenate([_both_in_one(), np.zeros((len(GRID), 1))], axis=1)
    assert scores.mig(codes, GRID) == pytest.approx(1)
    assert scores.mig_sup(codes, GRID) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        scores.mig_sup(GRID.astype(np.float64), GRID[:, :1])
