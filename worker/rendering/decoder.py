"""Decoding of many latents for display, by a network's decoder with its last layer computed in another way."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.layers import block_kernel
from models.networks import VAE
from worker.rendering.rendered import Vector
from worker.rendering.request import Pixels

BATCH = 32
"""Number of latents in a call of the decoder. Larger ones get fresh pages for each layer and are a quarter slower."""


class FrameDecoder:
    """A network's decoder, prepared for many calls."""

    def __init__(self, network: VAE) -> None:
        self._device = next(network.parameters()).device
        self._before = network.decoder.body[:-1]
        output = network.decoder.output
        self._kernel, self._bias = block_kernel(output.weight, output.bias, _stride(output.out_channels))
        size = network.config.image_size
        self._shape = (size, size, network.config.num_channels)
        self._unit = network.config.latent_unit

    def frames(self, latents: Vector) -> Pixels:
        """Decodes latents.

        Args:
            latents: (N, D) float32.

        Returns:
            (N, H, W, C) uint8, the rounded pixel means.
        """
        frames = np.empty((len(latents), *self._shape), np.uint8)
        with torch.inference_mode():
            for begin in range(0, len(latents), BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(latents[begin : begin + BATCH], np.float32))
                hidden = self._before(batch.to(self._device)).contiguous(memory_format=torch.channels_last)
                blocks = _to_bytes(F.conv2d(hidden, self._kernel, self._bias, padding=1))
                _interleave(blocks, frames[begin : begin + BATCH])
        return frames

    def moved(self, mean: Vector, dimension: int, positions: Sequence[float], sign: int) -> Pixels:
        """Decodes a latent vector with one dimension at several values.

        Args:
            mean: (D,), the vector.
            dimension: The dimension.
            positions: T values in units of NetworkConfig.latent_unit.
            sign: 1, or −1 for the opposite values.

        Returns:
            (T, H, W, C) uint8.
        """
        latents = np.repeat(mean[None].astype(np.float32), len(positions), 0)
        latents[:, dimension] = sign * self._unit * np.asarray(positions)
        return self.frames(latents)


def _to_bytes(logits: Tensor) -> NDArray[np.uint8]:
    """Converts logits (B, C, H, W) on any device to rounded pixels (B, H, W, C) in main memory."""
    # The cast of NaN to uint8 is undefined, so a network that overflows shows 0.
    pixels = torch.sigmoid(logits).nan_to_num_().mul_(255).add_(0.5).permute(0, 2, 3, 1).contiguous()
    if pixels.is_cuda:
        pixels = pixels.to(torch.uint8)  # Only a quarter of the bytes has to be copied.
    array: NDArray[np.uint8] = pixels.cpu().numpy().astype(np.uint8, copy=False)  # NumPy's cast is 7 times faster.
    return array


def _stride(channels: int) -> int:
    """Returns the bytes from one pixel to the next; a colour pixel takes a word, which moves faster than 3 bytes."""
    return 4 if channels == 3 else channels


def _interleave(blocks: NDArray[np.uint8], frames: Pixels) -> None:
    """Copies blocks of 2×2 pixels into frames.

    Args:
        blocks: (B, H/2 + 1, W/2 + 1, 4·S …) in the order of models.layers.block_kernel.
        frames: (B, H, W, C), written to.
    """
    num, height, width, channels = frames.shape
    pixels = blocks.view(np.uint32) if _stride(channels) == 4 else blocks
    whole = np.empty((num, height, width), pixels.dtype)
    for a in (0, 1):
        for b in (0, 1):
            # Every second row from a comes from row 1 − a of the blocks.
            whole[:, a::2, b::2] = pixels[:, a : a + height // 2, b : b + width // 2, 3 - 2 * a - b]
    parts = whole.view(np.uint8).reshape(num, height, width, -1)
    for channel in range(channels):
        frames[..., channel] = parts[..., channel]
