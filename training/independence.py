"""The angle at which latents are independent.

Two latents that carry equally much may stand at any angle: turned against each other they cost the same KL and
reconstruct the same images. So the angle at which x and y of a sprite settle is luck, and so is, early in a run, much
of what other latents mix (docs/experiments.md, The angle of latents). At one angle each is x or y alone, and there the
two are independent; at any other each is a mixture, which is closer to a Gaussian. Comon 1994, "Independent component
analysis, a new concept?", therefore turns pair after pair to the angle at which their squared fourth cumulants have the
largest sum. Here only negative ones count. What pictures vary in (places, sizes, angles) has bounds and is flatter than
a Gaussian; a turn to heavier tails collected the unusual images of a set in one latent, and mixed factors.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

_ALIKE = 0.4
"""Least ratio of the KLs of two latents that are turned against each other: mixed with a weaker one, what a latent says
costs more nats (docs/experiments.md)."""
_ANGLES = np.deg2rad(np.arange(-44.5, 45.1, 0.5))
"""A turn by 90° only exchanges two latents."""
_LEAST_IMAGES = 2000
"""With fewer the fourth moments of Gaussians say at times that there is something to turn."""
_LEAST_GAIN = 0.1
"""Of a turn, in the sum of two squared kurtoses, which for two uniform latents is 2.88, and .72 at 45°."""
_NOISE = 480.0
"""Over the number of images, added to the least gain: twenty times the variance of a Gaussian sample's kurtosis."""
_FOLLOWING = 0.1
"""Share of the least gain that is enough for a latent that was turned already."""
_SWEEPS = 20

Floats = NDArray[np.float64]


def rotation_to_independence(codes: NDArray[np.floating], kl: NDArray[np.floating]) -> Floats:
    """The rotation after which latents are as independent of each other as turns of two that carry alike make them.

    Args: codes (N, K), posterior means of N images; kl (K,), each latent's mean KL, nats.
    Returns: orthogonal (K, K), for codes @ rotation.T; the identity where no turn gains more than chance could, and for
        fewer than 2 000 images.
    """
    num_images, num_latents = codes.shape
    rotation = np.eye(num_latents)
    if num_images < _LEAST_IMAGES:
        return rotation
    rows = np.asarray(codes.T, dtype=np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    every = map(list, itertools.combinations(range(num_latents), 2))
    pairs = [pair for pair in every if kl[pair].min() >= _ALIKE * kl[pair].max()]
    least_gain = _LEAST_GAIN + _NOISE / num_images
    least = np.full(num_latents, least_gain)
    moved = np.ones(num_latents, dtype=bool)
    for _ in range(_SWEEPS):
        before, moved = moved, np.zeros(num_latents, dtype=bool)
        for pair in pairs:
            if not (before[pair].any() or moved[pair].any()):
                continue  # As it was when its turn was looked for last.
            angle, gain = _best_turn(*rows[pair])
            if gain > least[pair].min():
                turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
                rows[pair] = turn @ rows[pair]
                rotation[pair] = turn @ rotation[pair]
                least[pair] = _FOLLOWING * least_gain
                moved[pair] = True
        if not moved.any():
            break
    return rotation


def _best_turn(a: Floats, b: Floats) -> tuple[float, float]:
    """The angle at which two centred latents (N,) are flattest, and what it gains in their squared negative kurtoses.

    The kurtosis is the fourth cumulant over a variance² that is the same at every angle: each latent's own would favour
    the angles at which both are copies of the wider one.
    """
    aa, ab, bb = a * a, a * b, b * b
    count = len(a)
    fourth = [float(x @ y) / count for x, y in ((aa, aa), (aa, ab), (aa, bb), (ab, bb), (bb, bb))]
    second = [float(x.mean()) for x in (aa, ab, bb)]
    scale = (second[0] ** 2 + second[2] ** 2) / 2 + second[1] ** 2
    if scale == 0:
        return 0.0, 0.0

    def flatness(c: Floats, s: Floats) -> Floats:
        """Negative kurtosis of c·a + s·b."""
        moment = _polynomial((1, 4, 6, 4, 1), fourth, c, s)
        variance = _polynomial((1, 2, 1), second, c, s)
        return np.minimum((moment - 3 * variance**2) / scale, 0)

    def contrast(angles: Floats) -> Floats:
        c, s = np.cos(angles), np.sin(angles)
        return flatness(c, s) ** 2 + flatness(-s, c) ** 2

    found = contrast(_ANGLES)
    best = int(found.argmax())
    return float(_ANGLES[best]), float(found[best] - contrast(np.zeros(1))[0])


def _polynomial(binomials: tuple[int, ...], moments: list[float], c: Floats, s: Floats) -> Floats:
    """The mean of (c·a + s·b)ⁿ, by the mixed moments of a and b."""
    degree = len(moments) - 1
    terms = [n * m * c ** (degree - k) * s**k for k, (n, m) in enumerate(zip(binomials, moments, strict=True))]
    return np.asarray(np.sum(terms, axis=0))
