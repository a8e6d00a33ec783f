"""The convolutional β-VAE networks of Burgess et al. 2018 and Higgins et al. 2017."""

import itertools
import math

import torch
from torch import Tensor, nn

from models.config import NetworkConfig
from models.layers import KERNEL, PADDING, STRIDE, run_convolutions

_HIDDEN = 256


def _relu() -> nn.ReLU:
    """In place: no fresh 8 MB for each layer and step."""
    return nn.ReLU(inplace=True)


def _layer_channels(config: NetworkConfig) -> list[int]:
    """Output channels of the encoder's convolutions; each halves the picture, down to 4×4."""
    num_layers = int(math.log2(config.image_size // 4))
    if config.architecture == "burgess":
        return [32] * num_layers
    return [32] * (num_layers - 2) + [64, 64]


class Encoder(nn.Module):
    """Images → parameters of q(z given x)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels = _layer_channels(config)
        layers: list[nn.Module] = []
        for before, after in zip([config.num_channels, *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, KERNEL, STRIDE, PADDING), _relu()]
        self._num_convolutional = len(layers)
        layers += [nn.Flatten(), nn.Linear(channels[-1] * 16, _HIDDEN), _relu()]
        if config.architecture == "burgess":
            layers += [nn.Linear(_HIDDEN, _HIDDEN), _relu()]
        self.body = nn.Sequential(*layers)
        self.mean = nn.Linear(_HIDDEN, config.latent_dim)
        self.log_variance = nn.Linear(_HIDDEN, config.latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        layers = list(self.body)  # A slice of a Sequential is a new Sequential, made in every step.
        hidden = run_convolutions(images, layers[: self._num_convolutional])
        for layer in layers[self._num_convolutional :]:
            hidden = layer(hidden)
        return self.mean(hidden), self.log_variance(hidden)


class Decoder(nn.Module):
    """Latents → logits of the pixels; the encoder, transposed."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels = _layer_channels(config)[::-1]
        layers: list[nn.Module] = [nn.Linear(config.latent_dim, _HIDDEN), _relu()]
        if config.architecture == "burgess":
            layers += [nn.Linear(_HIDDEN, _HIDDEN), _relu()]
        layers += [nn.Linear(_HIDDEN, channels[0] * 16), _relu(), nn.Unflatten(1, (channels[0], 4, 4))]
        self._num_linear = len(layers)
        for before, after in itertools.pairwise([*channels, config.num_channels]):
            layers += [nn.ConvTranspose2d(before, after, KERNEL, STRIDE, PADDING), _relu()]
        self.body = nn.Sequential(*layers[:-1])

    @property
    def output(self) -> nn.ConvTranspose2d:
        """The last layer, which gives the logits."""
        layer = self.body[-1]
        assert isinstance(layer, nn.ConvTranspose2d)
        return layer

    def forward(self, latents: Tensor) -> Tensor:
        layers = list(self.body)
        hidden = latents
        for layer in layers[: self._num_linear]:
            hidden = layer(hidden)
        return run_convolutions(hidden, layers[self._num_linear :])


class VAE(nn.Module):
    """Encoder and decoder, with D independent Gaussian latents and a N(0, I) prior.

    Images are float32 in [0, 1], (B, C, H, W). The decoder gives logits; `decode` gives pixel means.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        _initialise(self)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and log-variance of images (B, C, H, W) in [0, 1]; each (B, D)."""
        mean, log_variance = self.encoder(images)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Pixel means in [0, 1], (B, C, H, W), of latents (B, D)."""
        return torch.sigmoid(self.decoder(latents))

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, posterior mean and log-variance of images; noise (B, D) ~ N(0, I) draws z = mean + σ·noise."""
        mean, log_variance = self.encode(images)
        latents = mean + torch.exp(0.5 * log_variance) * noise
        return self.decoder(latents), mean, log_variance


def _initialise(network: VAE) -> None:
    """He et al. 2015 for the decoder; the encoder keeps torch's default.

    torch's default shrinks the signal in every layer and lets the biases rule. In a decoder that costs the first
    thousand steps (dSprites: 560 nats, the mean image, where this one is at 110). In an encoder it is what one wants:
    the first latents grow out of an almost linear map, so that x and y each take a dimension of their own; with He's
    weights their random folds of the picture plane stay for good. See docs/experiments.md.
    """
    _he_normal(network.decoder)
    with torch.no_grad():
        network.decoder.output.weight.mul_(0.3)


def initialise_encoder_alive(encoder: Encoder) -> None:
    """He et al. 2015 for an encoder whose latents shall all carry something from the first step on.

    Their means have a spread of some tenths over the images, and their variances begin near 1.
    """
    _he_normal(encoder)
    with torch.no_grad():
        encoder.mean.weight.mul_(0.5)
        encoder.log_variance.weight.mul_(0.1)


def _he_normal(module: nn.Module) -> None:
    """Zero biases, and weights that keep the size of a signal through ReLU layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * KERNEL**2
        elif isinstance(layer, nn.ConvTranspose2d):
            fan_in = layer.in_channels * (KERNEL // STRIDE) ** 2
        elif isinstance(layer, nn.Linear):
            fan_in = layer.in_features
        else:
            continue
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / fan_in))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
