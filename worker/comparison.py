"""Comparison of two models: which dimensions correspond, how much the models agree, and one picture through both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.info import Preprocessing
from models.priors import draw_prior
from training.metrics.alignment import Pair, align

if TYPE_CHECKING:
    from models.files import LoadedModel
    from models.networks import VAE

Matrix = NDArray[np.float64]
Pixels = NDArray[np.uint8]

NUM_DRAWS = 256
"""Largest number of pictures that each model decodes from its prior; both models encode those of both."""
LEAST_DRAWS = 64
DRAWN_PIXELS = 2**21
"""Pixels that each model decodes, so that the time of a comparison does not depend on the size of the pictures."""
SEED = 0
MOST_ROWS = 24
"""Largest number of dimensions on the sheet of a picture."""
POSITIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""Values of a traversed dimension, in units of NetworkConfig.latent_unit."""


@dataclass(frozen=True)
class Codes:
    """The posterior of the common pictures in one model: means (N, D), and the KL of each dimension, (D,) nats."""

    means: Matrix
    kl: Matrix


def compare(models: Sequence["LoadedModel"]) -> dict[str, Any]:
    """Compares two models on pictures that each decodes from its prior; other sizes and channels are converted.

    Args:
        models: The two models.

    Returns:
        `models`, with losses and KL in nats; `dimensions`, the aligned pairs; `unmatched`, the other active dimensions
        of each; `udr` by similarity; `num_images`.
    """
    from training.metrics.agreement import udr

    codes = _common_codes(models)
    means, kl = [code.means for code in codes], [_kl(model, code) for model, code in zip(models, codes, strict=True)]
    active = [model.info.active_among(values.tolist()) for model, values in zip(models, kl, strict=True)]
    pairs = align(means[0], means[1], active)
    scores = {name: udr(means, kl, similarity=name).pairwise for name in ("lasso", "spearman")}
    used = ({pair.first for pair in pairs}, {pair.second for pair in pairs})
    return {
        "models": [_summary(model, dimensions) for model, dimensions in zip(models, active, strict=True)],
        "dimensions": [_described(pair, models) for pair in pairs],
        "unmatched": [sorted(set(all_) - some) for all_, some in zip(active, used, strict=True)],
        "udr": {name: float(pairwise[0, 1] + pairwise[1, 0]) / 2 for name, pairwise in scores.items()},
        "num_images": len(codes[0].means),
    }


def _kl(model: "LoadedModel", codes: Codes) -> Matrix:
    """Returns the KL of each dimension, (D,) nats: over the model's data set, or the common pictures if unknown."""
    return np.asarray(model.info.kl_per_dimension) if model.info.kl_per_dimension else codes.kl


def _summary(model: "LoadedModel", active: list[int]) -> dict[str, Any]:
    info = model.info
    return {
        "name": info.name,
        "image_size": info.network.image_size,
        "num_channels": info.network.num_channels,
        "latent_dim": info.network.latent_dim,
        "dataset": info.dataset.get("name"),
        "step": info.step,
        "reconstruction_loss": info.reconstruction_loss,
        "bernoulli_floor": info.bernoulli_floor,
        "kl": sum(info.kl_per_dimension) if info.kl_per_dimension else None,
        "kl_per_dimension": info.kl_per_dimension,
        "active_dimensions": active,
        "metrics": info.metrics,
    }


def _described(pair: Pair, models: Sequence["LoadedModel"]) -> dict[str, Any]:
    both = [_kl_and_label(models[0], pair.first), _kl_and_label(models[1], pair.second)]
    return {
        "indices": [pair.first, pair.second],
        "correlation": pair.correlation,
        "kl": [kl for kl, _ in both],
        "labels": [label for _, label in both],
    }


def _common_codes(models: Sequence["LoadedModel"]) -> list[Codes]:
    """Returns the codes of both models for the same pictures, which each decodes from its prior."""
    from worker.rendering.decoder import FrameDecoder

    size = max(model.info.network.image_size for model in models)
    num = max(LEAST_DRAWS, min(NUM_DRAWS, DRAWN_PIXELS // size**2))
    random = np.random.default_rng(SEED)
    drawn = []
    for model in models:
        latents = draw_prior(random, (num, model.info.network.latent_dim), model.info.network.num_categories)
        drawn.append(FrameDecoder(model.network).frames(latents))
    return [_encode(model.network, np.concatenate([_fitted(one, model) for one in drawn])) for model in models]


def _fitted(images: Pixels, model: "LoadedModel") -> Pixels:
    """Returns pictures (N, H, W, C) in the size and with the channels of a model's input."""
    from training.data.images import preprocess_array

    network = model.info.network
    if images.shape[1:] == (network.image_size, network.image_size, network.num_channels):
        return images
    wanted = Preprocessing(image_size=network.image_size, num_channels=network.num_channels, crop="none")
    return np.stack([preprocess_array(image, wanted) for image in images])


def _encode(network: "VAE", images: Pixels) -> Codes:
    import torch

    from models.pixels import to_input

    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [network.posterior(to_input(images[k : k + 64], device)) for k in range(0, len(images), 64)]
        mean = torch.cat([part.mean for part in parts])
        kl = torch.cat([part.kl() for part in parts]).mean(0)
    return Codes(mean.double().cpu().numpy(), kl.double().cpu().numpy())


def picture_through_both(
    models: Sequence["LoadedModel"],
    pictures: Sequence[Pixels],
    numbers: Sequence[dict[str, Any]],
    comparison: dict[str, Any],
) -> bytes:
    """Draws one picture through both models: the original, the reconstructions, and the aligned dimensions.

    Args:
        models: The two models.
        pictures: The picture as the input of each, uint8 (H, W, C).
        numbers: What encode answers for it in each model.
        comparison: What `compare` returned.

    Returns:
        The sheet as PNG.
    """
    from worker.rendering.comparison_sheet import Half, Side, comparison_sheet
    from worker.rendering.decoder import FrameDecoder
    from worker.rendering.encoders import encode_png

    rows = _rows(comparison, models)
    sides, columns = [], []
    for k, (model, values) in enumerate(zip(models, numbers, strict=True)):
        mean, decoder = np.asarray(values["mean"], np.float32), FrameDecoder(model.network)
        halves: list[Half | None] = []
        for row in rows:
            dimension = row["indices"][k]
            # The second model's direction is turned round where the two codes run against each other.
            sign = -1 if k == 1 and (row["correlation"] or 0) < 0 else 1
            if dimension is None:
                halves.append(None)
                continue
            frames = decoder.moved(mean, dimension, POSITIONS, sign)
            halves.append(Half(dimension, row["labels"][k], row["kl"][k], sign, frames))
        columns.append(halves)
        kl, reconstruction = sum(values["kl_per_dimension"]), decoder.frames(mean[None])[0]
        sides.append(Side(model.info.name, pictures[k], reconstruction, values["reconstruction_loss"], kl))
    correlations = [row["correlation"] for row in rows]
    note = f"r: correlation of the two over {comparison['num_images']} pictures of both models"
    return encode_png(comparison_sheet(sides, columns, correlations, POSITIONS, note))


def _rows(comparison: dict[str, Any], models: Sequence["LoadedModel"]) -> list[dict[str, Any]]:
    """Returns the rows of the sheet: the pairs, then the dimensions of one model alone, with None for the other."""
    alone = []
    for k, (dimensions, model) in enumerate(zip(comparison["unmatched"], models, strict=True)):
        for dimension in dimensions:
            (kl, label), empty = _kl_and_label(model, dimension), [(None, None, "")] * 2
            both = [*empty[:k], (dimension, kl, label), *empty[k + 1 :]]
            indices, kls, labels = (list(values) for values in zip(*both, strict=True))
            alone.append({"correlation": None, "indices": indices, "kl": kls, "labels": labels})
    return [*comparison["dimensions"], *alone][:MOST_ROWS]


def _kl_and_label(model: "LoadedModel", dimension: int) -> tuple[float | None, str]:
    """Returns the KL of a dimension in nats, None where it is unknown, and its label, empty where it has none."""
    info = model.info
    kl = info.kl_per_dimension[dimension] if info.kl_per_dimension else None
    return kl, info.dimension_labels[dimension] if info.dimension_labels else ""
