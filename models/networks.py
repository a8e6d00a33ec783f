"""The convolutional β-VAE networks of Burgess et al. 2018 and Higgins et al. 2017."""

import itertools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from models.config import NetworkConfig
from models.layers import KERNEL, PADDING, STRIDE, run_convolutions
from models.posteriors import Categorical, Gaussian, Posterior

_HIDDEN = 256


def _relu() -> nn.ReLU:
    """Returns a ReLU that works in place, so that no layer needs another 8 MB in every step."""
    return nn.ReLU(inplace=True)


def _layer_channels(config: NetworkConfig) -> list[int]:
    """Returns the output channels of the encoder's convolutions, each of which halves the picture, down to 4×4."""
    num_layers = int(math.log2(config.image_size // 4))
    if config.architecture == "burgess":
        return [32] * num_layers
    return [32] * (num_layers - 2) + [64, 64]


class Encoder(nn.Module):
    """Maps images (B, C, H, W) to the parameters of q(z given x).

    These are mean and log-variance, each (B, D), or the logits (B, D, K) of categorical latents.
    """

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
        self._num_categories = config.num_categories
        if config.num_categories is None:
            self.mean = nn.Linear(_HIDDEN, config.latent_dim)
            self.log_variance = nn.Linear(_HIDDEN, config.latent_dim)
        else:
            self.logits = nn.Linear(_HIDDEN, config.latent_dim * config.num_categories)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the parameters of the posterior of images (B, C, H, W), as VAE.posterior_of takes them."""
        layers = list(self.body)  # Slicing an nn.Sequential would build a new nn.Sequential in every step.
        hidden = run_convolutions(images, layers[: self._num_convolutional])
        for layer in layers[self._num_convolutional :]:
            hidden = layer(hidden)
        if self._num_categories is None:
            return self.mean(hidden), self.log_variance(hidden)
        return (self.logits(hidden).unflatten(1, (-1, self._num_categories)),)


class Decoder(nn.Module):
    """Maps latents (B, D) to pixel logits (B, C, H, W) with the encoder's layers in reverse order, transposed."""

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
        """Returns pixel logits, (B, C, H, W), of latents (B, D)."""
        layers = list(self.body)
        hidden = latents
        for layer in layers[: self._num_linear]:
            hidden = layer(hidden)
        return run_convolutions(hidden, layers[self._num_linear :])


class VAE(nn.Module):
    """Encoder and decoder with D independent latents, Gaussian or categorical (models.posteriors).

    Images are float32 in [0, 1], (B, C, H, W). The decoder returns logits; `decode` returns pixel means.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        _initialise(self)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise that draws the latents of one image: (D,), or (D, K) for categorical latents."""
        config = self.config
        return (config.latent_dim,) if config.num_categories is None else (config.latent_dim, config.num_categories)

    def posterior(self, images: Tensor) -> Posterior:
        """Returns the posterior of images (B, C, H, W) in [0, 1]."""
        return self.posterior_of(self.encoder(images))

    def posterior_of(self, parameters: Iterable[Tensor]) -> Posterior:
        """Returns the posterior with these parameters, which the encoder gave."""
        return Gaussian(*parameters) if self.config.num_categories is None else Categorical(*parameters)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the posterior mean and log-variance, each (B, D), of images (B, C, H, W) in [0, 1]."""
        posterior = self.posterior(images)
        return posterior.mean, posterior.log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Returns the pixel means in [0, 1], (B, C, H, W), of latents (B, D)."""
        return torch.sigmoid(self.decoder(latents))

    def forward(
        self, images: Tensor, noise: Tensor, join: Callable[[Posterior], Posterior] | None = None
    ) -> tuple[Tensor, ...]:
        """Encodes images, draws latents, and decodes them.

        Args:
            images: (B, C, H, W) in [0, 1].
            noise: (B, *noise_shape): from N(0, I) for Gaussian latents, Gumbel noise for categorical ones.
            join: Function of the batch's posterior, whose result draws the latents; None leaves it as it is.

        Returns:
            Pixel logits (B, C, H, W), and the parameters of the posterior that drew the latents: mean and log-variance,
            each (B, D), or the logits (B, D, K) of categorical latents.
        """
        posterior = self.posterior(images)
        if join is not None:
            posterior = join(posterior)
        return self.decoder(posterior.draw(noise)), *posterior


def _initialise(network: VAE) -> None:
    """Initialises the decoder after He et al. 2015; the encoder keeps torch's default.

    torch's default shrinks the signal in every layer, so that the biases dominate. In a decoder this costs the first
    thousand steps (dSprites: 560 nats, the loss of the mean image, where He's weights reach 110). In an encoder it
    helps: the first latents grow out of an almost linear map, so that x and y each get a dimension; with He's weights
    the latents keep the random folds of the picture plane that they start with. See docs/experiments.md.
    """
    _he_normal(network.decoder)
    with torch.no_grad():
        network.decoder.output.weight.mul_(0.3)


def initialise_encoder_alive(encoder: Encoder) -> None:
    """Initialises an encoder after He et al. 2015, so that all latents carry information from the first step.

    The means spread over some tenths across the images, and the variances begin near 1.
    """
    _he_normal(encoder)
    if not hasattr(encoder, "mean"):
        return
    with torch.no_grad():
        encoder.mean.weight.mul_(0.5)
        encoder.log_variance.weight.mul_(0.1)


def _he_normal(module: nn.Module) -> None:
    """Sets biases to zero, and draws weights that preserve the size of a signal through ReLU layers."""
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
