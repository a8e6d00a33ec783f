"""Evaluation of a trained network on a packed set: losses, active dimensions and disentanglement scores.

Every score is computed from codes, and no image is encoded twice for it. Without the scores that draw groups
(factor_vae, beta_vae), only the images that the others draw are encoded, which are 15 000 of the 737 280 of dSprites.
"""

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
from training.metrics.agreement import UdrScores, udr
from training.metrics.bootstrap import accuracy_of_counts, bootstrap_interval
from training.metrics.infomec_scores import infomec
from training.metrics.information import correlation, factor_entropy, mutual_information
from training.metrics.names import METRICS
from training.metrics.points import NUM_TRAIN, Points, VaryingFactors, draw_points, generator_for, varying_factors
from training.summary import SUMMARY_IMAGES, Progress, encode, floor_of, summarise

__all__ = ["METRICS", "NUM_TRAIN", "Evaluation", "Score", "encode_images", "evaluate_agreement", "evaluate_model"]

_NEED_GROUPS = ("factor_vae", "beta_vae")
_NEED_TESTS = ("dci", "sap")


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95 % bootstrap interval over the evaluation points."""

    value: float | None
    """The score; None if it is not defined."""
    interval: tuple[float, float] | None = None
    """The interval; None if each resample would need a newly trained classifier."""
    note: str = ""
    """The reason why the score is not defined."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of evaluate_model."""

    scores: dict[str, Score]
    """The scores by name: mig, mig_sup, modularity, sap, factor_vae, beta_vae, infomec_modularity, infomec_compactness,
    infomec_explicitness, dci_disentanglement, dci_completeness and dci_informativeness; empty for a set without
    factors."""
    sampling: str | None
    """The sampling: grid (uniform, independent factors as in the papers), rows (as in the set) or None (no factors)."""
    factor_names: list[str]
    factor_entropies: list[float]
    """The entropy of each factor in the sample, (F,) nats, which bounds the information about it."""
    correlation: list[list[float]]
    """|Pearson's r| of each dimension with each factor, (D, F), which says little about a factor without an order."""
    mutual_information: list[list[float]]
    """The mutual information of each dimension with each factor, (D, F) nats."""
    reconstruction_loss: float
    """The loss of decoding the posterior mean, in nats per image."""
    explained_variance: float | None
    """The share of the pixels' variance around the mean image that the reconstructions explain; None for one image
    many times."""
    bernoulli_floor: float | None
    """The lowest reconstruction_loss that these images allow; None for a Gaussian likelihood."""
    kl: float
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    aggregate_mean: list[float]
    aggregate_std: list[float]
    loss_images: str
    """The images that the losses were computed on: validation (the set's own split), given or sample."""
    num_loss_images: int
    num_images: int
    seed: int
    seconds: float
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns all fields as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Work:
    """The arguments of a scorer beside the points."""

    rng: np.random.Generator
    seed: int
    num_threads: int
    report: Progress


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

    The value of a score depends only on the network, the set and the seed. The other requested scores change the
    batches of the encoder, and with them only the rounding of codes.

    Args:
        network: The network, on `device`.
        pack: The set.
        device: Where images are encoded.
        metrics: Scores out of METRICS; ignored for a set without factors.
        seed: Seed of every draw.
        likelihood: bernoulli or gaussian.
        validation: Indices of the images for the losses. The default is the set's validation split, or 10 000 images
            drawn by the seed if it has none.
        num_threads: Threads of the classifiers (default: all cores).
        on_progress: Called with a stage, a count and a total; an exception that it raises ends the evaluation.

    Raises:
        ValueError: A metric is unknown.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"metrics: {', '.join(unknown)} unknown; there are {', '.join(METRICS)}")
    began = time.monotonic()
    device, report = torch.device(device), on_progress or (lambda stage, done, total: None)
    indices, loss_images = _loss_indices(pack, validation, seed)
    losses = _losses(network, pack, indices, likelihood, device, report)
    factors, notes = varying_factors(pack, seed)
    points: Points | None = None
    scores: dict[str, Score] = {}
    if factors is not None:
        points = _encoded_points(network, pack, factors, metrics, seed, device, report)
        notes += points.notes
        scores = _scores(points, metrics, seed, num_threads or os.cpu_count() or 1, report)
    elif not metrics:
        notes = []
    return Evaluation(
        scores=scores,
        factor_names=[] if factors is None else factors.names,
        loss_images=loss_images,
        num_images=len(pack.images),
        seed=seed,
        seconds=round(time.monotonic() - began, 1),
        notes=notes,
        **_statistics(points),
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
    """Encodes images in batches.

    Args:
        network: The network, on `device`.
        images: (N, H, W, C) uint8.
        indices: Which images to encode (default: all).
        device: Where they are encoded.
        on_progress: Called with `encoding`, the number encoded and the total.

    Returns:
        (N, D), the posterior means.
    """
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
) -> UdrScores:
    """Ranks networks that differ only by their training seed by how much they agree (UDR); needs no factors.

    Args:
        networks: Two or more networks that take the set's images.
        pack: The set.
        device: Where images are encoded.
        seed: Decides which images are drawn from the whole set.
        similarity: lasso or spearman.
        num_images: Number of images to draw.
        on_progress: Called with `agreement`, the number of networks encoded and the total.
    """
    count = len(pack.images)
    rows = np.sort(generator_for(seed, "agreement").permutation(count)[:num_images])
    found = []
    for done, network in enumerate(networks, 1):
        found.append(encode(network, pack.images, rows, torch.device(device)))
        if on_progress is not None:
            on_progress("agreement", done, len(networks))
    return udr([codes for codes, _ in found], [kl for _, kl in found], similarity=similarity)


def _loss_indices(pack: Pack, validation: NDArray[np.int64] | None, seed: int) -> tuple[NDArray[np.int64], str]:
    """Returns the indices of the images that losses are computed on, and Evaluation.loss_images."""
    if validation is not None:
        return validation, "given"
    if pack.split is not None and (pack.split == VALIDATION_SPLIT).any():
        return np.flatnonzero(pack.split == VALIDATION_SPLIT), "validation"
    count = len(pack.images)
    return np.sort(generator_for(seed, "losses").permutation(count)[:SUMMARY_IMAGES]), "sample"


def _losses(
    network: VAE,
    pack: Pack,
    indices: NDArray[np.int64],
    likelihood: str,
    device: torch.device,
    report: Progress,
) -> dict[str, Any]:
    """Returns the fields of an Evaluation that describe its losses."""
    report("losses", 0, len(indices))
    losses = summarise(
        network, pack.images, indices, likelihood, device, lambda done, total: report("losses", done, total)
    )
    return {
        **losses,
        "bernoulli_floor": floor_of(pack.images, indices, likelihood),
        "kl": sum(losses["kl_per_dimension"]),
        "active_dimensions": active_dimensions(losses["kl_per_dimension"]),
        "num_loss_images": len(indices),
    }


def _encoded_points(
    network: VAE,
    pack: Pack,
    factors: VaryingFactors,
    metrics: Sequence[str],
    seed: int,
    device: torch.device,
    report: Progress,
) -> Points:
    """Draws and encodes the points that the scores need."""
    return draw_points(
        lambda rows: encode_images(network, pack.images, rows, device=device, on_progress=report),
        factors,
        seed,
        with_groups=any(name in metrics for name in _NEED_GROUPS),
        with_tests=any(name in metrics for name in _NEED_TESTS),
    )


def _scores(points: Points, metrics: Sequence[str], seed: int, num_threads: int, report: Progress) -> dict[str, Score]:
    """Computes the requested scores, the cheap ones first."""
    scores: dict[str, Score] = {}
    for metric in (name for name in METRICS if name in metrics):
        report(metric, 0, 1)
        scores |= _SCORERS[metric](points, _Work(generator_for(seed, metric), seed, num_threads, report))
        report(metric, 1, 1)
    return scores


def _statistics(points: Points | None) -> dict[str, Any]:
    """Returns the fields of an Evaluation that describe its points."""
    if points is None:
        return {"sampling": None, "factor_entropies": [], "correlation": [], "mutual_information": []}
    return {
        "sampling": points.sampling,
        "factor_entropies": factor_entropy(points.factors).tolist(),
        "correlation": correlation(points.codes, points.factors).tolist(),
        "mutual_information": mutual_information(points.codes, points.factors).tolist(),
    }


def _mig(points: Points, work: _Work) -> dict[str, Score]:
    if points.codes.shape[1] < 2:
        return {"mig": Score(None, note="needs at least two dimensions")}
    score = m.mig_of_counts(points.codes, points.factors)
    return {"mig": Score(score(None), _interval("mig", score, points, work))}


def _mig_sup(points: Points, work: _Work) -> dict[str, Score]:
    if points.factors.shape[1] < 2:
        return {"mig_sup": Score(None, note="needs at least two factors")}
    score = m.mig_sup_of_counts(points.codes, points.factors)
    return {"mig_sup": Score(score(None), _interval("mig_sup", score, points, work))}


def _infomec(points: Points, work: _Work) -> dict[str, Score]:
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


def _modularity(points: Points, work: _Work) -> dict[str, Score]:
    if points.factors.shape[1] < 2:
        return {"modularity": Score(None, note="needs at least two factors")}
    score = m.modularity_of_counts(points.codes, points.factors)
    return {"modularity": Score(score(None), _interval("modularity", score, points, work))}


def _interval(
    name: str, score: Callable[[NDArray[np.int64]], float], points: Points, work: _Work
) -> tuple[float, float]:
    return bootstrap_interval(
        score, len(points.codes), work.rng, on_resample=lambda done, total: work.report(name, done, total)
    )


def _sap(points: Points, work: _Work) -> dict[str, Score]:
    if points.codes.shape[1] < 2:
        return {"sap": Score(None, note="needs at least two dimensions")}
    hits = m.sap_hits(
        points.codes, points.factors, points.test_codes, points.test_factors, num_threads=work.num_threads
    )
    interval = bootstrap_interval(lambda counts: m.sap_of_hits(hits, counts), len(hits), work.rng)
    return {"sap": Score(m.sap_of_hits(hits), interval)}


def _factor_vae(points: Points, work: _Work) -> dict[str, Score]:
    if points.groups is None:
        return {"factor_vae": Score(None, note=points.obstacle)}
    return {"factor_vae": _accuracy(m.factor_vae_hits(points.groups, work.rng), work)}


def _beta_vae(points: Points, work: _Work) -> dict[str, Score]:
    if points.groups is None:
        return {"beta_vae": Score(None, note=points.obstacle)}
    if points.factors.shape[1] < 2:
        return {"beta_vae": Score(None, note="needs at least two factors")}
    return {"beta_vae": _accuracy(m.beta_vae_hits(points.groups, work.rng), work)}


def _dci(points: Points, work: _Work) -> dict[str, Score]:
    found = m.dci(
        points.codes,
        points.factors,
        points.test_codes,
        points.test_factors,
        seed=work.seed % 2**32,
        num_threads=work.num_threads,
        on_factor=lambda done, total: work.report("dci", done, total),
    )
    disentanglement, completeness = Score(found.disentanglement), Score(found.completeness)
    if points.factors.shape[1] < 2:
        disentanglement = Score(None, note="needs at least two factors")
    if points.codes.shape[1] < 2:
        completeness = Score(None, note="needs at least two dimensions")
    return {
        "dci_disentanglement": disentanglement,
        "dci_completeness": completeness,
        "dci_informativeness": _accuracy(found.hits, work),
    }


def _accuracy(hits: m.Flags, work: _Work) -> Score:
    return Score(float(hits.mean()), bootstrap_interval(accuracy_of_counts(hits), len(hits), work.rng))


_SCORERS: dict[str, Callable[[Points, _Work], dict[str, Score]]] = {
    "mig": _mig,
    "mig_sup": _mig_sup,
    "modularity": _modularity,
    "sap": _sap,
    "factor_vae": _factor_vae,
    "beta_vae": _beta_vae,
    "infomec": _infomec,
    "dci": _dci,
}
