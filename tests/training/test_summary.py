"""What tells pictures that a network knows from others."""

import numpy as np
import pytest
import torch

from models.config import NetworkConfig
from models.networks import VAE
from models.pixels import to_input
from training.objectives.losses import kl_per_dimension, pixel_entropy, reconstruction_loss
from training.summary import familiar, summarise

CPU = torch.device("cpu")


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian_optimal"])
def test_the_thresholds_are_percentiles_over_the_images(likelihood: str) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3)).eval()
    images = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 1)).astype(np.uint8)
    indices = np.arange(0, 300, 3)
    found = familiar(network, images, indices, likelihood, CPU)
    errors, kls, means = [], [], []
    for index in indices:
        image = to_input(images[index : index + 1], CPU)
        with torch.no_grad():
            mean, log_variance = network.encode(image)
            error = reconstruction_loss(network.decoder(mean), image, likelihood).item()
        floor = pixel_entropy(image).sum().item() if likelihood == "bernoulli" else 0.0
        errors.append(error - floor)
        kls.append(kl_per_dimension(mean, log_variance).sum().item())
        means.append(mean[0].numpy())
    assert found["familiarity"] == pytest.approx(
        {"reconstruction_error_p99": np.percentile(errors, 99), "kl_p99": np.percentile(kls, 99)}, rel=1e-3
    )
    codes = np.stack(means)
    nearest = codes[np.linalg.norm(codes - codes.mean(0), axis=1).argmin()]
    assert found["typical_mean"] == pytest.approx(nearest.tolist(), abs=1e-5)


def test_the_mean_picture_explains_nothing_and_the_picture_itself_everything() -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3)).eval()
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 1)).astype(np.uint8)
    found = summarise(network, images, np.arange(60), "bernoulli", CPU)["explained_variance"]
    batch = to_input(images, CPU)
    with torch.no_grad():
        shown = network.decode(network.encode(batch)[0])
    expected = 1 - (shown - batch).square().sum() / (batch - batch.mean(0)).square().sum()
    assert found == pytest.approx(expected.item(), rel=1e-4)
    alike = np.repeat(images[:1], 5, 0)
    assert summarise(network, alike, np.arange(5), "bernoulli", CPU)["explained_variance"] is None
