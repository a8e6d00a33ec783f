import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from training.metrics.dci_es import dci_es, explicitness

CLASSES = np.array([False])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.0, 0.0, 0.0], 1.0),  # The least probe suffices.
        ([0.6, 0.6, 0.6], 1.0),  # No probe improves, as without information.
        ([1.0, 0.5, 0.0], 0.0),  # A straight line from the baseline to 0.
        ([1.0, 1.0, 0.0], -0.5),
        ([1.0, 0.0, 0.5], 0.5),  # The lowest loss so far counts.
        ([0.8, 0.3, 0.3], 0.75),
    ],
)
def test_explicitness_of_a_curve_has_its_closed_form(losses: list[float], expected: float) -> None:
    assert explicitness(np.array([1.0, 2.0, 3.0]), np.array(losses), 1.0) == pytest.approx(expected)


def test_explicitness_depends_on_the_baseline_and_not_on_the_unit_of_capacity() -> None:
    losses = np.array([0.5, 0.25, 0.0])
    assert explicitness(np.array([10.0, 20.0, 30.0]), losses, 0.5) == pytest.approx(0)
    assert explicitness(np.array([0.0, 1.0, 3.0]), losses, 0.5) == pytest.approx(1 - 2 * (0.375 + 0.25) / 1.5)


def test_explicitness_equals_a_second_implementation() -> None:
    """A sum of trapezoids over forests, for an ordered factor and for a class."""
    rng = np.random.default_rng(0)
    codes, test_codes = rng.normal(size=(2, 300, 3))
    depths, trees = (1, 2, 5), 5

    def factors(c: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.sin(3 * c[:, 0]) + c[:, 1], np.digitize(c[:, 2], [-0.5, 0.5])], axis=1).astype(float)

    numbers, test_numbers = factors(codes), factors(test_codes)
    expected = []
    for k, kind, baseline in ((0, RandomForestRegressor, 1.0), (1, RandomForestClassifier, 2 / 3)):
        losses: list[float] = []
        for depth in depths:
            model = kind(n_estimators=trees, max_depth=depth, random_state=0).fit(codes, numbers[:, k])
            losses.append(min([1 - model.score(test_codes, test_numbers[:, k]), *losses]))
        area = sum((a + b - 2 * losses[-1]) / 2 * w for a, b, w in zip(losses, losses[1:], (1, 3), strict=False))
        expected.append(1 - area / (0.5 * 4 * baseline))
    found = dci_es(codes, numbers, test_codes, test_numbers, np.array([True, False]), depths=depths, num_trees=trees)
    np.testing.assert_allclose(found.per_factor, expected)
    assert found.explicitness == pytest.approx(np.mean(expected))
    assert found.size == pytest.approx(2 / 3)


def test_a_code_that_is_the_factor_is_more_explicit_than_one_that_hides_it() -> None:
    """Squares of a chequerboard have a colour that a tree of one split cannot tell."""
    places = np.random.default_rng(0).uniform(size=(1_200, 2))
    colour = np.floor(places * 2).sum(1, keepdims=True) % 2
    scores = [
        dci_es(c[:800], colour[:800], c[800:], colour[800:], CLASSES, depths=(1, 2, 6), num_trees=5).explicitness
        for c in (colour, places)
    ]
    assert scores[0] == pytest.approx(1)
    assert scores[1] < 0.8


def test_progress_counts_forests() -> None:
    seen: list[tuple[int, int]] = []
    labels = np.tile([[0.0], [1.0]], (20, 1))
    dci_es(
        labels, labels, labels, labels, CLASSES, depths=(1, 2), num_trees=2, on_forest=lambda *done: seen.append(done)
    )
    assert seen == [(1, 2), (2, 2)]
