"""Converts stored pixels to a network's input."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_input(images: NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    """Moves images to a device and scales them.

    Args:
        images: (B, H, W, C) uint8; read-only arrays, such as mapped files, are copied first.
        device: Where the tensor goes.

    Returns:
        (B, C, H, W) float32 in [0, 1], in channels-last memory order.
    """
    if not isinstance(images, Tensor):
        # torch warns about arrays that it cannot write to.
        images = torch.from_numpy(np.require(images, requirements=("C", "W")))
    return images.to(device).permute(0, 3, 1, 2).float().div_(255)
