"""Summarises a network's encodings and losses on a set of images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks import VAE
from models.pixels import to_input
from training.objectives.losses import (
    pixel_entropy,
    reconstruction_error,
    reconstruction_loss,
    with_optimal_variance,
)

_BATCH = 256
_ENTROPY = pixel_entropy(torch.arange(256, dtype=torch.float64) / 255).numpy()
"""Entropy of a pixel by its value 0 to 255, nats."""
SUMMARY_IMAGES = 10_000
"""Maximum number of images of which a model's description states the losses."""
FAMILIAR_IMAGES = 4_000
"""Maximum number of images whose percentiles tell unfamiliar pictures."""
_ENCODING_BATCH, _CPU_ENCODING_BATCH = 512, 128
"""Images that are encoded at once. On a CPU, 512 take 1.4 times as long, since their maps do not stay in the caches."""

Progress = Callable[[str, int, int], None]


@torch.no_grad()
def summarise(
    network: VAE,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    likelihood: str,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
    on_pictures: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
) -> dict[str, Any]:
    """Returns losses and the aggregate posterior over the given images, decoding the posterior mean.

    Args:
        network: The network.
        images: All images, (N, H, W, C) uint8.
        indices: Indices of the images to use, (M,).
        likelihood: As in reconstruction_loss; the σ² of `gaussian_optimal` is that of all these images together.
        device: The device of the network.
        on_progress: Function that is called with the number of images done and M.
        on_pictures: Function that is called with each batch and its reconstructions, (B, C, H, W) in [0, 1] each.

    Returns:
        kl_per_dimension, aggregate_mean and aggregate_std as lists of D floats, reconstruction_loss in nats per image,
        and explained_variance, the share of the variance of the pixels around the mean image that the reconstructions
        explain.
    """
    total, loss, error = 0, 0.0, 0.0
    kl, means = torch.zeros(network.config.latent_dim), []
    sums = torch.zeros(2, *images.shape[3:], *images.shape[1:3], dtype=torch.float64)
    for begin in range(0, len(indices), _BATCH):
        batch = to_input(images[indices[begin : begin + _BATCH]], device)
        posterior, size = network.posterior(batch), len(batch)
        mean = posterior.mean
        logits = network.decoder(mean)
        loss += reconstruction_loss(logits, batch, likelihood).item() * size
        pictures = torch.sigmoid(logits)
        error += (pictures - batch).square().sum().item()
        if on_pictures is not None:
            on_pictures(batch, pictures)
        sums += torch.stack([batch.sum(0), batch.square().sum(0)]).double().cpu()
        kl += posterior.kl().mean(0).cpu() * size
        means.append(mean.cpu())
        total += size
        if on_progress is not None:
            on_progress(total, len(indices))
    all_means = torch.cat(means)
    mean_loss = torch.tensor(loss / total, dtype=torch.float64)
    variance = (sums[1] - sums[0].square() / total).sum().item()
    return {
        "explained_variance": 1 - error / variance if variance > 0 else None,
        "reconstruction_loss": with_optimal_variance(mean_loss, likelihood, images[0].size).item(),
        "kl_per_dimension": (kl / total).tolist(),
        "aggregate_mean": all_means.mean(0).tolist(),
        "aggregate_std": all_means.std(0, correction=0).tolist(),
    }


@torch.no_grad()
def familiar(
    network: VAE, images: NDArray[np.uint8], indices: NDArray[np.int64], likelihood: str, device: torch.device
) -> dict[str, Any]:
    """Returns what tells pictures that the network knows from others, and the code of a typical picture.

    The error of a picture is its reconstruction loss less its floor, since the floor alone differs between pictures by
    more than a bad reconstruction costs.

    Args:
        network: The network.
        images: All images, (N, H, W, C) uint8.
        indices: Indices of the images to use, (M,).
        likelihood: As in reconstruction_loss.
        device: The device of the network.

    Returns:
        familiarity and typical_mean, as in ModelInfo.
    """
    errors, kls, means = [], [], []
    for begin in range(0, len(indices), _BATCH):
        batch = to_input(images[indices[begin : begin + _BATCH]], device)
        posterior = network.posterior(batch)
        mean = posterior.mean
        errors.append(reconstruction_error(network.decoder(mean), batch, likelihood).cpu())
        kls.append(posterior.kl().sum(1).cpu())
        means.append(mean.cpu())
    error, kl, codes = torch.cat(errors), torch.cat(kls), torch.cat(means)
    typical = int((codes - codes.mean(0)).square().sum(1).argmin())
    return {
        "familiarity": {
            "reconstruction_error_p99": float(np.percentile(error.numpy(), 99)),
            "kl_p99": float(np.percentile(kl.numpy(), 99)),
        },
        "typical_mean": codes[typical].tolist(),
    }


@torch.inference_mode()
def encode(
    network: VAE,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64] | None,
    device: torch.device,
    on_progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Encodes images.

    Args:
        network: The network.
        images: All images, (N, H, W, C) uint8.
        indices: Indices of the images to encode, (M,); None encodes all.
        device: The device of the network.
        on_progress: Function that is called with "encoding", the number of images done and M.

    Returns:
        Posterior means, (M, D), and the mean KL of each dimension, (D,), nats.
    """
    count = len(images) if indices is None else len(indices)
    codes = np.empty((count, network.config.latent_dim), dtype=np.float32)
    kl = np.zeros(network.config.latent_dim)
    size = _CPU_ENCODING_BATCH if device.type == "cpu" else _ENCODING_BATCH
    for begin in range(0, count, size):
        rows = slice(begin, min(begin + size, count))
        batch = images[rows] if indices is None else images[indices[rows]]
        posterior = network.posterior(to_input(batch, device))
        codes[rows] = posterior.mean.float().cpu().numpy()
        kl += posterior.kl().mean(0).double().cpu().numpy() * len(batch)
        if on_progress is not None:
            on_progress("encoding", rows.stop, count)
    return codes, kl / count


def floor_of(images: NDArray[np.uint8], indices: NDArray[np.int64], likelihood: str) -> float | None:
    """Returns the lowest reconstruction loss that any network can have on the given images (losses.bernoulli_floor).

    A pixel's entropy depends on its value alone, so counting values suffices: 100 million pixels take a second.

    Args:
        images: All images, (N, H, W, C) uint8.
        indices: Indices of the images to use, (M,).
        likelihood: As in reconstruction_loss.

    Returns:
        Nats per image; None for a Gaussian likelihood, which has no such floor.
    """
    if likelihood != "bernoulli":
        return None
    counts = np.zeros(256)
    for begin in range(0, len(indices), _BATCH):
        counts += np.bincount(images[indices[begin : begin + _BATCH]].ravel(), minlength=256)
    return float(counts @ _ENTROPY / len(indices))
