import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score
from sklearn.svm import LinearSVC

from training.metrics import scores as metrics
from training.metrics.agreement import model_centrality, relative_strength, udr
from training.metrics.bootstrap import accuracy_of_counts, bootstrap_interval
from training.metrics.factor_samples import Codes, Factors, IndependentFactors, RowFactors, full_grid
from training.metrics.information import Matrix, correlation, factor_entropy, mutual_information

TEN_FACTORS = [10] * 10


def draw_factors(sizes: list[int], num_points: int, seed: int = 0) -> Factors:
    return np.random.default_rng(seed).integers(sizes, size=(num_points, len(sizes)))


def identity(factors: Factors) -> Codes:
    return factors.astype(np.float64)


def mixed(factors: Factors, num_dimensions: int, seed: int = 0, dtype: type = np.float32) -> Codes:
    """Returns noisy codes that carry information about every factor."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(factors.shape[1], num_dimensions)) / factors.max(0)[:, None]
    codes: Codes = (factors @ weights + rng.normal(size=(len(factors), num_dimensions)) * 0.3).astype(dtype)
    return codes


# Information


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mutual_information_follows_the_published_recipe(dtype: type) -> None:
    factors = draw_factors([3, 6, 40], 2_000)
    codes = mixed(factors, 5, dtype=dtype)
    for d in range(5):
        column = codes[:, d]
        bins = np.digitize(column, np.histogram(column, 20)[1][:-1])
        for f in range(3):
            expected = mutual_info_score(factors[:, f], bins)
            assert mutual_information(codes, factors)[d, f] == pytest.approx(expected, abs=1e-14)


def test_entropy_of_a_uniform_factor_is_the_log_of_its_size() -> None:
    assert factor_entropy(np.arange(120)[:, None] % 6) == pytest.approx([math.log(6)])


def test_correlation_equals_numpy_and_is_zero_for_constants() -> None:
    factors = draw_factors([4, 7], 500)
    codes = mixed(factors, 3, dtype=np.float64)
    expected = np.abs(np.corrcoef(codes.T, factors.T)[:3, 3:])
    np.testing.assert_allclose(correlation(codes, factors), expected, atol=1e-12)
    codes[:, 1] = 0.1
    assert (correlation(codes, factors)[1] == 0).all()


# MIG and modularity


def test_mig_of_the_identity_is_high() -> None:
    factors = draw_factors(TEN_FACTORS, 3_000)
    assert 0.9 <= metrics.mig(identity(factors), factors) <= 1


def test_mig_of_factors_of_growing_size() -> None:
    factors = draw_factors(list(range(2, 12)), 10_000)
    assert 0.9 <= metrics.mig(identity(factors), factors) <= 1


def test_mig_of_empty_codes_is_zero() -> None:
    factors = draw_factors(TEN_FACTORS, 3_000)
    assert metrics.mig(np.zeros(factors.shape), factors) == 0


def test_mig_of_duplicated_codes_is_zero() -> None:
    factors = draw_factors(TEN_FACTORS, 3_000)
    assert metrics.mig(np.hstack([identity(factors)] * 2), factors) == pytest.approx(0, abs=1e-12)


def test_mig_takes_the_gap_from_the_two_best_dimensions() -> None:
    factors = draw_factors([3, 6, 40, 32, 32], 4_000)
    codes = mixed(factors, 10)
    information = np.sort(mutual_information(codes, factors), axis=0)
    expected = np.mean((information[-1] - information[-2]) / factor_entropy(factors))
    assert metrics.mig(codes, factors) == pytest.approx(expected, abs=1e-14)


@given(seed=st.integers(0, 1_000), scale=st.sampled_from([0.25, 1.0, 8.0]))
@settings(max_examples=15, deadline=None)
def test_information_scores_ignore_order_and_scale_of_dimensions(seed: int, scale: float) -> None:
    factors = draw_factors([3, 5], 300, seed)
    codes = mixed(factors, 4, seed, np.float64)
    moved = codes[:, np.random.default_rng(seed).permutation(4)] * scale  # powers of two keep the bins' edges exact
    for score in (metrics.mig, metrics.modularity):
        value = score(codes, factors)
        assert 0 <= value <= 1
        assert score(moved, factors) == pytest.approx(value, abs=1e-12)


def test_a_dimension_collapsed_to_the_last_bits_of_a_float_is_scored() -> None:
    factors = draw_factors([3, 5], 500)
    codes = mixed(factors, 3)
    codes[:, 1] = 0.5
    codes[::2, 1] = np.nextafter(np.float32(0.5), np.float32(1))
    assert 0 <= metrics.mig(codes, factors) <= 1
    assert 0 <= metrics.modularity(codes, factors) <= 1


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        (np.diag(np.full(5, 5.0)), 1),
        (np.array([[1.0, 0], [0, 1], [0, 0]]), 2 / 3),
        (np.zeros((10, 10)), 0),
        (np.vstack([np.diag(np.full(5, 5.0))] * 2), 1),
        (np.diag(np.full(5, 5.0))[:2], 1),
        (np.hstack([np.diag(np.full(5, 5.0))] * 2), 1 - 1 / 9),
    ],
    ids=["diagonal", "empty code", "zero", "redundant codes", "missed factors", "one code for two factors"],
)
def test_modularity_of_information(information: Matrix, expected: float) -> None:
    assert metrics.modularity_of_information(information) == pytest.approx(expected)


def test_modularity_of_codes() -> None:
    factors = draw_factors(TEN_FACTORS, 20_000)
    assert 0.9 <= metrics.modularity(identity(factors), factors) <= 1
    shuffled = np.random.default_rng(0).permuted(identity(factors), axis=1)
    assert metrics.modularity(shuffled, factors) <= 0.2


# SAP


def test_sap_follows_the_published_recipe() -> None:
    factors, test_factors = draw_factors([3, 8], 400), draw_factors([3, 8], 200, seed=1)
    codes, test_codes = mixed(factors, 4), mixed(test_factors, 4)
    accuracy = np.zeros((4, 2))
    for d in range(4):
        for f in range(2):
            model = LinearSVC(C=0.01, class_weight="balanced").fit(codes[:, [d]], factors[:, f])
            accuracy[d, f] = model.score(test_codes[:, [d]], test_factors[:, f])
    accuracy.sort(axis=0)
    expected = np.mean(accuracy[-1] - accuracy[-2])
    assert metrics.sap(codes, factors, test_codes, test_factors) == pytest.approx(expected, abs=1e-12)


def test_sap_of_indistinguishable_codes_is_zero() -> None:
    factors = draw_factors([3, 4], 300)
    assert metrics.sap(np.zeros((300, 4)), factors, np.zeros((300, 4)), factors) == 0
    twice = np.hstack([identity(factors)] * 2)
    assert metrics.sap(twice, factors, twice, factors) == pytest.approx(0, abs=1e-12)


def test_sap_does_not_depend_on_threads() -> None:
    factors = draw_factors([3, 4], 300)
    codes = mixed(factors, 3)
    one, three = (metrics.sap_hits(codes, factors, codes, factors, num_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one, three)


# DCI

LOG_2_BASE_10 = math.log(2) / math.log(10)
DIAGONAL = np.diag(np.full(5, 5.0))


@pytest.mark.parametrize(
    ("importance", "disentanglement", "completeness"),
    [
        (DIAGONAL, 1, 1),
        (np.array([[1.0, 0], [0, 1], [0, 0]]), 1, 1),
        (np.zeros((10, 10)), 0, 0),
        (np.vstack([DIAGONAL] * 2), 1, 1 - LOG_2_BASE_10),
        (DIAGONAL[:2], 1, 1),
        (np.hstack([DIAGONAL] * 2), 1 - LOG_2_BASE_10, 1),
    ],
    ids=["diagonal", "empty code", "zero", "redundant codes", "missed factors", "one code for two factors"],
)
def test_dci_of_importance(importance: Matrix, disentanglement: float, completeness: float) -> None:
    assert metrics.disentanglement(importance) == pytest.approx(disentanglement, abs=1e-7)
    assert metrics.completeness(importance) == pytest.approx(completeness, abs=1e-7)


def test_dci_follows_the_published_recipe() -> None:
    factors, test_factors = draw_factors([2, 4], 200), draw_factors([2, 4], 100, seed=1)
    codes, test_codes = mixed(factors, 3), mixed(test_factors, 3)
    found = metrics.dci(codes, factors, test_codes, test_factors, seed=3)
    for f in range(2):
        model = GradientBoostingClassifier(random_state=3).fit(codes, factors[:, f])
        np.testing.assert_array_equal(found.importance[:, f], np.abs(model.feature_importances_))
        assert found.hits[:, f].mean() == model.score(test_codes, test_factors[:, f])
    assert found.informativeness == pytest.approx(found.hits.mean())


def test_dci_ends_within_a_factor_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def made(**settings: Any) -> Any:
        fitted.append(GradientBoostingClassifier(**settings))
        return fitted[-1]

    def stop(done: int, total: int) -> None:
        assert (done, total) == (0, 2)
        raise InterruptedError

    monkeypatch.setattr(metrics, "GradientBoostingClassifier", made)
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(6_000, 10)), rng.integers(0, 30, (6_000, 2))
    with pytest.raises(InterruptedError):
        metrics.dci(codes, factors, codes[:9], factors[:9], on_factor=stop)
    (model,) = fitted
    assert len(model.estimators_) < model.n_estimators


def test_dci_of_the_identity_is_high_on_any_number_of_threads() -> None:
    factors, seen = draw_factors([3, 2, 4], 300), []
    codes = identity(factors)
    one = metrics.dci(codes, factors, codes, factors)
    two = metrics.dci(codes, factors, codes, factors, num_threads=2, on_factor=lambda *done: seen.append(done))
    assert min(one.disentanglement, one.completeness, one.informativeness) > 0.95
    np.testing.assert_array_equal(one.importance, two.importance)
    assert seen == sorted(seen)
    assert seen[-1] == (3, 3)


# FactorVAE and BetaVAE

SMALL = {"num_train": 2_000, "num_eval": 1_000, "group_size": 16}


def test_intervention_scores_of_the_identity_are_high() -> None:
    samples = IndependentFactors(lambda factors, _: identity(factors), TEN_FACTORS)
    assert metrics.factor_vae_score(samples, np.random.default_rng(0), **SMALL) > 0.95
    assert metrics.beta_vae_score(samples, np.random.default_rng(0), **SMALL) > 0.95


def test_intervention_scores_of_noise_are_at_chance() -> None:
    samples = IndependentFactors(lambda factors, rng: rng.normal(size=(len(factors), 6)), [4, 4, 4, 4])
    assert metrics.factor_vae_score(samples, np.random.default_rng(0), **SMALL) == pytest.approx(0.25, abs=0.06)
    assert metrics.beta_vae_score(samples, np.random.default_rng(0), **SMALL) == pytest.approx(0.25, abs=0.06)


def test_factor_vae_score_without_an_active_dimension_is_zero() -> None:
    samples = IndependentFactors(lambda factors, _: identity(factors) * 1e-3, TEN_FACTORS)
    assert metrics.factor_vae_score(samples, np.random.default_rng(0), **SMALL) == 0


def test_factor_vae_score_ignores_dead_dimensions() -> None:
    def codes_of(factors: Factors, rng: np.random.Generator) -> Codes:
        # The inactive dimension has no variance in any group and would win every vote.
        return np.column_stack([np.full(len(factors), 0.3), identity(factors)])

    samples = IndependentFactors(codes_of, [5, 5, 5])
    assert metrics.factor_vae_score(samples, np.random.default_rng(0), **SMALL) > 0.95


def test_rows_drawn_with_independent_factors_score_as_independent_factors() -> None:
    factors = draw_factors([4, 4, 4], 5_000)
    codes = mixed(factors, 5, dtype=np.float64)
    grid = full_grid(codes, factors, [4, 4, 4])
    assert grid is not None
    for score in (metrics.factor_vae_score, metrics.beta_vae_score):
        by_grid = score(grid, np.random.default_rng(0), **SMALL)
        by_rows = score(RowFactors(codes, factors), np.random.default_rng(1), **SMALL)
        assert by_rows == pytest.approx(by_grid, abs=0.06)


@given(seed=st.integers(0, 100), factor=st.integers(0, 2), by_rows=st.booleans())
@settings(max_examples=20, deadline=None)
def test_groups_share_the_fixed_factor_and_vary_the_others(seed: int, factor: int, by_rows: bool) -> None:
    factors = draw_factors([3, 4, 5], 2_000)
    samples = (
        RowFactors(identity(factors), factors)
        if by_rows
        else IndependentFactors(lambda wanted, _: identity(wanted), [3, 4, 5])
    )
    groups = samples.draw_groups(factor, 4, 64, np.random.default_rng(seed))
    assert groups.shape == (4, 64, 3)
    spread = np.ptp(groups, axis=1)
    assert (spread[:, factor] == 0).all()
    assert (np.delete(spread, factor, axis=1) > 0).all()


def test_a_grid_is_found_in_any_order_and_answers_with_the_right_rows() -> None:
    order = np.random.default_rng(0).permutation(60)
    factors = np.stack(np.unravel_index(order, (3, 4, 5)), axis=1)
    codes = order[:, None].astype(np.float32)
    grid = full_grid(codes, factors, [3, 4, 5])
    assert grid is not None
    drawn, wanted = grid.draw(500, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn[:, 0], np.ravel_multi_index(tuple(wanted.T), (3, 4, 5)))
    assert full_grid(codes[1:], factors[1:], [3, 4, 5]) is None
    assert full_grid(codes, factors, [3, 4, 6]) is None


def test_every_image_of_a_cell_is_drawn() -> None:
    factors = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], 3, axis=0)
    grid = full_grid(np.arange(12.0)[:, None], factors, [2, 2])
    assert grid is not None
    codes, drawn = grid.draw(400, np.random.default_rng(0))
    assert set(codes[:, 0]) == set(range(12))
    np.testing.assert_array_equal(codes[:, 0] // 3, drawn @ [2, 1])


# UDR


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_udr_of_the_same_code_permuted_is_high(similarity: str) -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(1_000, 6))
    other = codes[:, rng.permutation(6)] * [1, -1, 1, -1, 2, 3]
    scores = udr([codes, other], [np.ones(6)] * 2, similarity=similarity)
    assert (scores.model_scores > 0.8).all()


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_udr_of_unrelated_codes_is_low(similarity: str) -> None:
    rng = np.random.default_rng(0)
    codes = [rng.normal(size=(1_000, 6)) for _ in range(3)]
    scores = udr(codes, [np.ones(6)] * 3, similarity=similarity)
    assert (scores.model_scores < 0.2).all()
    assert (np.diag(scores.pairwise) == 0).all()


def test_udr_ignores_uninformative_dimensions() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1_000, 1))
    codes = [np.hstack([shared, rng.normal(size=(1_000, 9))]) for _ in range(2)]
    only_first = np.eye(10)[0]
    assert (udr(codes, [only_first] * 2).model_scores > 0.8).all()
    assert (udr(codes, [np.ones(10)] * 2).model_scores < 0.2).all()
    assert (udr(codes, [np.zeros(10)] * 2).model_scores == 0).all()


def test_the_model_that_is_most_like_the_others_is_central() -> None:
    """Two models have the same dimensions, turned and in another order; the third has mixed them, and one is noise."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(2_000, 4))
    turned = codes[:, [2, 0, 3, 1]] * [1, -1, 2, 1]
    mixture = codes @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    found = model_centrality([codes, turned, mixture, rng.normal(size=(2_000, 4))], [np.ones(4)] * 4)
    assert found.pairwise[0, 1] == 1
    assert 0.25 < found.pairwise[0, 2] < 0.9
    assert found.pairwise[:3, 3].max() < 0.35  # Chance is a quarter.
    np.testing.assert_array_equal(found.pairwise, found.pairwise.T)
    np.testing.assert_allclose(found.model_scores, found.pairwise.sum(1) / 3)
    assert found.model_scores[:2].min() > found.model_scores[2] > found.model_scores[3]


def test_dimensions_without_information_do_not_count_for_centrality() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(500, 2))
    codes = [np.hstack([shared, rng.normal(size=(500, 3))]) for _ in range(2)]
    informative = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    assert (model_centrality(codes, [informative] * 2).model_scores > 0.98).all()
    assert model_centrality(codes, [informative, np.zeros(5)]).model_scores.tolist() == [0, 0]
    with pytest.raises(ValueError, match="two or more models"):
        model_centrality(codes[:1], [informative])


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (np.eye(3), 1),
        (np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]), 2 / 3),
        (np.ones((3, 3)), 1 / 3),
        (np.zeros((3, 3)), 0),
        (np.zeros((0, 3)), 0),
    ],
)
def test_relative_strength(similarity: Matrix, expected: float) -> None:
    assert relative_strength(similarity) == pytest.approx(expected)


# Bootstrap


def test_the_interval_of_an_accuracy_is_that_of_a_proportion() -> None:
    hits = np.arange(2_000) % 4 > 0
    low, high = bootstrap_interval(accuracy_of_counts(hits), len(hits), np.random.default_rng(0), num_resamples=1_000)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 2_000)
    assert low == pytest.approx(0.75 - half, rel=0.003)
    assert high == pytest.approx(0.75 + half, rel=0.003)


def test_the_interval_of_an_information_score_contains_the_score() -> None:
    factors = draw_factors([3, 6, 8], 600)
    codes = mixed(factors, 4)
    for score in (metrics.mig_of_counts(codes, factors), metrics.modularity_of_counts(codes, factors)):
        low, high = bootstrap_interval(score, 600, np.random.default_rng(0), num_resamples=100)
        assert 0 <= low < score(None) < high <= 1
        assert high - low < 0.2


def test_counting_every_point_twice_changes_nothing() -> None:
    factors = draw_factors([3, 6], 300)
    codes = mixed(factors, 4)
    hits = metrics.sap_hits(codes, factors, codes, factors)
    twice = np.full(300, 2)
    assert metrics.mig_of_counts(codes, factors)(twice) == pytest.approx(metrics.mig(codes, factors))
    assert metrics.modularity_of_counts(codes, factors)(twice) == pytest.approx(metrics.modularity(codes, factors))
    assert metrics.sap_of_hits(hits, twice) == pytest.approx(metrics.sap_of_hits(hits))


# Refused points


def test_points_that_cannot_be_scored_are_refused_with_a_reason() -> None:
    factors = draw_factors([3, 4], 50)
    codes, constant = mixed(factors, 3), np.column_stack([factors[:, 0], np.zeros(50, dtype=np.int64)])
    with pytest.raises(ValueError, match="dimensions"):
        metrics.mig(codes[:, :1], factors)
    with pytest.raises(ValueError, match="single value"):
        metrics.mig(codes, constant)
    with pytest.raises(ValueError, match="single value"):
        metrics.dci(codes, constant, codes, factors)
    with pytest.raises(ValueError, match="factors"):
        metrics.modularity(codes, factors[:, :1])
    with pytest.raises(ValueError, match="finite"):
        metrics.mig(np.where(codes > 0, np.nan, codes), factors)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        metrics.sap(codes, factors[:10], codes, factors)
    with pytest.raises(ValueError, match="two factors"):
        metrics.beta_vae_score(IndependentFactors(lambda f, _: identity(f), [5]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="similarity"):
        udr([codes, codes], [np.ones(3)] * 2, similarity="pearson")
    with pytest.raises(ValueError, match="same images"):
        udr([codes], [np.ones(3)])
