"""Draws latents from the prior of a network; free of torch."""

import numpy as np
from numpy.typing import NDArray


def draw_prior(
    rng: np.random.Generator, shape: tuple[int, ...], num_categories: int | None = None
) -> NDArray[np.float32]:
    """Returns latents of a shape from N(0, I), or from the grid of categorical latents, on which the prior is uniform.

    Args:
        rng: Where the numbers come from.
        shape: Shape of the latents, with D last.
        num_categories: Number K of values between −1 and 1 that a categorical latent takes; None for a Gaussian one.
    """
    if num_categories is None:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.choice(np.linspace(-1, 1, num_categories), shape).astype(np.float32)
