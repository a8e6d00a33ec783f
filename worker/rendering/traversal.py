"""Rendering of traversals: decoding from a start in latent space, along its dimensions."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import ConfigError
from models.files import LoadedModel
from models.networks import VAE
from models.pixels import to_input
from models.posteriors import Gaussian
from models.priors import draw_prior
from training.objectives.losses import reconstruction_error
from worker.rendering.decoder import BATCH, FrameDecoder
from worker.rendering.rendered import Rendered, Strip, Vector, column_indices
from worker.rendering.request import Pixels, TraversalRequest, parse_indices


def encode_image(network: VAE, image: Pixels) -> tuple[Vector, Vector]:
    """Returns posterior mean and log-variance, each (D,), of one picture (H, W, C) uint8."""
    mean, log_variance, _ = _posterior(network, image)
    return mean, log_variance


def _posterior(network: VAE, image: Pixels) -> tuple[Vector, Vector, Vector]:
    """Returns posterior mean, log-variance, and KL to the prior in nats, each (D,), of one picture (H, W, C) uint8."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        posterior = network.posterior(to_input(image[None], device))
        found = posterior.mean, posterior.log_variance, posterior.kl()
    mean, log_variance, kl = (values[0].float().cpu().numpy() for values in found)
    return mean, log_variance, image_kl(mean, log_variance) if isinstance(posterior, Gaussian) else kl


def image_kl(mean: Vector, log_variance: Vector) -> Vector:
    """Returns the KL of one image's Gaussian posterior from N(0, I) per dimension, (D,) nats.

    The order of the sum decides its last bits, which belong to the bytes of a traversal.
    """
    kl: Vector = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    return kl


def image_error(network: VAE, image: Pixels, mean: Vector, likelihood: str) -> float:
    """Returns how badly a picture (H, W, C) uint8 is reconstructed from its code, (D,): nats above its floor."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network.decoder(torch.from_numpy(mean[None]).to(device))
        return reconstruction_error(logits, to_input(image[None], device), likelihood).item()


def _unfamiliarity(model: LoadedModel, images: Sequence[Pixels]) -> tuple[bool | None, str | None]:
    """Returns whether one of the pictures is unlike what the model knows, and why; False without a picture."""
    found: tuple[bool | None, str | None] = False, None
    for image in images:
        mean, _, kl = _posterior(model.network, image)
        error = image_error(model.network, image, mean, model.info.likelihood)
        found = model.info.unfamiliarity(error, float(kl.sum()))
        if found[1] is not None:
            break
    return found


def prior_draw(seed: int, latent_dim: int, num_categories: int | None = None) -> Vector:
    """Returns the draw from the prior that a seed stands for, (D,); it is the same on every machine."""
    return draw_prior(np.random.Generator(np.random.PCG64(seed)), (latent_dim,), num_categories)


def positions(request: TraversalRequest) -> NDArray[np.float64]:
    """Returns the positions of the frames from start to end, (T,) in σ, with both ends."""
    if request.range != "quantiles":
        return _linspace(request.start, request.end, request.steps)
    normal = NormalDist()
    # Beyond ±8 σ the probabilities are 0 and 1 in double precision; the ends are replaced by those of the request.
    probabilities = _linspace(
        normal.cdf(max(-8, min(8, request.start))), normal.cdf(max(-8, min(8, request.end))), request.steps
    )
    inside = [normal.inv_cdf(min(max(p, 1e-15), 1 - 1e-15)) for p in probabilities[1:-1]]
    return np.array([request.start, *inside, request.end])


def _linspace(start: float, end: float, num: int) -> NDArray[np.float64]:
    """Returns what numpy.linspace does, but exact where the fraction is: the middle of −3…3 is 0, not 4e-16."""
    values = start + (end - start) * np.arange(num) / (num - 1)
    values[-1] = end
    return values


def traversed_values(
    model: LoadedModel, request: TraversalRequest, dimension: int, mean: Vector, log_variance: Vector | None
) -> Vector:
    """Returns the values that a dimension takes in latent space.

    Args:
        model: The model; its aggregate posterior is used if the request's range is posterior or quantiles.
        request: Says which range is traversed.
        dimension: The dimension.
        mean: (D,), the start.
        log_variance: (D,) of the image's posterior, for the range image.

    Returns:
        (T,) float32.

    Raises:
        ConfigError: The range is image, and there is no image.
    """
    where = positions(request)
    centre, unit = 0.0, model.info.network.latent_unit
    if request.range in ("posterior", "quantiles"):
        centre, unit = model.info.aggregate_mean[dimension], model.info.aggregate_std[dimension]
    elif request.range == "image":
        if log_variance is None:
            raise ConfigError("range", "image needs an image, whose posterior gives the σ")
        centre, unit = float(mean[dimension]), float(np.exp(0.5 * log_variance[dimension]))
    return (centre + unit * where).astype(np.float32)


def interpolate(first: Vector, last: Vector, fractions: Vector, path: str) -> Vector:
    """Returns latents between two; the ends are exact.

    The path slerp is sin((1−t)ω)/sin ω · first + sin(tω)/sin ω · last, with the angle ω between the two (Shoemake
    1985). It is linear if they point in the same or in opposite directions, for which the arc is not defined.

    Args:
        first: (D,).
        last: (D,).
        fractions: (T,) in [0, 1].
        path: linear or slerp.

    Returns:
        (T, D) float32.
    """
    t = fractions[:, None].astype(np.float64)
    a, b = first.astype(np.float64), last.astype(np.float64)
    weights = 1 - t, t
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if path == "slerp" and lengths > 0:
        angle = np.arccos(np.clip(a @ b / lengths, -1, 1))
        if np.sin(angle) > 1e-4:
            weights = np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)
    latents: Vector = (weights[0] * a + weights[1] * b).astype(np.float32)
    latents[fractions == 0] = first
    latents[fractions == 1] = last
    return latents


OnStrip = Callable[[Rendered, Strip], None]
"""A function that is called with the start and with each strip as soon as it is decoded, so that encoding can begin."""


def render_traversal(
    model: LoadedModel,
    images: Sequence[Pixels],
    request: TraversalRequest,
    *,
    on_strip: OnStrip | None = None,
    pool: Executor | None = None,
) -> Rendered:
    """Decodes the frames of a request.

    Args:
        model: The model.
        images: Preprocessed pictures (H, W, C) uint8: none if the request has z or a seed, one, or two for an
            interpolation.
        request: The request, resolved against this model.
        on_strip: Called with each strip of a traversal as soon as it is decoded.
        pool: Threads that decode and call on_strip (default: everything runs in the calling thread).

    Returns:
        Frames and numbers. A frame whose value equals the start's is the start's reconstruction, bit for bit.

    Raises:
        ConfigError: The request cannot be answered for this image, for instance because no dimension is active.
    """
    decoder = FrameDecoder(model.network)
    log_variance = own_kl = None
    if images:
        mean, log_variance, own_kl = _posterior(model.network, images[0])
    elif request.z is not None:
        mean = np.array(request.z, np.float32)
    else:
        mean = prior_draw(request.seed or 0, model.info.network.latent_dim, model.info.network.num_categories)
    kl = model.info.kl_per_dimension or (None if own_kl is None else [float(value) for value in own_kl])
    unfamiliar, reason = _unfamiliarity(model, images)
    start = Rendered(
        request=request,
        positions=positions(request).astype(np.float32),
        strips=[],
        original=images[0] if images else None,
        reconstruction=decoder.frames(mean[None])[0],
        mean=mean,
        log_variance=log_variance,
        image_kl=own_kl,
        kl=kl,
        labels=model.info.dimension_labels,
        active=None if kl is None else model.info.active_among(kl),
        unfamiliar=unfamiliar,
        unfamiliar_reason=reason,
    )
    if request.is_path(len(images)):
        return _interpolation(model, decoder, start, images[1] if images else None)
    return _traversal(model, decoder, start, on_strip, pool)


def _interpolation(model: LoadedModel, decoder: FrameDecoder, start: Rendered, image: Pixels | None) -> Rendered:
    """Decodes the path from the start to the second image, or to z2 without one."""
    last = np.array(start.request.z2, np.float32) if image is None else encode_image(model.network, image)[0]
    fractions = _linspace(0, 1, start.request.steps).astype(np.float32)
    latents = interpolate(start.mean, last, fractions, start.request.interpolation)
    frames = decoder.frames(latents)
    reconstruction = decoder.frames(last[None])[0]
    frames[0], frames[-1] = start.reconstruction, reconstruction
    strip = Strip(None, fractions, 0.0, frames)
    return replace(start, strips=[strip], positions=fractions, target=(image, reconstruction))


def _traversal(
    model: LoadedModel, decoder: FrameDecoder, start: Rendered, on_strip: OnStrip | None, pool: Executor | None
) -> Rendered:
    request, mean = start.request, start.mean
    dimensions = _ordered(request, start, model.info.network.latent_dim)

    def work(part: list[tuple[int, Vector]]) -> list[Strip]:
        decoded = _decode_strips(model, decoder, start, part)
        if on_strip is not None:
            for strip in decoded:
                on_strip(start, strip)
        return decoded

    parts = list(_parts([(dimension, mean) for dimension in dimensions], request.steps))
    strips = [strip for decoded in (pool.map(work, parts) if pool else map(work, parts)) for strip in decoded]
    rows = row_values = None
    if request.grid_dimensions:
        across, down = request.grid_dimensions
        row_values = traversed_values(model, request, down, mean, start.log_variance)[column_indices(request)]
        moved = np.repeat(mean[None], len(row_values), 0)
        moved[:, down] = row_values
        rows = _decode_strips(model, decoder, start, [(across, row) for row in moved])
    return replace(start, strips=strips, rows=rows, row_values=row_values)


def _ordered(request: TraversalRequest, start: Rendered, latent_dim: int) -> list[int]:
    kl = start.kl
    if request.dimensions == "all":
        chosen = list(range(latent_dim))
    elif request.dimensions == "active":
        chosen = start.active if start.active is not None else list(range(latent_dim))
        if not chosen:
            raise ConfigError("dimensions", "no dimension is active for this image")
    else:
        chosen = sorted(parse_indices("dimensions", request.dimensions))
    if request.order == "kl" and kl is not None:
        return sorted(chosen, key=lambda dimension: (-kl[dimension], dimension))
    return chosen


def _parts(starts: list[tuple[int, Vector]], num_steps: int) -> Iterator[list[tuple[int, Vector]]]:
    """Yields the strips that are decoded together: as many as fill a batch of the decoder, at least one."""
    together = max(1, BATCH // num_steps)
    for begin in range(0, len(starts), together):
        yield starts[begin : begin + together]


def _decode_strips(
    model: LoadedModel, decoder: FrameDecoder, start: Rendered, starts: list[tuple[int, Vector]]
) -> list[Strip]:
    """Decodes one strip for each pair of a dimension and a latent to start from."""
    latents = np.empty((len(starts), start.request.steps, len(start.mean)), np.float32)
    for row, (dimension, latent) in zip(latents, starts, strict=True):
        row[:] = latent  # Each frame has its own copy, so that no dimension keeps the value of another's strip.
        row[:, dimension] = traversed_values(model, start.request, dimension, start.mean, start.log_variance)
    frames = decoder.frames(latents.reshape(-1, latents.shape[-1]))
    frames = frames.reshape(*latents.shape[:2], *frames.shape[1:])
    # The size of a batch changes the last bit of the decoder's sums; the reconstruction must be one picture.
    frames[np.all(latents == start.mean, axis=-1)] = start.reconstruction
    return [
        Strip(dimension, row[:, dimension].copy(), float(start.mean[dimension]), strip)
        for (dimension, _), row, strip in zip(starts, latents, frames, strict=True)
    ]
