"""Losses in nats per image, which are summed over pixels and latents and averaged over the batch, never over pixels.

A mean over pixels would silently rescale β, γ and C by C·H·W, as most public implementations do.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.posteriors import Gaussian

_LEAST_SIGMA = math.exp(-6)
"""Least σ of `gaussian_optimal`, less than one of 255 levels of a pixel, from the code of Rybkin et al. 2021."""


def reconstruction_loss(logits: Tensor, images: Tensor, likelihood: str) -> Tensor:
    """Returns −log p(x given z), summed over C, H, W and averaged over the batch.

    Args:
        logits: (B, C, H, W).
        images: (B, C, H, W) in [0, 1].
        likelihood: `bernoulli` is the cross entropy, which on grey pixels cannot fall below `bernoulli_floor`;
            `gaussian` is the summed squared error, from mean sigmoid(logits) and σ² = 1/2 without the constant, and so
            is `gaussian_optimal`, whose loss `with_optimal_variance` returns once the error of all images is known.

    Returns:
        Scalar, nats per image.
    """
    if likelihood == "bernoulli":
        loss: Tensor = _BernoulliLoss.apply(logits, images)
        return loss
    return reconstruction_loss_per_image(logits, images, likelihood).mean()


def with_optimal_variance(loss: Tensor, likelihood: str, num_values: int) -> Tensor:
    """Returns the reconstruction loss with the best σ² for it, which is the mean squared error; else the loss itself.

    With e the summed squared error and N values per image, the loss is N/2·ln(2πσ²) + e/(2σ²) for σ² = e/N, one number
    for all images (σ-VAE, Rybkin et al. 2021). It is the logarithm of a density, so it falls below 0 where the error is
    small. Its gradient is that of e/(2σ²), as if σ² were constant.

    Args:
        loss: The mean of reconstruction_loss over all images that share a σ², scalar.
        likelihood: `gaussian_optimal` computes σ²; any other returns the loss.
        num_values: Number N = C·H·W of values of an image.

    Returns:
        Scalar, nats per image.
    """
    if likelihood != "gaussian_optimal":
        return loss
    variance = (loss.detach() / num_values).clamp_min(_LEAST_SIGMA**2)
    return num_values / 2 * (2 * math.pi * variance).log() + loss / (2 * variance)


class _BernoulliLoss(torch.autograd.Function):
    """Cross entropy log(1 + eˡ) − l·x, whose gradient is sigmoid(l) − x, in fewer passes over the pixels than torch's.

    Only first-order gradients are supported, and only for the logits. The logarithm is computed as max(l, 0) −
    log sigmoid(|l|), with an error of 1.3e-7 nats per pixel, since torch's softplus and log1p take five times as long
    on some processors.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, images: Tensor) -> Tensor:
        ctx.save_for_backward(logits, images)
        softplus = logits.relu().sub_(logits.abs().sigmoid_().log_())
        return softplus.addcmul_(logits, images, value=-1).sum() / len(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, images = ctx.saved_tensors
        return torch.sigmoid(logits).sub_(images).mul_(gradients[0] / len(logits)), None


def reconstruction_loss_per_image(logits: Tensor, images: Tensor, likelihood: str) -> Tensor:
    """Returns the reconstruction loss of each image, (B,), nats.

    Args:
        logits: (B, C, H, W).
        images: (B, C, H, W) in [0, 1].
        likelihood: `bernoulli`, `gaussian` or `gaussian_optimal`, as in reconstruction_loss.

    Raises:
        ValueError: The likelihood is unknown.
    """
    if likelihood == "bernoulli":
        per_pixel = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    elif likelihood in ("gaussian", "gaussian_optimal"):
        per_pixel = (torch.sigmoid(logits) - images) ** 2
    else:
        raise ValueError(f"likelihood: {likelihood!r} is neither bernoulli nor gaussian nor gaussian_optimal")
    return per_pixel.flatten(1).sum(1)


def reconstruction_error(logits: Tensor, images: Tensor, likelihood: str) -> Tensor:
    """Returns the reconstruction loss of each image less the lowest one that any network could have, (B,), nats.

    Args:
        logits: (B, C, H, W).
        images: (B, C, H, W) in [0, 1].
        likelihood: `bernoulli`, whose lowest loss is the image's entropy; `gaussian`, whose lowest loss is 0; or
            `gaussian_optimal`, for which the error is that of `gaussian`, since σ² belongs to a set, not to an image.
    """
    loss = reconstruction_loss_per_image(logits, images, likelihood)
    return loss - pixel_entropy(images).flatten(1).sum(1) if likelihood == "bernoulli" else loss


def bernoulli_floor(images: Tensor) -> Tensor:
    """Returns the lowest Bernoulli loss that any reconstruction of these images can have, which is their entropy.

    The floor is 0 for black and white pictures; for grey ones it can be most of the loss.

    Args:
        images: (B, C, H, W) in [0, 1].

    Returns:
        Scalar, nats per image.
    """
    floor: Tensor = pixel_entropy(images).flatten(1).sum(1).mean()
    return floor


def pixel_entropy(values: Tensor) -> Tensor:
    """Returns the entropies of Bernoulli variables with these means in [0, 1], elementwise, nats."""
    entropy: Tensor = -(torch.special.xlogy(values, values) + torch.special.xlogy(1 - values, 1 - values))
    return entropy


def kl_per_dimension(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns the KL divergence of q(z|x) from N(0, I) for each latent dimension, averaged over the batch.

    Args:
        mean: Posterior means, (B, D).
        log_variance: Posterior log-variances, (B, D).

    Returns:
        (D,) in nats; the sum is the KL term of Higgins et al. 2017.
    """
    return kl_per_image(mean, log_variance).mean(0)


def kl_per_image(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns KL(q(z given x) ‖ N(0, I)) of each image and dimension, (B, D), nats.

    Args:
        mean: (B, D).
        log_variance: (B, D).
    """
    return Gaussian(mean, log_variance).kl()


def gaussian_log_density(latents: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns log N(latents; mean, exp(log_variance)) in nats.

    The three arguments are broadcast against each other, and the density is computed elementwise.
    """
    return -0.5 * (math.log(2 * math.pi) + log_variance + (latents - mean).square() * torch.exp(-log_variance))


def _stratified_log_weights(batch_size: int, dataset_size: int) -> Tensor:
    """Returns the log importance weights (B, B) of minibatch stratified sampling (Chen et al. 2018, appendix C)."""
    n, m = dataset_size, batch_size - 1
    weights = torch.full((batch_size, batch_size), 1 / m)
    stratum = (n - m) / (n * m)
    weights.view(-1)[:: m + 1] = 1 / n
    weights.view(-1)[1 :: m + 1] = stratum
    weights[m - 1, 0] = stratum
    return weights.log()


def total_correlation_terms(
    latents: Tensor, mean: Tensor, log_variance: Tensor, dataset_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimates the three parts of the KL of Chen et al. 2018, Eq. 2, by minibatch stratified sampling.

    The weights of the joint density are added *after* the sum over latents; adding them before would count them D
    times.

    Args:
        latents: (B, D), B ≥ 2.
        mean: Posterior means, (B, D).
        log_variance: Posterior log-variances, (B, D).
        dataset_size: Number of images in the training split.

    Returns:
        Mutual information, total correlation and dimension-wise KL; scalars, nats. Their sum estimates the KL.
    """
    zeros = torch.zeros_like(latents)
    log_q_given_x = gaussian_log_density(latents, mean, log_variance).sum(1)
    log_prior = gaussian_log_density(latents, zeros, zeros).sum(1)
    pairwise = gaussian_log_density(latents[:, None], mean[None], log_variance[None])
    log_weights = _stratified_log_weights(len(latents), max(dataset_size, len(latents))).to(latents.device)
    log_q = torch.logsumexp(log_weights + pairwise.sum(2), 1)
    log_product = torch.logsumexp(log_weights[:, :, None] + pairwise, 1).sum(1)
    return (log_q_given_x - log_q).mean(), (log_q - log_product).mean(), (log_product - log_prior).mean()
