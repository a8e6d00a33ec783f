"""Finds the rotation of the latents at which they are most independent.

Two latents that carry equal information may stand at any angle: rotated within their plane, they cost the same KL and
reconstruct the same images. So the angle at which x and y of a sprite settle is arbitrary, and early in a run so is
much of the mixture in other latents (docs/experiments.md, The angle of latents). At one angle one latent is x and the
other is y, and there the two are independent; at any other angle each is a mixture, which is closer to a Gaussian.
Comon 1994, "Independent component analysis, a new concept?", therefore rotates pair after pair to the angle at which
the sum of their squared fourth cumulants is largest. Here only negative cumulants count. The factors that pictures vary
in (places, sizes, angles) are bounded and flatter than a Gaussian; rotations towards heavier tails collected the
unusual images of a set in one latent, and mixed factors.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

_ALIKE = 0.4
"""Least ratio of the KLs of two latents that are rotated together. Mixing a latent with a much weaker one makes the
same information cost more nats (docs/experiments.md)."""
_ANGLES = np.deg2rad(np.arange(-44.5, 45.1, 0.5))
"""Angles that are tried, in radians. They span 90°, since a rotation by 90° only exchanges two latents."""
_LEAST_IMAGES = 2000
"""Least number of images. With fewer, the fourth moments of Gaussian latents sometimes suggest a rotation by chance."""
_LEAST_GAIN = 0.1
"""Least gain of a rotation in the sum of two squared kurtoses. For two uniform latents the sum is 2.88, and .72 when
they are rotated by 45°."""
_NOISE = 480.0
"""This value divided by the number of images is added to the least gain. It is twenty times the variance of the
kurtosis of a Gaussian sample."""
_FOLLOWING = 0.1
"""Share of the least gain that suffices for a latent that was already rotated."""
_SWEEPS = 20

Floats = NDArray[np.float64]


def rotation_to_independence(codes: NDArray[np.floating], kl: NDArray[np.floating]) -> Floats:
    """Returns the rotation that makes latents as independent of each other as pairwise rotations can.

    Only pairs of latents with similar KLs are rotated.

    Args:
        codes: Posterior means of N images, (N, K).
        kl: Mean KL of each latent, (K,), nats.

    Returns:
        Orthogonal matrix (K, K), to be applied as codes @ rotation.T. It is the identity where no rotation gains more
        than chance could, and for fewer than 2 000 images.
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
                continue  # Neither latent has changed since the best angle of this pair was last computed.
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
    """Returns the angle at which two centred latents are flattest, and the gain of this angle.

    The kurtosis is the fourth cumulant divided by a squared variance that is the same at every angle. Dividing by each
    latent's own variance would favour the angles at which both are copies of the wider one.

    Args:
        a: First latent, (N,).
        b: Second latent, (N,).

    Returns:
        The angle in radians, and the gain in the sum of the squared negative kurtoses.
    """
    aa, ab, bb = a * a, a * b, b * b
    count = len(a)
    fourth = [float(x @ y) / count for x, y in ((aa, aa), (aa, ab), (aa, bb), (ab, bb), (bb, bb))]
    second = [float(x.mean()) for x in (aa, ab, bb)]
    scale = (second[0] ** 2 + second[2] ** 2) / 2 + second[1] ** 2
    if scale == 0:
        return 0.0, 0.0

    def flatness(c: Floats, s: Floats) -> Floats:
        """Returns the kurtosis of c·a + s·b where it is negative, else 0."""
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
    """Returns the mean of (c·a + s·b)ⁿ, given the mixed moments of a and b."""
    degree = len(moments) - 1
    terms = [n * m * c ** (degree - k) * s**k for k, (n, m) in enumerate(zip(binomials, moments, strict=True))]
    return np.asarray(np.sum(terms, axis=0))
