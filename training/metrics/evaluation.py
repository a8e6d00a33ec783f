"""Evaluation of a trained network on a packed set: losses, active dimensions and disentanglement scores.

Every score is computed from codes, and no image is encoded twice for it. Without the scores that draw groups
(factor_vae, beta_vae), only the images that the others draw are encoded, which are 15 000 of the 737 280 of dSprites.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.info import active_dimensions
from models.networks import VAE
from training.data.packs import Pack
from training.inputs import VALIDATION_SPLIT
from training.metrics.agreement import UdrScores, udr
from training.metrics.image_quality import ImageQuality
from training.metrics.information import correlation, factor_entropy, mutual_information
from training.metrics.names import ALL_METRICS, METRICS
from training.metrics.points import NUM_TRAIN, Points, VaryingFactors, draw_points, generator_for, varying_factors
from training.metrics.scorers import SCORERS, Score, Work
from training.summary import SUMMARY_IMAGES, Progress, encode, floor_of, summarise

__all__ = ["METRICS", "NUM_TRAIN", "Evaluation", "Score", "encode_images", "evaluate_agreement", "evaluate_model"]

_NEED_GROUPS = ("factor_vae", "beta_vae", "infogan_cr")
_NEED_TESTS = ("dci", "sap", "dci_es")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of evaluate_model."""

    scores: dict[str, Score]
    """The scores by name: the name of the metric, or for a metric of several scores that name, _ and the score's (see
    docs/metrics.md); empty for a set without factors."""
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
    psnr: float
    """The mean peak signal-to-noise ratio of the reconstructions, dB (image_quality.psnr)."""
    ssim: float | None
    """Their mean structural similarity (image_quality.ssim); None for images of less than 11 px."""
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

    @property
    def picture_scores(self) -> dict[str, Score]:
        """The scores of the reconstructions, which need no factors."""
        ssim = Score(self.ssim, note="" if self.ssim is not None else "needs images of at least 11 px")
        return {"psnr": Score(self.psnr, note="dB"), "ssim": ssim}

    def to_json(self) -> dict[str, Any]:
        """Returns all fields as plain JSON types."""
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

    The value of a score depends only on the network, the set and the seed. The other requested scores change the
    batches of the encoder, and with them only the rounding of codes.

    Args:
        network: The network, on `device`.
        pack: The set.
        device: Where images are encoded.
        metrics: Scores out of ALL_METRICS; ignored for a set without factors.
        seed: Seed of every draw.
        likelihood: bernoulli, gaussian or gaussian_optimal.
        validation: Indices of the images for the losses. The default is the set's validation split, or 10 000 images
            drawn by the seed if it has none.
        num_threads: Threads of the classifiers (default: all cores).
        on_progress: Called with a stage, a count and a total; an exception that it raises ends the evaluation.

    Raises:
        ValueError: A metric is unknown.
    """
    unknown = sorted(set(metrics) - set(ALL_METRICS))
    if unknown:
        raise ValueError(f"metrics: {', '.join(unknown)} unknown; there are {', '.join(ALL_METRICS)}")
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
    quality = ImageQuality()
    losses = summarise(
        network,
        pack.images,
        indices,
        likelihood,
        device,
        lambda done, total: report("losses", done, total),
        quality.add,
    )
    return {
        **losses,
        **quality.means(),
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
    for metric in (name for name in ALL_METRICS if name in metrics):
        report(metric, 0, 1)
        scores |= SCORERS[metric](points, Work(generator_for(seed, metric), seed, num_threads, report))
        report(metric, 1, 1)
    return scores


def _statistics(points: Points | None) -> dict[str, Any]:
    """Returns the fields of an Evaluation that describe its points."""
    if points is None:
        return {"sampling": None, "factor_entropies": [], "correlation": [], "mutual_information": []}
    return {
        "sampling": points.sampling,
        "factor_entropies": factor_entropy(points.factors).tolist(),
        "correlation": correlation(points.codes, points.numbers).tolist(),
        "mutual_information": mutual_information(points.codes, points.factors).tolist(),
    }
