import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.svm import LinearSVC

from training.metrics import infogan_cr
from training.metrics.factor_samples import Codes, Factors, IndependentFactors
from training.metrics.infogan_cr import Groups, beta_vae, dci_forest, dci_lasso, dci_of, draw_groups, factor_vae, sap

SIZES = (3, 5, 7)


def mixed(factors: Factors) -> Codes:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(factors.shape[1], 4))
    codes: Codes = factors @ weights + rng.normal(size=(len(factors), 4))
    return codes


@pytest.fixture(scope="module")
def points() -> tuple[Codes, NDArray[np.float64]]:
    factors = np.random.default_rng(1).integers(SIZES, size=(600, 3))
    return mixed(factors), factors.astype(np.float64)


@pytest.fixture(scope="module")
def groups() -> Groups:
    samples = IndependentFactors(lambda factors, _: mixed(factors), SIZES)
    return draw_groups(samples, np.random.default_rng(2), num_points=1_000)


def test_groups_fix_each_factor_in_turn() -> None:
    samples = IndependentFactors(lambda factors, _: factors.astype(float), SIZES)
    groups = draw_groups(samples, np.random.default_rng(0), num_points=1_000)
    assert groups.codes.shape == (500, 100, 3)
    assert np.bincount(groups.fixed).tolist() == [167, 167, 166]
    for codes, factor in zip(groups.codes, groups.fixed, strict=True):
        assert (np.ptp(codes, axis=0) == 0).tolist() == [k == factor for k in range(3)]
    np.testing.assert_allclose(groups.std, np.std([0, 1, 2]), atol=2)
    assert (factor_vae(groups), beta_vae(groups)) == (1, 1)


def test_codes_without_information_have_the_accuracy_of_chance_and_no_more_than_training_adds() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(500, 100, 3))
    noise = Groups(codes, np.arange(500) % 5, np.ones(3))
    assert 0.2 <= factor_vae(noise) < 0.3
    assert 0.2 <= beta_vae(noise) < 0.35
    assert factor_vae(Groups(codes * 0, noise.fixed, np.zeros(3))) == 0


def test_accuracies_of_groups_equal_a_second_implementation(groups: Groups) -> None:
    """Loops over groups: the vote of least standard deviation, and the mean difference of neighbours."""
    votes = np.zeros((4, 3))
    features = []
    for codes, factor in zip(groups.codes, groups.fixed, strict=True):
        votes[np.argmin(np.std(codes / groups.std, axis=0)), factor] += 1
        features.append(np.mean([abs(codes[i] - codes[i + 1]) for i in range(0, 100, 2)], axis=0))
    assert factor_vae(groups) == pytest.approx(sum(row.max() for row in votes) / 500)
    model = LogisticRegression().fit(features, groups.fixed)
    assert beta_vae(groups) == pytest.approx(np.mean(model.predict(features) == groups.fixed))


def test_sap_equals_a_second_implementation(points: tuple[Codes, NDArray[np.float64]]) -> None:
    codes, numbers = points
    gaps = []
    for k in range(3):
        scores = []
        for code in codes.T:
            if k:
                covariance = np.cov(code, numbers[:, k], ddof=1)
                scores.append(covariance[0, 1] ** 2 / covariance[0, 0] / covariance[1, 1])
            else:
                model = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(code[:, None], numbers[:, 0])
                scores.append(np.mean(model.predict(code[:, None]) == numbers[:, 0]))
        gaps.append(sorted(scores)[-1] - sorted(scores)[-2])
    assert sap(codes, numbers, np.array([False, True, True])) == pytest.approx(np.mean(gaps))


def test_dci_of_lasso_equals_a_second_implementation(points: tuple[Codes, NDArray[np.float64]]) -> None:
    codes, numbers = ((values - values.mean(0)) / values.std(0) for values in points)
    weights = np.abs([Lasso(alpha=0.02).fit(codes, numbers[:, k]).coef_ for k in range(3)]).T

    def spread(shares: NDArray[np.float64]) -> float:
        return float(1 + sum(p * np.log(p + 1e-12) for p in shares) / np.log(len(shares)))

    rows = [spread(row / row.sum()) * row.sum() / weights.sum() for row in weights]
    columns = [spread(column / column.sum()) for column in weights.T]
    assert dci_lasso(*points) == pytest.approx((sum(rows), np.mean(columns)))


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        (np.eye(3), (1, 1)),
        (np.zeros((3, 3)), (0, 0)),
        (np.vstack([np.eye(2), np.eye(2)]), (1, 1 - np.log(2) / np.log(4))),
        (np.array([[1.0, 1.0], [0.0, 0.0]]), (0, 1)),
        (np.array([[1.0, 0.0], [1.0, 0.0]]), (1, 0)),  # A factor that no dimension tells counts 0.
    ],
)
def test_dci_of_importances_has_its_closed_form(importance: NDArray[np.float64], expected: tuple[float, float]) -> None:
    assert dci_of(importance) == pytest.approx(expected, abs=1e-9)


def test_factors_in_dimensions_of_their_own_have_every_score() -> None:
    numbers = np.random.default_rng(0).integers(SIZES, size=(1_000, 3)).astype(float)
    codes = np.hstack([numbers * [2, -3, 1], np.zeros((1_000, 1))])
    assert sap(codes, numbers, np.ones(3, dtype=bool)) > 0.98
    assert min(*dci_lasso(codes, numbers), *dci_forest(codes, numbers, ["shape", "scale", "x"])) > 0.98


def test_forests_have_the_published_depths_for_dsprites(
    points: tuple[Codes, NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    depths = []

    def noted(**options: int) -> object:
        depths.append((options["max_depth"], options["n_estimators"]))
        return RandomForestRegressor(**options)

    monkeypatch.setattr(infogan_cr, "RandomForestRegressor", noted)
    dci_forest(*points, ["shape", "orientation", "hue"])
    assert depths == [(4, 10), (2, 10), (5, 10)]
