"""What a network does with a set of images, in a few numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks import VAE
from models.pixels import to_input
from training.objectives.losses import kl_per_dimension, pixel_entropy, reconstruction_loss

_BATCH = 256
_ENTROPY = pixel_entropy(torch.arange(256, dtype=torch.float64) / 255).numpy()
"""Of a pixel of each value, nats."""
SUMMARY_IMAGES = 10_000
_ENCODING_BATCH = 512

Progress = Callable[[str, int, int], None]


@torch.no_grad()
def summarise(
    network: VAE,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    likelihood: str,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Losses and the aggregate posterior over the given images, decoding the posterior mean.

    Args: images, (N, H, W, C) uint8; indices, (M,), which of them to use; on_progress,
        called with the number done and M.
    Returns: kl_per_dimension, aggregate_mean, aggregate_std, lists of D floats; reconstruction_loss, nats an image.
    """
    total, loss = 0, 0.0
    kl, means = torch.zeros(network.config.latent_dim), []
    for begin in range(0, len(indices), _BATCH):
        batch = to_input(images[indices[begin : begin + _BATCH]], device)
        mean, log_variance = network.encode(batch)
        size = len(batch)
        loss += reconstruction_loss(network.decoder(mean), batch, likelihood).item() * size
        kl += kl_per_dimension(mean, log_variance).cpu() * size
        means.append(mean.cpu())
        total += size
        if on_progress is not None:
            on_progress(total, len(indices))
    all_means = torch.cat(means)
    return {
        "reconstruction_loss": loss / total,
        "kl_per_dimension": (kl / total).tolist(),
        "aggregate_mean": all_means.mean(0).tolist(),
        "aggregate_std": all_means.std(0, correction=0).tolist(),
    }


@torch.inference_mode()
def encode(
    network: VAE,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64] | None,
    device: torch.device,
    on_progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Posterior means (N, D) of images, or of those at `indices`, and the mean KL of each dimension (D,), nats."""
    count = len(images) if indices is None else len(indices)
    codes = np.empty((count, network.config.latent_dim), dtype=np.float32)
    kl = np.zeros(network.config.latent_dim)
    for begin in range(0, count, _ENCODING_BATCH):
        rows = slice(begin, min(begin + _ENCODING_BATCH, count))
        batch = images[rows] if indices is None else images[indices[rows]]
        mean, log_variance = network.encode(to_input(batch, device))
        codes[rows] = mean.float().cpu().numpy()
        kl += kl_per_dimension(mean, log_variance).double().cpu().numpy() * len(batch)
        if on_progress is not None:
            on_progress("encoding", rows.stop, count)
    return codes, kl / count


def floor_of(images: NDArray[np.uint8], indices: NDArray[np.int64], likelihood: str) -> float | None:
    """The lowest reconstruction loss that any network can have on the given images (objectives.bernoulli_floor).

    A pixel's entropy depends on its value alone, so counting values is enough: a second for 100 million pixels.
    Args: images, (N, H, W, C) uint8; indices, (M,), which of them to use.
    Returns: nats an image; None for the Gaussian likelihood, whose floor is 0.
    """
    if likelihood != "bernoulli":
        return None
    counts = np.zeros(256)
    for begin in range(0, len(indices), _BATCH):
        counts += np.bincount(images[indices[begin : begin + _BATCH]].ravel(), minlength=256)
    return float(counts @ _ENTROPY / len(indices))
