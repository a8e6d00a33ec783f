"""The points for disentanglement scores: codes and factors of images that are drawn from a packed set."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.data.packs import Pack
from training.metrics.factor_kinds import has_order, is_continuous, quantities_of
from training.metrics.factor_samples import Codes, Factors, FactorSamples, RowFactors, RowsByKey, full_grid
from training.metrics.information import NUM_BINS, bins_of, compact, factor_entropy, information_between

NUM_TRAIN, NUM_TEST = 10_000, 5_000
MAX_DEPENDENCE = 0.05
"""Largest share of information between two factors at which scores that fix one and vary the others are defined."""

_MIN_ROWS_PER_VALUE = 64
_MIN_POINTS = 100
_MAX_VALUES = 1_000
"""Largest number of values of a factor; DCI and SAP train a classifier for each value."""
_REPEATED = 0.05
"""Share of test images that may also be used for training without a note."""

Encode = Callable[[NDArray[np.int64] | None], Codes]
"""A function that returns the codes of the images at some indices, or of all images."""


@dataclass(frozen=True)
class VaryingFactors:
    """The factors of a set that scores can be computed for."""

    values: NDArray[np.int64]
    """The values, (N, F), renumbered without gaps; those of a continuous factor are bins of equal width."""
    names: list[str]
    is_grid: bool
    """True if every combination of values occurs, so that factors can be drawn as in the papers."""
    ordered: NDArray[np.bool_]
    """Whether each factor is known to be a number with an order, (F,)."""
    continuous: NDArray[np.bool_]
    """Whether each factor has too many values for classifiers, (F,)."""
    quantities: dict[int, NDArray[np.float64]]
    """The numbers, (N,), of the factors that the set gives as numbers with fractions, by the factor's index."""

    def numbers_at(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns what regressors predict for some images, (n, F): the quantity, or else the number of the class."""
        numbers = self.values[rows].astype(np.float64)
        for factor, quantity in self.quantities.items():
            numbers[:, factor] = quantity[rows]
        return numbers

    @property
    def sizes(self) -> list[int]:
        """The number of values of each factor."""
        return [int(size) for size in self.values.max(0) + 1]


@dataclass(frozen=True)
class Points:
    """Points to score, and the source of groups that share a factor."""

    sampling: str
    """The sampling, which is grid or rows."""
    codes: Codes
    factors: Factors
    numbers: NDArray[np.float64]
    """The factors as numbers, (N, F), for regressors (VaryingFactors.numbers_at)."""
    test_codes: Codes
    test_factors: Factors
    test_numbers: NDArray[np.float64]
    names: list[str]
    ordered: NDArray[np.bool_]
    continuous: NDArray[np.bool_]
    groups: FactorSamples | None
    """The source of groups; None if no score needs groups, or if there is an obstacle."""
    obstacle: str
    """The reason why no groups can be drawn; empty if they can be drawn."""
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Indices of the drawn images."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    obstacle: str = ""
    notes: list[str] = field(default_factory=list)


def generator_for(seed: int, purpose: str) -> np.random.Generator:
    """Returns the random generator of one purpose, so that no draw depends on which others are made."""
    return np.random.default_rng([seed, *purpose.encode()])


def varying_factors(pack: Pack, seed: int) -> tuple[VaryingFactors | None, list[str]]:
    """Selects the factors for which a score can be computed.

    Args:
        pack: The set.
        seed: The seed by which `draw_points` draws.

    Returns:
        The factors, or None if there are none; and notes about those that were left out.
    """
    if pack.factors is None or pack.factors.shape[1] == 0:
        return None, ["no scores: the set has no factors"]
    quantities = quantities_of(pack.values, range(pack.factors.shape[1]))
    continuous = np.array([k in quantities and is_continuous(quantities[k]) for k in range(pack.factors.shape[1])])
    factors, names, notes = compact(pack.factors), np.array(pack.info.factor_names), []
    for k in np.flatnonzero(continuous):
        factors[:, k] = compact(bins_of(quantities[int(k)][:, None]))[:, 0]
    varies = factors.max(0) > 0
    if not varies.all():
        notes.append(f"left out because they have only one value: {', '.join(names[~varies])}")
    few = factors.max(0) < _MAX_VALUES
    if not few.all():
        notes.append(f"left out because they have more than {_MAX_VALUES} values: {', '.join(names[~few])}")
    columns = np.flatnonzero(varies & few)
    factors = factors[:, columns]
    no_codes = np.empty((len(factors), 0))
    is_grid = len(columns) > 0 and not continuous[columns].any()
    is_grid = is_grid and full_grid(no_codes, factors, (factors.max(0) + 1).tolist()) is not None
    if len(columns) and not is_grid:
        rows, _ = own_rows(len(factors), seed)
        varies = np.array([len(np.unique(column)) > 1 for column in factors[rows].T])
        if not varies.all():
            left_out = ", ".join(names[columns[~varies]])
            notes.append(f"left out because they have only one value in the training images: {left_out}")
        factors, columns = factors[:, varies], columns[varies]
    if not len(columns) or len(factors) < _MIN_POINTS:
        notes.append(f"no scores: they need a factor that varies and at least {_MIN_POINTS} images")
        return None, notes
    names, continuous, quantities = names[columns], continuous[columns], quantities_of(pack.values, columns.tolist())
    if continuous.any():
        notes.append(
            f"continuous, and therefore scored by regressors in SAP and DCI, and in {NUM_BINS} bins of equal width in "
            f"the scores from information: {', '.join(names[continuous])}"
        )
    ordered = np.array([k in quantities or has_order(pack.info.kind, str(name)) for k, name in enumerate(names)])
    return VaryingFactors(factors, names.tolist(), is_grid, ordered, continuous, quantities), notes


def draw_points(encode: Encode, factors: VaryingFactors, seed: int, *, with_groups: bool, with_tests: bool) -> Points:
    """Draws images for training and test, and encodes them.

    Args:
        encode: Encodes the images of the set.
        factors: The factors of all images.
        seed: Seed of the draw.
        with_groups: Whether groups that share a factor are needed; they need the codes of all images.
        with_tests: Whether a score uses the test images.
    """
    rows = _grid_rows(factors, seed, with_tests=with_tests) if factors.is_grid else _set_rows(factors, seed)
    values = factors.values
    groups: FactorSamples | None = None
    if with_groups or len(values) <= NUM_TRAIN + NUM_TEST:
        codes = encode(None)
        train_codes, test_codes = codes[rows.train], codes[rows.test]
        if not rows.obstacle:
            groups = full_grid(codes, values, factors.sizes) if factors.is_grid else RowFactors(codes, values)
    else:
        needed, positions = np.unique(np.concatenate([rows.train, rows.test]), return_inverse=True)
        train_codes, test_codes = np.split(encode(needed)[positions], [len(rows.train)])
    return Points(
        "grid" if factors.is_grid else "rows",
        train_codes,
        values[rows.train],
        factors.numbers_at(rows.train),
        test_codes,
        values[rows.test],
        factors.numbers_at(rows.test),
        factors.names,
        factors.ordered,
        factors.continuous,
        groups=groups,
        obstacle=rows.obstacle,
        notes=rows.notes,
    )


def own_rows(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws, from a set of `count` images that is no grid, indices to train on and others to test on."""
    order = generator_for(seed, "points").permutation(count)
    num_test = min(NUM_TEST, count // 3)
    return order[num_test : num_test + NUM_TRAIN], order[:num_test]


def dependence(factors: NDArray[np.int64]) -> float:
    """Returns the largest share of a factor's entropy that another factor explains; 0 for independent factors.

    The bias of such an estimate from N rows, (|a| − 1)(|b| − 1)/2N nats, is subtracted.

    Args:
        factors: (N, F), numbered without gaps.
    """
    N, F = factors.shape
    sizes, entropies = factors.max(0) + 1, factor_entropy(factors)
    largest = 0.0
    for a in range(F):
        for b in range(a):
            shared = information_between(factors[:, a], factors[:, b], None)
            shared -= (sizes[a] - 1) * (sizes[b] - 1) / (2 * N)
            largest = max(largest, shared / min(entropies[a], entropies[b]))
    return float(largest)


def _grid_rows(factors: VaryingFactors, seed: int, *, with_tests: bool) -> _Rows:
    """Draws images whose factors are uniform and independent."""
    rng, values, sizes = generator_for(seed, "points"), factors.values, factors.sizes
    count = len(values)
    has_repeats = count > math.prod(sizes)
    # With row numbers in the place of codes, drawing from the grid gives rows.
    places = np.arange(count, dtype=np.float64)[:, None]
    kept = _kept_for_test(values, sizes, rng) if has_repeats else None
    parts = [np.ones(count, dtype=bool)] * 2 if kept is None else [~kept, kept]
    pools = [full_grid(places[part], values[part], sizes) for part in parts]
    train, test = (
        pool.draw(num, rng)[0][:, 0].astype(np.int64)
        for pool, num in zip(pools, (NUM_TRAIN, NUM_TEST), strict=True)
        if pool is not None
    )
    notes = []
    if has_repeats:
        notes.append("several images have the same factors; each draw takes one of them at random")
    repeated = float(np.isin(test, train).mean())
    if with_tests and repeated > _REPEATED:
        notes.append(
            f"{repeated:.0%} of the test images of SAP and DCI were also trained on: the set has {count} images, and "
            "both samples are drawn from all of them, as in the papers"
        )
    return _Rows(train=train, test=test, notes=notes)


def _set_rows(factors: VaryingFactors, seed: int) -> _Rows:
    """Draws images of a set in which some combinations of factors do not occur."""
    values = factors.values
    train, test = own_rows(len(values), seed)
    places = np.arange(len(values), dtype=np.float64)[:, None]
    note = (
        "not every combination of the factors occurs, so the scores use the set's own images "
        f"({len(train)} for training, {len(test)} others for the test) instead of independently drawn factors; "
        "compare them only with scores on this set"
    )
    if factors.continuous.any():
        obstacle = "a factor is continuous, so hardly two images share its value"
    else:
        obstacle = _obstacle(RowFactors(places, values), values)
    return _Rows(train=train, test=test, obstacle=obstacle, notes=[note])


def _kept_for_test(
    factors: NDArray[np.int64], sizes: Sequence[int], rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Reserves a third of the images of each combination of factors for the test.

    Args:
        factors: (N, F) of a grid with several images a combination.
        sizes: Number of values of each factor.
        rng: Decides which images are reserved.

    Returns:
        (N,), True for reserved images; None if a combination has a single image.
    """
    cells = np.ravel_multi_index(tuple(factors.T), tuple(sizes))
    if np.bincount(cells).min() < 2:
        return None
    order = rng.permutation(len(cells))
    found = RowsByKey(cells[order])  # The images of each cell, in random order.
    place = np.arange(len(cells)) - np.repeat(found.starts, found.counts)
    kept = np.zeros(len(cells), dtype=bool)
    kept[order[found.rows]] = place < np.repeat(np.maximum(1, found.counts // 3), found.counts)
    return kept


def _obstacle(samples: RowFactors, factors: NDArray[np.int64]) -> str:
    """Explains why drawing rows that share a factor cannot replace fixing it; empty if it can."""
    if samples.fewest_rows < _MIN_ROWS_PER_VALUE:
        return f"a factor has a value that fewer than {_MIN_ROWS_PER_VALUE} images show"
    if dependence(factors) > MAX_DEPENDENCE:
        return "the factors depend on each other, so one cannot be fixed while the others vary freely"
    return ""
