"""What a trained network has learnt of a packed set: losses, active dimensions and disentanglement scores.

For the scores no image is encoded twice; all are computed from the codes. Where no score is asked for that draws groups
(factor_vae, beta_vae), only the images that the others draw are encoded: 15 000 of dSprites' 737 280.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.info import active_dimensions
from models.networks import VAE
from training.data.packs import Pack
from training.inputs import VALIDATION_SPLIT
from training.metrics import scores as m
from training.metrics.factor_samples import Codes, Factors, FactorSamples, RowFactors, RowsByKey, full_grid
from training.metrics.information import compact, correlation, factor_entropy, information_between, mutual_information
from training.metrics.names import METRICS
from training.summary import SUMMARY_IMAGES, Progress, encode, floor_of, summarise

__all__ = ["METRICS", "Evaluation", "Score", "encode_images", "evaluate_agreement", "evaluate_model"]

NUM_TRAIN, NUM_TEST = 10_000, 5_000
MAX_DEPENDENCE = 0.05
"""Above this share of information between two factors, scores that fix one and vary the others are not defined."""

_MIN_ROWS_PER_VALUE = 64
_MIN_POINTS = 100
_MAX_VALUES = 1_000
"""Of a factor: DCI and SAP train a classifier for each."""
_REPEATED = 0.05
"""Share of test images that a classifier was trained on from which a note says so."""
_NEED_GROUPS = ("factor_vae", "beta_vae")
_NEED_TESTS = ("dci", "sap")


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95 % bootstrap interval over the evaluation points.

    value is None where the score is not defined; note then says why. interval is None where resampling points would
    mean training a classifier anew for each resample.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What evaluate_model found; to_json gives plain JSON types."""

    scores: dict[str, Score]
    """mig, modularity, sap, factor_vae, beta_vae, dci_disentanglement, dci_completeness, dci_informativeness; empty
    for a set without factors."""
    sampling: str | None
    """grid (factors uniform and independent, as in the papers), rows (as the set has them), None (no factors)."""
    factor_names: list[str]
    factor_entropies: list[float]
    """Of each factor in the sample, (F,) nats: the most that a dimension can know of it."""
    correlation: list[list[float]]
    """|Pearson's r| of each dimension with each factor, (D, F); of little meaning for a factor without order."""
    mutual_information: list[list[float]]
    """Of each dimension with each factor, (D, F) nats."""
    reconstruction_loss: float
    """Nats per image, decoding the posterior mean."""
    bernoulli_floor: float | None
    """The lowest reconstruction_loss that these images allow; None for a Gaussian likelihood."""
    kl: float
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    aggregate_mean: list[float]
    aggregate_std: list[float]
    loss_images: str
    """Which images the losses are of: `validation` (the set's own validation split), `given`, or `sample`."""
    num_loss_images: int
    num_images: int
    seed: int
    seconds: float
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_model(
    network: VAE,
    pack: Pack,
    *,
    device: torch.device | str,
    metrics: Sequence[str] = METRICS,
    seed: int = 0,
    likelihood: str = "bernoulli",
    validation: NDArray[np.int64] | None = None,
    num_threads: int | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Computes losses and disentanglement scores of a network on a packed set.

    A score's value depends on the network, the set and the seed alone, not on which other scores are asked for (but for
    the rounding of codes, which are encoded in other batches then).
    Args: metrics, out of METRICS, ignored for a set without factors; seed, of every draw; validation, indices of the
    images for the losses (default: the set's validation split; 10 000 images drawn by the seed where it has none);
    num_threads, for the classifiers (default: all cores); on_progress, called with a stage, a count and a total; an
    exception that it raises ends the evaluation.
    Raises: ValueError for an unknown metric.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"metrics: {', '.join(unknown)} unknown; there are {', '.join(METRICS)}")
    began = time.monotonic()
    device, report = torch.device(device), on_progress or (lambda stage, done, total: None)
    indices, loss_images = _loss_indices(pack, validation, seed)
    report("losses", 0, len(indices))
    losses = summarise(
        network, pack.images, indices, likelihood, device, lambda done, total: report("losses", done, total)
    )

    factors, names, notes, is_grid = _varying_factors(pack, seed)
    if factors is None and not metrics:
        notes = []
    points: _Points | None = None
    scores: dict[str, Score] = {}
    if factors is not None:
        points = _draw_points(
            lambda rows: encode_images(network, pack.images, rows, device=device, on_progress=report),
            factors,
            seed,
            is_grid=is_grid,
            with_groups=any(name in metrics for name in _NEED_GROUPS),
            with_tests=any(name in metrics for name in _NEED_TESTS),
        )
        notes += points.notes
        threads = num_threads or os.cpu_count() or 1
        for metric in (name for name in METRICS if name in metrics):
            report(metric, 0, 1)
            scores |= _SCORERS[metric](points, _Work(_rng(seed, metric), seed, threads, report))
            report(metric, 1, 1)
    return Evaluation(
        scores=scores,
        sampling=None if points is None else points.sampling,
        factor_names=names,
        factor_entropies=[] if points is None else factor_entropy(points.factors).tolist(),
        correlation=[] if points is None else correlation(points.codes, points.factors).tolist(),
        mutual_information=[] if points is None else mutual_information(points.codes, points.factors).tolist(),
        bernoulli_floor=floor_of(pack.images, indices, likelihood),
        kl=sum(losses["kl_per_dimension"]),
        active_dimensions=active_dimensions(losses["kl_per_dimension"]),
        loss_images=loss_images,
        num_loss_images=len(indices),
        num_images=len(pack.images),
        seed=seed,
        seconds=round(time.monotonic() - began, 1),
        notes=notes,
        **losses,
    )


def encode_images(
    network: VAE,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64] | None = None,
    *,
    device: torch.device | str,
    on_progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Posterior means (N, D) of images (N, H, W, C) uint8, or of those at `indices`, in batches."""
    return encode(network, images, indices, torch.device(device), on_progress)[0]


def evaluate_agreement(
    networks: Sequence[VAE],
    pack: Pack,
    *,
    device: torch.device | str,
    seed: int = 0,
    similarity: str = "lasso",
    num_images: int = NUM_TRAIN,
    on_progress: Progress | None = None,
) -> m.UdrScores:
    """Unsupervised disentanglement ranking of networks trained alike with different seeds; needs no factors.

    Args: networks, two or more that take the set's images; similarity, `lasso` or `spearman`; num_images, drawn by the
    seed from the whole set; on_progress, called with `agreement`, the number of networks encoded and of all.
    """
    count = len(pack.images)
    rows = np.sort(_rng(seed, "agreement").permutation(count)[:num_images])
    found = []
    for done, network in enumerate(networks, 1):
        found.append(encode(network, pack.images, rows, torch.device(device)))
        if on_progress is not None:
            on_progress("agreement", done, len(networks))
    return m.udr([codes for codes, _ in found], [kl for _, kl in found], similarity=similarity)


@dataclass(frozen=True)
class _Points:
    """Points to score, and the source of groups that share a factor.

    groups is None where there is none, and `obstacle` says why, or where nobody asked for it.
    """

    sampling: str
    codes: Codes
    factors: Factors
    test_codes: Codes
    test_factors: Factors
    groups: FactorSamples | None
    obstacle: str
    notes: list[str]


@dataclass(frozen=True)
class _Work:
    """What a scorer works with."""

    rng: np.random.Generator
    seed: int
    num_threads: int
    report: Progress


def _rng(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, *purpose.encode()])


def _loss_indices(pack: Pack, validation: NDArray[np.int64] | None, seed: int) -> tuple[NDArray[np.int64], str]:
    if validation is not None:
        return validation, "given"
    if pack.split is not None and (pack.split == VALIDATION_SPLIT).any():
        return np.flatnonzero(pack.split == VALIDATION_SPLIT), "validation"
    count = len(pack.images)
    return np.sort(_rng(seed, "losses").permutation(count)[:SUMMARY_IMAGES]), "sample"


def _varying_factors(pack: Pack, seed: int) -> tuple[NDArray[np.int64] | None, list[str], list[str], bool]:
    """The factors of which a score can be computed, renumbered; their names; notes about the others; whether every
    combination of those that vary occurs, so that they can be drawn as in the papers."""
    if pack.factors is None or pack.factors.shape[1] == 0:
        return None, [], ["no scores: the set has no factors"], False
    factors, names, notes = compact(pack.factors), np.array(pack.info.factor_names), []
    varies = factors.max(0) > 0
    if not varies.all():
        notes.append(f"left out, having one value only: {', '.join(names[~varies])}")
    few = factors.max(0) < _MAX_VALUES
    if not few.all():
        notes.append(f"left out, having more than {_MAX_VALUES} values: {', '.join(names[~few])}")
    factors, names = factors[:, varies & few], names[varies & few]
    no_codes = np.empty((len(factors), 0))
    is_grid = len(names) > 0 and full_grid(no_codes, factors, (factors.max(0) + 1).tolist()) is not None
    if len(names) and not is_grid:
        rows, _ = _own_rows(len(factors), seed)
        varies = np.array([len(np.unique(column)) > 1 for column in factors[rows].T])
        if not varies.all():
            left_out = ", ".join(names[~varies])
            notes.append(f"left out, having one value only in the images drawn to train on: {left_out}")
        factors, names = factors[:, varies], names[varies]
    if not len(names) or len(factors) < _MIN_POINTS:
        notes.append(f"no scores: they need a factor that varies and at least {_MIN_POINTS} images")
        return None, [], notes, False
    return factors, names.tolist(), notes, is_grid


def _own_rows(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of a set that is no grid, the rows to train on and others to test."""
    order = _rng(seed, "points").permutation(count)
    num_test = min(NUM_TEST, count // 3)
    return order[num_test : num_test + NUM_TRAIN], order[:num_test]


def _kept_for_test(
    factors: NDArray[np.int64], sizes: Sequence[int], rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Of a grid with several images a combination, a third of each one's for the test, (N,); None where one has a
    single image."""
    cells = np.ravel_multi_index(tuple(factors.T), tuple(sizes))
    if np.bincount(cells).min() < 2:
        return None
    order = rng.permutation(len(cells))
    found = RowsByKey(cells[order])  # Of each cell, its images by chance.
    place = np.arange(len(cells)) - np.repeat(found.starts, found.counts)
    kept = np.zeros(len(cells), dtype=bool)
    kept[order[found.rows]] = place < np.repeat(np.maximum(1, found.counts // 3), found.counts)
    return kept


def _draw_points(
    encode: Callable[[NDArray[np.int64] | None], Codes],
    factors: NDArray[np.int64],
    seed: int,
    *,
    is_grid: bool,
    with_groups: bool,
    with_tests: bool,
) -> _Points:
    """Args: encode, codes of the given rows, or of all; is_grid, whether every combination of the factors occurs;
    with_groups, whether groups are wanted: they need all codes; with_tests, whether test images are looked at."""
    rng = _rng(seed, "points")
    count, sizes = len(factors), [int(size) for size in factors.max(0) + 1]
    # What is drawn here are rows, in the place of their codes.
    places = np.arange(count, dtype=np.float64)[:, None]
    grid = full_grid(places, factors, sizes) if is_grid else None
    notes, obstacle = [], ""
    if grid is not None:
        kept = _kept_for_test(factors, sizes, rng) if count > math.prod(sizes) else None
        pools = [grid, grid] if kept is None else [full_grid(places[own], factors[own], sizes) for own in (~kept, kept)]
        rows, test_rows = (
            pool.draw(num, rng)[0][:, 0].astype(np.int64)
            for pool, num in zip(pools, (NUM_TRAIN, NUM_TEST), strict=True)
            if pool is not None
        )
        if count > math.prod(sizes):
            notes.append("several images have the same factors: each draw takes one of them at random")
        repeated = float(np.isin(test_rows, rows).mean())
        if with_tests and repeated > _REPEATED:
            notes.append(
                f"{repeated:.0%} of the images that SAP and DCI were tested on they were also trained on: the set has "
                f"{count} images, and both are drawn from all of them, as the papers do"
            )
    else:
        rows, test_rows = _own_rows(count, seed)
        obstacle = _obstacle(RowFactors(places, factors), factors)
        notes = [
            "not every combination of the factors occurs: scores are of the set's own images "
            f"({len(rows)} to train on, {len(test_rows)} others to test), not of factors drawn independently; "
            "compare them only with scores on this set"
        ]
    groups: FactorSamples | None = None
    if with_groups or count <= NUM_TRAIN + NUM_TEST:
        codes = encode(None)
        train_codes, test_codes = codes[rows], codes[test_rows]
        if not obstacle:
            groups = full_grid(codes, factors, sizes) if grid is not None else RowFactors(codes, factors)
    else:
        needed, positions = np.unique(np.concatenate([rows, test_rows]), return_inverse=True)
        train_codes, test_codes = np.split(encode(needed)[positions], [len(rows)])
    return _Points(
        "rows" if grid is None else "grid",
        train_codes,
        factors[rows],
        test_codes,
        factors[test_rows],
        groups=groups,
        obstacle=obstacle,
        notes=notes,
    )


def _obstacle(samples: RowFactors, factors: NDArray[np.int64]) -> str:
    """Why rows that share a factor are no stand-in for fixing it and drawing the others; empty where they are."""
    if samples.fewest_rows < _MIN_ROWS_PER_VALUE:
        return f"a factor has a value that fewer than {_MIN_ROWS_PER_VALUE} images show"
    if dependence(factors) > MAX_DEPENDENCE:
        return "the factors depend on each other, so one cannot be fixed while the others vary freely"
    return ""


def dependence(factors: NDArray[np.int64]) -> float:
    """The largest share of a factor's entropy that another factor tells, over all pairs; 0 for independent factors.

    Less the bias of such an estimate from N rows, (|a| − 1)(|b| − 1)/2N nats.  Args: factors, (N, F), compact.
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


def _mig(points: _Points, work: _Work) -> dict[str, Score]:
    if points.codes.shape[1] < 2:
        return {"mig": Score(None, note="needs at least two dimensions")}
    score = m.mig_of_counts(points.codes, points.factors)
    return {"mig": Score(score(None), _interval("mig", score, points, work))}


def _modularity(points: _Points, work: _Work) -> dict[str, Score]:
    if points.factors.shape[1] < 2:
        return {"modularity": Score(None, note="needs at least two factors")}
    score = m.modularity_of_counts(points.codes, points.factors)
    return {"modularity": Score(score(None), _interval("modularity", score, points, work))}


def _interval(
    name: str, score: Callable[[NDArray[np.int64]], float], points: _Points, work: _Work
) -> tuple[float, float]:
    return m.bootstrap_interval(
        score, len(points.codes), work.rng, on_resample=lambda done, total: work.report(name, done, total)
    )


def _sap(points: _Points, work: _Work) -> dict[str, Score]:
    if points.codes.shape[1] < 2:
        return {"sap": Score(None, note="needs at least two dimensions")}
    hits = m.sap_hits(
        points.codes, points.factors, points.test_codes, points.test_factors, num_threads=work.num_threads
    )
    interval = m.bootstrap_interval(lambda counts: m.sap_of_hits(hits, counts), len(hits), work.rng)
    return {"sap": Score(m.sap_of_hits(hits), interval)}


def _factor_vae(points: _Points, work: _Work) -> dict[str, Score]:
    if points.groups is None:
        return {"factor_vae": Score(None, note=points.obstacle)}
    return {"factor_vae": _accuracy(m.factor_vae_hits(points.groups, work.rng), work)}


def _beta_vae(points: _Points, work: _Work) -> dict[str, Score]:
    if points.groups is None:
        return {"beta_vae": Score(None, note=points.obstacle)}
    if points.factors.shape[1] < 2:
        return {"beta_vae": Score(None, note="needs at least two factors")}
    return {"beta_vae": _accuracy(m.beta_vae_hits(points.groups, work.rng), work)}


def _dci(points: _Points, work: _Work) -> dict[str, Score]:
    found = m.dci(
        points.codes,
        points.factors,
        points.test_codes,
        points.test_factors,
        seed=work.seed % 2**32,
        num_threads=work.num_threads,
        on_factor=lambda done, total: work.report("dci", done, total),
    )
    one_factor, one_dimension = points.factors.shape[1] < 2, points.codes.shape[1] < 2
    return {
        "dci_disentanglement": Score(None, note="needs at least two factors")
        if one_factor
        else Score(found.disentanglement),
        "dci_completeness": Score(None, note="needs at least two dimensions")
        if one_dimension
        else Score(found.completeness),
        "dci_informativeness": _accuracy(found.hits, work),
    }


def _accuracy(hits: m.Flags, work: _Work) -> Score:
    return Score(float(hits.mean()), m.bootstrap_interval(m.accuracy_of_counts(hits), len(hits), work.rng))


_SCORERS: dict[str, Callable[[_Points, _Work], dict[str, Score]]] = {
    "mig": _mig,
    "modularity": _modularity,
    "sap": _sap,
    "factor_vae": _factor_vae,
    "beta_vae": _beta_vae,
    "dci": _dci,
}
