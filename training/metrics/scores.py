"""Disentanglement scores as disentanglement_lib defines and computes them (Locatello et al. 2019); free of torch.

Codes are posterior means, float (N, D); factors are class indices, int (N, F). Scores are in [0, 1], information is in
nats. Points that disentanglement_lib draws itself are drawn by `factor_samples` here.
"""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from training.metrics.factor_samples import Codes, Factors, FactorSamples
from training.metrics.information import (
    Matrix,
    bins_of,
    check_points,
    compact,
    entropy_of,
    information_matrix,
)
from training.metrics.quiet import quiet_convergence

Flags = NDArray[np.bool_]

MIN_STD = 0.05
"""Codes with a smaller standard deviation count as collapsed in the FactorVAE score (`prune_dims.threshold`)."""
_GROUP_SIZE = 64
_CHUNK = 500
_REPORT_SECONDS = 0.5


def mig(codes: Codes, factors: Factors) -> float:
    """Returns the mutual information gap between the two dimensions that are most informative about each factor.

    The gap is (I₁ − I₂)/H with the two largest mutual informations, averaged over factors (Chen et al. 2018, Eq. 6).

    Raises:
        ValueError: There are fewer than two dimensions, or a factor has a single value.
    """
    return mig_of_counts(codes, factors)(None)


def mig_of_counts(codes: Codes, factors: Factors) -> Callable[[NDArray[np.int64] | None], float]:
    """Returns `mig` as a function of how often each point counts, (N,), for the bootstrap; None counts each once."""
    check_points(codes, factors, min_dimensions=2, vary=True)
    bins, factors = bins_of(codes), compact(factors)

    def score(counts: NDArray[np.int64] | None) -> float:
        top = np.sort(information_matrix(bins, factors, counts), axis=0)[::-1]
        entropies = np.array([entropy_of(column, counts) for column in factors.T])
        # In a resample, a rare factor may have a single value and no entropy; its gap is 0.
        gaps = np.divide(top[0] - top[1], entropies, out=np.zeros_like(entropies), where=entropies > 0)
        return float(np.mean(gaps))

    return score


def mig_sup(codes: Codes, factors: Factors) -> float:
    """Returns the gap between the two factors that each dimension is most informative about (Li et al. 2020).

    The gap is the difference of the two largest I/H, with the factor's entropy H, averaged over all dimensions. It
    complements MIG, which does not notice a dimension that holds two factors.

    Raises:
        ValueError: There are fewer than two factors, or a factor has a single value.
    """
    return mig_sup_of_counts(codes, factors)(None)


def mig_sup_of_counts(codes: Codes, factors: Factors) -> Callable[[NDArray[np.int64] | None], float]:
    """Returns `mig_sup` as a function of how often each point counts, as mig_of_counts does `mig`."""
    check_points(codes, factors, min_factors=2, vary=True)
    bins, factors = bins_of(codes), compact(factors)

    def score(counts: NDArray[np.int64] | None) -> float:
        information = information_matrix(bins, factors, counts)
        entropies = np.array([entropy_of(column, counts) for column in factors.T])
        shares = np.divide(information, entropies, out=np.zeros_like(information), where=entropies > 0)
        top = np.sort(shares, axis=1)
        return float(np.mean(top[:, -1] - top[:, -2]))

    return score


def modularity(codes: Codes, factors: Factors) -> float:
    """Returns how close each dimension is to informing about one factor only (Ridgeway & Mozer 2018), on average.

    Raises:
        ValueError: There are fewer than two factors.
    """
    return modularity_of_counts(codes, factors)(None)


def modularity_of_counts(codes: Codes, factors: Factors) -> Callable[[NDArray[np.int64] | None], float]:
    """Returns `modularity` as a function of how often each point counts, as mig_of_counts does `mig`."""
    check_points(codes, factors, min_factors=2)
    bins, factors = bins_of(codes), compact(factors)
    return lambda counts: modularity_of_information(information_matrix(bins, factors, counts))


def modularity_of_information(information: Matrix) -> float:
    """Returns the mean over dimensions of 1 − (ΣI² − max I²)/(max I²·(F − 1)); without information, the term is 0.

    Args:
        information: (D, F) nats, F ≥ 2.
    """
    squared = np.square(information)
    largest = squared.max(1)
    rest = squared.sum(1) - largest
    leak = np.divide(rest, largest * (squared.shape[1] - 1.0), out=np.ones_like(rest), where=largest > 0)
    return float(np.mean(1.0 - leak))


def sap(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """Returns the separated attribute predictability (Kumar et al. 2018).

    A linear support vector machine is trained on each single dimension. The score is the difference in test accuracy
    between the two dimensions that predict a factor best, averaged over factors.

    Raises:
        ValueError: There are fewer than two dimensions, or a factor has a single value.
    """
    return sap_of_hits(sap_hits(codes, factors, test_codes, test_factors))


def sap_hits(
    codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors, *, num_threads: int = 1
) -> Flags:
    """Returns whether each test point is classified correctly from each dimension for each factor, (N, D, F)."""
    check_points(codes, factors, min_dimensions=2, vary=True)
    check_points(test_codes, test_factors)
    D, F = codes.shape[1], factors.shape[1]

    def hits(cell: int) -> Flags:
        dimension, factor = divmod(cell, F)
        classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
        classifier.fit(codes[:, dimension, None], factors[:, factor])
        right: Flags = classifier.predict(test_codes[:, dimension, None]) == test_factors[:, factor]
        return right

    with quiet_convergence(), ThreadPoolExecutor(num_threads) as pool:
        return np.stack(list(pool.map(hits, range(D * F))), axis=1).reshape(-1, D, F)


def sap_of_hits(hits: Flags, counts: NDArray[np.int64] | None = None) -> float:
    """Returns the SAP score of sap_hits, where each test point counts as often as `counts` says (None: once)."""
    accuracy = np.sort(np.average(hits, axis=0, weights=counts), axis=0)
    return float(np.mean(accuracy[-1] - accuracy[-2]))


@dataclass(frozen=True)
class DciScores:
    """The three scores of Eastwood & Williams 2018, and the values that they are computed from."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Matrix
    """The importance of each dimension for each factor, (D, F), which sums to 1 over dimensions."""
    hits: Flags
    """Whether each test point was classified correctly for each factor, (N, F)."""


def dci(
    codes: Codes,
    factors: Factors,
    test_codes: Codes,
    test_factors: Factors,
    *,
    seed: int | None = 0,
    num_threads: int = 1,
    on_factor: Callable[[int, int], None] | None = None,
) -> DciScores:
    """Computes disentanglement, completeness and informativeness with gradient boosted trees, one classifier a factor.

    Each value of each factor takes about three seconds of a core at 10 000 points and 10 dimensions.

    Args:
        codes: (N, D) to train on.
        factors: (N, F) to train on.
        test_codes: Codes of other points.
        test_factors: Factors of other points.
        seed: Decides ties between equally good splits; None takes NumPy's global state, as disentanglement_lib does.
        num_threads: Factors fitted at the same time; the result does not depend on it unless seed is None.
        on_factor: Called with the number of factors done and the total, after each factor and every half second; an
            exception from it ends the fits.

    Raises:
        ValueError: A factor has a single value.
    """
    check_points(codes, factors, vary=True)
    check_points(test_codes, test_factors)
    num_factors = factors.shape[1]

    is_over = False

    def fit(factor: int) -> tuple[Matrix, Flags]:
        model = GradientBoostingClassifier(random_state=seed)
        model.fit(codes, factors[:, factor], monitor=lambda *_: is_over)
        return np.abs(model.feature_importances_), model.predict(test_codes) == test_factors[:, factor]

    # Factors with many values take longest; they start first, so that all threads end at about the same time.
    order = range(num_factors) if seed is None else np.argsort([-len(np.unique(f)) for f in factors.T], kind="stable")
    pool = ThreadPoolExecutor(num_threads if seed is not None else 1)
    try:
        fits = {int(factor): pool.submit(fit, factor) for factor in order}
        pending = set(fits.values())
        while pending:
            _, pending = wait(pending, timeout=_REPORT_SECONDS, return_when=FIRST_COMPLETED)
            if on_factor is not None:
                on_factor(num_factors - len(pending), num_factors)
        found = {factor: done.result() for factor, done in fits.items()}
    finally:
        is_over = True
        pool.shutdown(cancel_futures=True)
    importance = np.stack([found[k][0] for k in range(num_factors)], axis=1)
    hits = np.stack([found[k][1] for k in range(num_factors)], axis=1)
    return DciScores(disentanglement(importance), completeness(importance), float(hits.mean()), importance, hits)


def disentanglement(importance: Matrix) -> float:
    """Returns 1 − entropy of each dimension's importances over the factors, base F, weighted by the dimension's sum.

    Args:
        importance: (D, F), ≥ 0.

    Returns:
        The score; NaN, because it is undefined, for a single factor.
    """
    if importance.shape[1] < 2:
        return float("nan")
    per_code = 1.0 - entropy(importance.T + 1e-11, base=importance.shape[1])
    return float(np.sum(per_code * _shares(importance, axis=1)))


def completeness(importance: Matrix) -> float:
    """Returns 1 − entropy of each factor's importances over the dimensions, base D, weighted by the factor's sum.

    Args:
        importance: (D, F), ≥ 0.

    Returns:
        The score; NaN, because it is undefined, for a single dimension.
    """
    if importance.shape[0] < 2:
        return float("nan")
    per_factor = 1.0 - entropy(importance + 1e-11, base=importance.shape[0])
    return float(np.sum(per_factor * _shares(importance, axis=0)))


def _shares(importance: Matrix, axis: int) -> Matrix:
    if importance.sum() == 0.0:
        importance = np.ones_like(importance)
    shares: Matrix = importance.sum(axis=axis) / importance.sum()
    return shares


def factor_vae_hits(
    samples: FactorSamples,
    rng: np.random.Generator,
    *,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    num_variance: int = 10_000,
    group_size: int = _GROUP_SIZE,
    min_std: float = MIN_STD,
) -> Flags:
    """Returns which evaluation votes of the FactorVAE score (Kim & Mnih 2018) name the fixed factor, (num_eval,).

    A vote fixes one factor in a group of images and names the dimension that varies least, relative to its variance
    over the set. A dimension stands for the factor that most training votes gave it.

    Args:
        samples: Source of codes.
        rng: Source of randomness.
        num_train: Number of training votes.
        num_eval: Number of evaluation votes.
        num_variance: Number of points that variances over the set are computed from.
        group_size: Images in a group.
        min_std: Dimensions with a smaller standard deviation are left out; without any other, all votes are wrong.
    """
    variances = np.var(samples.draw(num_variance, rng)[0], axis=0, ddof=1)
    active = np.sqrt(variances) >= min_std
    if not active.any():
        return np.zeros(num_eval, dtype=np.bool_)

    def votes(num_votes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        def least(groups: Codes) -> NDArray[np.int64]:
            spread = np.var(groups, axis=1, ddof=1)[:, active] / variances[active]
            named: NDArray[np.int64] = np.argmin(spread, axis=1)
            return named

        return _by_fixed_factor(samples, num_votes, group_size, rng, least)

    fixed, named = votes(num_train)
    table = np.zeros((samples.num_factors, int(active.sum())), dtype=np.int64)
    np.add.at(table, (fixed, named), 1)
    stands_for = np.argmax(table, axis=0)
    fixed, named = votes(num_eval)
    right: Flags = stands_for[named] == fixed
    return right


def factor_vae_score(samples: FactorSamples, rng: np.random.Generator, **options: Any) -> float:
    """Returns the FactorVAE score, the accuracy of the majority vote; options are those of factor_vae_hits."""
    return float(factor_vae_hits(samples, rng, **options).mean())


def beta_vae_hits(
    samples: FactorSamples,
    rng: np.random.Generator,
    *,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    group_size: int = _GROUP_SIZE,
) -> Flags:
    """Returns which evaluation points of the BetaVAE score (Higgins et al. 2017) are classified correctly, (num_eval,).

    A point is the mean of |z₁ − z₂| over group_size pairs of images that share the value of one factor; a logistic
    regression names the factor.

    Args:
        samples: Source of codes.
        rng: Source of randomness.
        num_train: Number of training points.
        num_eval: Number of evaluation points.
        group_size: Pairs of images for a point.

    Raises:
        ValueError: There are fewer than two factors.
    """
    if samples.num_factors < 2:
        raise ValueError("the BetaVAE score needs at least two factors")

    def points(num_points: int) -> tuple[NDArray[np.int64], Matrix]:
        def distance(pairs: Codes) -> Matrix:
            apart = np.abs(pairs[:, 0] - pairs[:, 1]).reshape(-1, group_size, pairs.shape[-1])
            mean: Matrix = apart.mean(1).astype(np.float64)
            return mean

        return _by_fixed_factor(samples, num_points, 2, rng, distance, groups_per_point=group_size)

    labels, features = points(num_train)
    with quiet_convergence():
        model = LogisticRegression(random_state=0).fit(features, labels)
    labels, features = points(num_eval)
    right: Flags = model.predict(features) == labels
    return right


def beta_vae_score(samples: FactorSamples, rng: np.random.Generator, **options: Any) -> float:
    """Returns the BetaVAE score, the accuracy of the logistic regression; options are those of beta_vae_hits."""
    return float(beta_vae_hits(samples, rng, **options).mean())


def _by_fixed_factor(
    samples: FactorSamples,
    num_points: int,
    group_size: int,
    rng: np.random.Generator,
    summary: Callable[[Codes], NDArray[Any]],
    groups_per_point: int = 1,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Draws points that each fix a random factor, and summarises their codes, a few at a time to bound the memory.

    Args:
        samples: Source of codes.
        num_points: Number of points.
        group_size: Images in a group.
        rng: Source of randomness.
        summary: Summarises codes (groups, group_size, D).
        groups_per_point: Number of groups that a point is made from.

    Returns:
        The fixed factors, (num_points,), sorted; and the summaries, (num_points, …).
    """
    fixed = np.sort(rng.integers(samples.num_factors, size=num_points))
    parts = []
    for factor, num_with in enumerate(np.bincount(fixed, minlength=samples.num_factors)):
        for begin in range(0, num_with, _CHUNK):
            num_groups = min(_CHUNK, num_with - begin) * groups_per_point
            parts.append(summary(samples.draw_groups(factor, num_groups, group_size, rng)))
    return fixed, np.concatenate(parts)
