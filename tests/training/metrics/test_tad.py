import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, roc_auc_score

from training.metrics.factor_samples import Codes, Factors
from training.metrics.tad import tad


def second_implementation(codes: Codes, attributes: Factors) -> tuple[float, int]:
    """The definition of Yeats et al. 2022, with scikit-learn's area and information."""
    total, captured = 0.0, 0
    for k, attribute in enumerate(attributes.T):
        areas = [roc_auc_score(attribute, code) if np.ptp(code) > 0.2 else 0.5 for code in codes.T]
        best = sorted(max(area, 1 - area) for area in areas)
        entropy = mutual_info_score(attribute, attribute)
        others = [mutual_info_score(attribute, other) / entropy for j, other in enumerate(attributes.T) if j != k]
        if best[-1] >= 0.75 and max(others, default=0.0) <= 0.2:
            total, captured = total + best[-1] - best[-2], captured + 1
    return total, captured


def draw_attributes(num_attributes: int, num_points: int = 800) -> Factors:
    return np.random.default_rng(0).integers(2, size=(num_points, num_attributes))


def test_each_attribute_in_a_dimension_of_its_own_has_half_a_point() -> None:
    """A perfect detector has area 1, and a detector of something else .5."""
    attributes = np.stack(np.unravel_index(np.arange(8), (2, 2, 2)), axis=1)
    found = tad(attributes * 3.0, attributes)
    assert found.total == pytest.approx(1.5)
    assert found.captured.tolist() == [True] * 3


def test_an_attribute_in_two_dimensions_has_no_gap() -> None:
    attributes = draw_attributes(1)
    found = tad(np.hstack([attributes, -attributes]), attributes)
    assert (found.total, found.captured.tolist()) == (0, [True])


def test_attributes_that_tell_each_other_are_left_out() -> None:
    attributes = draw_attributes(1)
    found = tad(np.hstack([attributes, attributes * 0]), np.hstack([attributes, 1 - attributes]))
    assert (found.total, found.captured.tolist()) == (0, [False, False])


def test_a_dimension_that_hardly_varies_detects_nothing() -> None:
    attributes = draw_attributes(1)
    found = tad(np.hstack([attributes * 0.1, attributes * 0.3]), attributes)
    np.testing.assert_allclose(found.auroc, [[0.5], [1.0]])
    assert found.total == pytest.approx(0.5)


def test_tad_equals_a_second_implementation() -> None:
    attributes = draw_attributes(4)
    attributes[:, 1] |= attributes[:, 0]
    rng = np.random.default_rng(1)
    codes = attributes @ rng.normal(size=(4, 5)) * 2 + rng.normal(size=(800, 5))
    codes[:, 4] = np.round(codes[:, 4])  # Ties count half.
    found = tad(codes, attributes)
    total, captured = second_implementation(codes, attributes)
    assert 0 < captured < 4
    assert found.total == pytest.approx(total)
    assert found.captured.sum() == captured


def test_tad_refuses_other_factors() -> None:
    with pytest.raises(ValueError, match="two values"):
        tad(np.zeros((3, 2)), np.arange(3)[:, None])
    with pytest.raises(ValueError, match="at least 2"):
        tad(np.zeros((4, 1)), np.arange(4)[:, None] % 2)
