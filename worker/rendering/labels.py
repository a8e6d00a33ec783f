"""Names for latent dimensions: what moving each one changes, measured on decoded frames.

Every dimension gets a short label ("moves right", "top: brown → blue", "lower left changes") with its strength and a
heat map. With a data set that has factors, it also gets the factor that it carries most information about.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics.cluster import expected_mutual_information

from models.info import ACTIVE_KL_NATS, LABEL_SPAN, MAX_LABEL_LENGTH, ModelInfo
from models.networks import VAE
from models.priors import draw_prior
from training.data.packs import Pack
from training.metrics.evaluation import encode_images
from training.metrics.information import bins_of, compact, correlation, factor_entropy, mutual_information
from training.summary import FAMILIAR_IMAGES, SUMMARY_IMAGES, familiar, floor_of, summarise
from worker.rendering.effects import DimensionEffect, describe_frames

NUM_STARTS, NUM_STEPS = 16, 7
_MEASURED_PX = 64
"""Size to which larger frames are reduced by averaging; everything that a label describes is still visible."""
FACTOR_IMAGES = 10_000
MIN_FACTOR_SHARE = 0.02
"""Share of a factor's entropy; a dimension that carries less of every factor has no best factor."""


def label_model(
    network: VAE, info: ModelInfo, pack: Pack | None = None, *, device: torch.device | str = "cpu", seed: int = 0
) -> ModelInfo:
    """Fills in dimension_effects and dimension_labels of a model's description.

    A label that a person wrote stays. It is recognised because it differs from the label of the previous effect.

    Args:
        network: The network, on `device`.
        info: The description.
        pack: A set whose images the traversals start from, and whose factors are named. Without one, they start from
            draws from the aggregate posterior if it is known, else from the prior. The first image is the typical one
            if that is known.
        device: Where the network runs.
        seed: Decides which images or draws are taken.

    Returns:
        The completed description.
    """
    effects = measure_effects(network, _starts(network, info, pack, torch.device(device), seed))
    if pack is not None and pack.factors is not None and pack.factors.shape[1]:
        effects = _with_factors(effects, network, pack, torch.device(device), seed)
        # The mean of a collapsed dimension may follow a factor, but far below its noise, so it names nothing.
        for k, kl in enumerate(info.kl_per_dimension):
            if kl < ACTIVE_KL_NATS:
                effects[k] = replace(effects[k], factor=None)
    effects = told_apart(effects)
    labels = [effect.label for effect in effects]
    before = [effect.get("label", "") for effect in info.dimension_effects] or [""] * len(labels)
    for k, label in enumerate(info.dimension_labels):
        if label and label != before[k]:
            labels[k] = label
    return replace(info, dimension_labels=labels, dimension_effects=[effect.to_json() for effect in effects])


def with_statistics(
    network: VAE, info: ModelInfo, pack: Pack, *, device: torch.device | str, seed: int = 0
) -> ModelInfo:
    """Fills in losses, KL per dimension and the aggregate posterior of a model's description.

    Args:
        network: The network, on `device`.
        info: The description.
        pack: The set of which a sample is encoded.
        device: Where the network runs.
        seed: Decides which images are sampled.

    Returns:
        The completed description.
    """
    count = len(pack.images)
    indices = np.sort(np.random.default_rng(seed).permutation(count)[:SUMMARY_IMAGES])
    found = summarise(network, pack.images, indices, info.likelihood, torch.device(device))
    dataset = {"id": pack.info.id, "name": pack.info.name, "digest": pack.info.digest, "num_images": count}
    floor = floor_of(pack.images, indices, info.likelihood)
    info = replace(info, dataset=info.dataset or dataset, bernoulli_floor=floor, **found)
    return with_familiarity(network, info, pack, device=device, seed=seed)


def with_familiarity(
    network: VAE, info: ModelInfo, pack: Pack, *, device: torch.device | str, seed: int = 0
) -> ModelInfo:
    """Fills in what tells unfamiliar pictures, and the typical picture, of a model's description.

    Args:
        network: The network, on `device`.
        info: The description.
        pack: The set of which a sample is encoded.
        device: Where the network runs.
        seed: Decides which images are sampled.

    Returns:
        The completed description.
    """
    indices = np.sort(np.random.default_rng(seed).permutation(len(pack.images))[:FAMILIAR_IMAGES])
    return replace(info, **familiar(network, pack.images, indices, info.likelihood, torch.device(device)))


@torch.inference_mode()
def measure_effects(network: VAE, starts: torch.Tensor) -> list[DimensionEffect]:
    """Measures what moving each dimension changes.

    Args:
        network: The network.
        starts: (N, D) latents on the network's device. From each of them, each dimension is moved alone.

    Returns:
        D effects.
    """
    N, D = starts.shape
    span = LABEL_SPAN * network.config.latent_unit
    values = torch.linspace(-span, span, NUM_STEPS, device=starts.device)
    effects = []
    for k in range(D):
        latents = starts[:, None].repeat(1, NUM_STEPS, 1)
        latents[:, :, k] = values
        images = network.decode(latents.reshape(-1, D))
        if images.shape[-1] > _MEASURED_PX:
            images = torch.nn.functional.avg_pool2d(images, images.shape[-1] // _MEASURED_PX)
        frames = images.permute(0, 2, 3, 1).float().cpu().numpy()
        effects.append(describe_frames(frames.reshape(N, NUM_STEPS, *frames.shape[1:])))
    return effects


def told_apart(effects: list[DimensionEffect]) -> list[DimensionEffect]:
    """Returns the effects with labels of which no two are equal, apart from empty ones.

    Equal labels get the strongest weaker effect that only one of them has, and failing that their rank by strength. No
    label gets longer than MAX_LABEL_LENGTH.

    Args:
        effects: The effects of all dimensions of a model.
    """
    labels = [effect.label for effect in effects]
    for label in {label for label in labels if label and labels.count(label) > 1}:
        group = sorted((k for k, own in enumerate(labels) if own == label), key=lambda k: -effects[k].strength)
        taken = set(labels)
        for rank, k in enumerate(group):
            short, number = f"(no. {rank + 1})", f"(no. {rank + 1} by strength)"
            choices = [f"{label}, {detail}" for detail in effects[k].details]
            choices += [f"{label} {number}", f"{label} {short}", f"{label.split(', ')[0]} {short}"]
            free = [text for text in choices if text not in taken and len(text) <= MAX_LABEL_LENGTH]
            labels[k] = free[0] if free else f"{label[: MAX_LABEL_LENGTH - len(short) - 1]} {short}"
            taken.add(labels[k])
    return [replace(effect, label=label) for effect, label in zip(effects, labels, strict=True)]


def _starts(network: VAE, info: ModelInfo, pack: Pack | None, device: torch.device, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    D = network.config.latent_dim
    count = max(4, min(NUM_STARTS, 512 // D))  # With 16 starts, 256 dimensions would take minutes on a CPU.
    if pack is not None:
        indices = np.sort(rng.permutation(len(pack.images))[:count])
        codes = encode_images(network, pack.images, indices, device=device)
        if info.typical_mean:
            codes[0] = info.typical_mean
        return torch.from_numpy(codes).to(device)
    if info.aggregate_std:
        draws = rng.standard_normal((count, D)) * np.array(info.aggregate_std) + np.array(info.aggregate_mean)
    else:
        draws = draw_prior(rng, (count, D), network.config.num_categories)
    return torch.from_numpy(draws.astype(np.float32)).to(device)


def _with_factors(
    effects: list[DimensionEffect], network: VAE, pack: Pack, device: torch.device, seed: int
) -> list[DimensionEffect]:
    assert pack.factors is not None
    rows = np.sort(np.random.default_rng(seed).permutation(len(pack.images))[:FACTOR_IMAGES])
    codes = encode_images(network, pack.images, rows, device=device)
    best = best_factors(codes, np.asarray(pack.factors)[rows], list(pack.info.factor_names))
    return [_name_by_factor(replace(e, factor=factor)) for e, factor in zip(effects, best, strict=True)]


def best_factors(
    codes: NDArray[np.floating], factors: NDArray[np.integer], names: list[str]
) -> list[dict[str, Any] | None]:
    """Finds the factor that each dimension carries most information about.

    Args:
        codes: (N, D).
        factors: (N, F) class indices.
        names: F names.

    Returns:
        D entries with name, correlation (|r|), mutual_information (nats) and share, as in DimensionEffect.factor; None
        for a dimension that carries too little information about every factor.
    """
    indices = compact(factors)
    information, entropies = mutual_information(codes, indices), factor_entropy(indices)
    chance = np.array([[_chance(code, factor) for factor in indices.T] for code in bins_of(codes).T])
    room = np.maximum(entropies - chance, 1e-9)
    shares = np.clip((information - chance) / room, 0, 1) * (entropies > 1e-9)
    correlations = correlation(codes, indices)
    found: list[dict[str, Any] | None] = []
    # With few images, an ordered factor is visible in r before it is visible in mutual information.
    evidence = np.maximum(shares, correlations**2 - _chance_r2(len(codes)))
    for k, f in enumerate(evidence.argmax(1)):
        entry = {
            "name": names[f],
            "correlation": round(float(correlations[k, f]), 4),
            "mutual_information": round(float(information[k, f]), 4),
            "share": round(float(shares[k, f]), 4),
        }
        found.append(entry if evidence[k, f] >= MIN_FACTOR_SHARE else None)
    return found


def _chance(code: NDArray[np.int64], factor: NDArray[np.int64]) -> float:
    """Returns the mutual information that two shuffled columns seem to have, in nats; it is large for few rows."""
    table = np.zeros((int(code.max()) + 1, int(factor.max()) + 1), dtype=np.int64)
    np.add.at(table, (code, factor), 1)
    table = table[table.any(1)][:, table.any(0)]
    return float(expected_mutual_information(table, len(code)))


def _chance_r2(num_points: int) -> float:
    """Returns the r² that unrelated columns exceed in 1 of 20 cases."""
    return 3.84 / num_points


def _name_by_factor(effect: DimensionEffect) -> DimensionEffect:
    """Names an effect after its factor if the label only says that something changes and the factor is well known."""
    vague = effect.label.endswith("changes")
    if vague and effect.factor is not None and (effect.factor["share"] >= 0.4 or effect.factor["correlation"] >= 0.8):
        return replace(effect, label=f"{effect.factor['name']} changes"[:MAX_LABEL_LENGTH])
    return effect
