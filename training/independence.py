"""The angle at which latents are independent, where the objective leaves it open.

Two latents that carry equally much may stand at any angle: turned against each other they cost the same KL and
reconstruct the same images. So the angle at which x and y of a sprite settle is luck (training/NOTES.md, Restart),
though at one of them each latent is x or y alone. There the two are independent; at any other each is a mixture, which
is closer to a Gaussian. Comon 1994, "Independent component analysis, a new concept?", therefore turns pair after pair
to the angle at which their squared kurtoses have the largest sum.
"""

import numpy as np
from numpy.typing import NDArray

_ALIKE = 0.8
"""Least ratio of two latents' KLs at which their angle is open; apart from that, the objective has a say in it."""
_ANGLES = np.deg2rad(np.arange(-44.5, 45.1, 0.5))
"""A turn by 90° only exchanges two latents."""
_LEAST_GAIN = 0.1
"""Of a turn, in the sum of two squared kurtoses; that of two uniform latents is 2.88."""
_NOISE = 480.0
"""Over the number of images: twenty times the variance of a Gaussian sample's kurtosis, which is 24/N."""
_FOLLOWING = 0.1
"""Share of the least gain that is enough for a latent that was turned already."""
_SWEEPS = 20

Floats = NDArray[np.float64]


def rotation_to_independence(codes: NDArray[np.floating], kl: NDArray[np.floating]) -> Floats:
    """The rotation after which latents that carry equally much are independent of each other.

    Args: codes (N, K), posterior means of N images; kl (K,), each latent's mean KL, nats.
    Returns: orthogonal (K, K), for codes @ rotation.T; the identity where no turn gains more than chance could.
    """
    codes = np.asarray(codes, dtype=np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    num_images, num_latents = codes.shape
    rotation = np.eye(num_latents)
    alike = np.minimum.outer(kl, kl) >= _ALIKE * np.maximum.outer(kl, kl)
    pairs = np.argwhere(np.triu(alike, 1)).tolist()
    least_gain = _LEAST_GAIN + _NOISE / num_images
    least = np.full(num_latents, least_gain)
    for _ in range(_SWEEPS):
        done = True
        for pair in pairs:
            angle, gain = _best_turn(*codes[:, pair].T)
            if gain > least[pair].min():
                turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
                codes[:, pair] = codes[:, pair] @ turn.T
                rotation[pair] = turn @ rotation[pair]
                least[pair] = _FOLLOWING * least_gain
                done = False
        if done:
            break
    return rotation


def _best_turn(a: Floats, b: Floats) -> tuple[float, float]:
    """The angle at which two centred latents (N,) have the largest sum of squared kurtoses, and what it gains."""
    fourth = [np.mean(a ** (4 - k) * b**k) for k in range(5)]
    second = [np.mean(a ** (2 - k) * b**k) for k in range(3)]

    def kurtosis(c: Floats, s: Floats) -> Floats:
        """Excess kurtosis of c·a + s·b."""
        moment = sum(n * m * c ** (4 - k) * s**k for k, (n, m) in enumerate(zip((1, 4, 6, 4, 1), fourth, strict=True)))
        variance = sum(n * m * c ** (2 - k) * s**k for k, (n, m) in enumerate(zip((1, 2, 1), second, strict=True)))
        return np.asarray(moment / np.maximum(variance**2, np.finfo(float).tiny) - 3)

    def contrast(angles: Floats) -> Floats:
        c, s = np.cos(angles), np.sin(angles)
        return kurtosis(c, s) ** 2 + kurtosis(-s, c) ** 2

    found = contrast(_ANGLES)
    best = int(found.argmax())
    return float(_ANGLES[best]), float(found[best] - contrast(np.zeros(1))[0])
