"""The scorers: each turns the points of a set into one or more scores by name; free of torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics import infogan_cr
from training.metrics import scores as m
from training.metrics.bootstrap import accuracy_of_counts, bootstrap_interval
from training.metrics.dci_es import dci_es
from training.metrics.infomec_scores import infomec
from training.metrics.points import Points
from training.metrics.regression import dci_columns, sap_columns
from training.metrics.tad import tad

_INFOGAN_CR_DCI = (
    "dci_lasso_disentanglement", "dci_lasso_completeness", "dci_forest_disentanglement", "dci_forest_completeness",
)  # fmt: skip

Progress = Callable[[str, int, int], None]
"""A function that takes a stage, the number done and the total."""


@dataclass(frozen=True)
class Score:
    """A score, in [0, 1] unless its definition says otherwise, with its 95 % bootstrap interval over the points."""

    value: float | None
    """The score; None if it is not defined."""
    interval: tuple[float, float] | None = None
    """The interval; None if each resample would need a newly trained classifier, or if none is computed."""
    note: str = ""
    """The reason why the score is not defined."""


@dataclass(frozen=True)
class Work:
    """What a scorer takes beside the points."""

    rng: np.random.Generator
    seed: int
    num_threads: int
    report: Progress


def _mig(points: Points, work: Work) -> dict[str, Score]:
    if points.codes.shape[1] < 2:
        return {"mig": Score(None, note="needs at least two dimensions")}
    score = m.mig_of_counts(points.codes, points.factors)
    return {"mig": Score(score(None), _interval("mig", score, points, work))}


def _mig_sup(points: Points, work: Work) -> dict[str, Score]:
    if points.factors.shape[1] < 2:
        return {"mig_sup": Score(None, note="needs at least two factors")}
    score = m.mig_sup_of_counts(points.codes, points.factors)
    return {"mig_sup": Score(score(None), _interval("mig_sup", score, points, work))}


def _infomec(points: Points, work: Work) -> dict[str, Score]:
    found = infomec(points.codes, points.factors, seed=work.seed % 2**32)
    modularity, compactness = Score(found.modularity), Score(found.compactness)
    if points.factors.shape[1] < 2:
        modularity = Score(None, note="needs at least two factors")
    if found.active.sum() < 2:
        compactness = Score(None, note="needs at least two active dimensions")
    return {
        "infomec_modularity": modularity,
        "infomec_compactness": compactness,
        "infomec_explicitness": Score(found.explicitness),
    }


def _modularity(points: Points, work: Work) -> dict[str, Score]:
    if points.factors.shape[1] < 2:
        return {"modularity": Score(None, note="needs at least two factors")}
    score = m.modularity_of_counts(points.codes, points.factors)
    return {"modularity": Score(score(None), _interval("modularity", score, points, work))}


def _interval(
    name: str, score: Callable[[NDArray[np.int64]], float], points: Points, work: Work
) -> tuple[float, float]:
    return bootstrap_interval(
        score, len(points.codes), work.rng, on_resample=lambda done, total: work.report(name, done, total)
    )


def _sap(points: Points, work: Work) -> dict[str, Score]:
    if points.codes.shape[1] < 2:
        return {"sap": Score(None, note="needs at least two dimensions")}
    if points.continuous.any():
        return {"sap": Score(_mixed_sap(points, work))}
    hits = m.sap_hits(
        points.codes, points.factors, points.test_codes, points.test_factors, num_threads=work.num_threads
    )
    interval = bootstrap_interval(lambda counts: m.sap_of_hits(hits, counts), len(hits), work.rng)
    return {"sap": Score(m.sap_of_hits(hits), interval)}


def _mixed_sap(points: Points, work: Work) -> float:
    """Returns the SAP score of factors of which some are continuous."""
    predicted = sap_columns(points.codes, points.numbers)
    classes = ~points.continuous
    if classes.any():
        hits = m.sap_hits(
            points.codes,
            points.factors[:, classes],
            points.test_codes,
            points.test_factors[:, classes],
            num_threads=work.num_threads,
        )
        predicted[:, classes] = hits.mean(0)
    top = np.sort(predicted, axis=0)
    return float(np.mean(top[-1] - top[-2]))


def _factor_vae(points: Points, work: Work) -> dict[str, Score]:
    if points.groups is None:
        return {"factor_vae": Score(None, note=points.obstacle)}
    return {"factor_vae": _accuracy(m.factor_vae_hits(points.groups, work.rng), work)}


def _beta_vae(points: Points, work: Work) -> dict[str, Score]:
    if points.groups is None:
        return {"beta_vae": Score(None, note=points.obstacle)}
    if points.factors.shape[1] < 2:
        return {"beta_vae": Score(None, note="needs at least two factors")}
    return {"beta_vae": _accuracy(m.beta_vae_hits(points.groups, work.rng), work)}


def _dci(points: Points, work: Work) -> dict[str, Score]:
    classes, importance = ~points.continuous, np.zeros((points.codes.shape[1], points.factors.shape[1]))
    total, num_classes = len(classes), int(classes.sum())
    right = np.zeros(total)
    interval = None
    if classes.any():
        found = m.dci(
            points.codes,
            points.factors[:, classes],
            points.test_codes,
            points.test_factors[:, classes],
            seed=work.seed % 2**32,
            num_threads=work.num_threads,
            on_factor=lambda done, _: work.report("dci", done, total),
        )
        importance[:, classes], right[classes] = found.importance, found.hits.mean(0)
        if classes.all():
            interval = _accuracy(found.hits, work).interval
    if points.continuous.any():
        importance[:, points.continuous], right[points.continuous] = dci_columns(
            points.codes,
            points.numbers[:, points.continuous],
            points.test_codes,
            points.test_numbers[:, points.continuous],
            seed=work.seed % 2**32,
            on_factor=lambda done, _: work.report("dci", num_classes + done, total),
        )
    disentanglement, completeness = Score(m.disentanglement(importance)), Score(m.completeness(importance))
    if points.factors.shape[1] < 2:
        disentanglement = Score(None, note="needs at least two factors")
    if points.codes.shape[1] < 2:
        completeness = Score(None, note="needs at least two dimensions")
    return {
        "dci_disentanglement": disentanglement,
        "dci_completeness": completeness,
        "dci_informativeness": Score(float(right.mean()), interval),
    }


def _dci_es(points: Points, work: Work) -> dict[str, Score]:
    found = dci_es(
        points.codes,
        points.numbers,
        points.test_codes,
        points.test_numbers,
        points.ordered,
        seed=work.seed % 2**32,
        num_threads=work.num_threads,
        on_forest=lambda done, total: work.report("dci_es", done, total),
    )
    return {"dci_es_explicitness": Score(found.explicitness), "dci_es_size": Score(found.size)}


def _tad(points: Points, work: Work) -> dict[str, Score]:
    binary = (points.factors.max(0) - points.factors.min(0) == 1) & ~points.continuous
    if not binary.any():
        note = "needs attributes of two values"
    elif points.codes.shape[1] < 2:
        note = "needs at least two dimensions"
    else:
        found = tad(points.codes, points.factors[:, binary])
        return {"tad": Score(found.total), "tad_captured": Score(float(found.captured.sum()))}
    return {"tad": Score(None, note=note), "tad_captured": Score(None, note=note)}


def _infogan_cr(points: Points, work: Work) -> dict[str, Score]:
    names = [f"infogan_cr_{name}" for name in ("factor_vae", "beta_vae", "sap", *_INFOGAN_CR_DCI)]
    if points.factors.shape[1] < 2 or points.codes.shape[1] < 2:
        return dict.fromkeys(names, Score(None, note="needs at least two factors and two dimensions"))
    if points.groups is None:
        of_groups = [Score(None, note=points.obstacle)] * 2
    else:
        groups = infogan_cr.draw_groups(points.groups, work.rng)
        of_groups = [Score(infogan_cr.factor_vae(groups)), Score(infogan_cr.beta_vae(groups))]
    codes, numbers = points.codes, points.numbers
    others = (
        infogan_cr.sap(codes, numbers, points.ordered),
        *infogan_cr.dci_lasso(codes, numbers),
        *infogan_cr.dci_forest(codes, numbers, points.names, seed=work.seed % 2**32),
    )
    return dict(zip(names, [*of_groups, *map(Score, others)], strict=True))


def _accuracy(hits: m.Flags, work: Work) -> Score:
    return Score(float(hits.mean()), bootstrap_interval(accuracy_of_counts(hits), len(hits), work.rng))


SCORERS: dict[str, Callable[[Points, Work], dict[str, Score]]] = {
    "mig": _mig,
    "mig_sup": _mig_sup,
    "modularity": _modularity,
    "sap": _sap,
    "factor_vae": _factor_vae,
    "beta_vae": _beta_vae,
    "infomec": _infomec,
    "dci": _dci,
    "tad": _tad,
    "infogan_cr": _infogan_cr,
    "dci_es": _dci_es,
}
