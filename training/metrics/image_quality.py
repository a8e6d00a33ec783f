"""PSNR and SSIM of reconstructions."""

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window, px."""
_C1, _C2 = 0.01**2, 0.03**2
_LEAST_ERROR = 1e-10
"""Mean squared error of the best PSNR, 100 dB."""


class ImageQuality:
    """The mean PSNR and SSIM of pictures that come in batches."""

    def __init__(self) -> None:
        self._psnr: list[Tensor] = []
        self._ssim: list[Tensor] = []

    def add(self, images: Tensor, reconstructions: Tensor) -> None:
        """Adds pictures, (B, C, H, W) in [0, 1] each."""
        self._psnr.append(psnr(images, reconstructions).cpu())
        if min(images.shape[2:]) >= WINDOW:
            self._ssim.append(ssim(images, reconstructions).cpu())

    def means(self) -> dict[str, float | None]:
        """Returns psnr, dB, and ssim; ssim is None for pictures that are smaller than its window."""
        return {
            "psnr": torch.cat(self._psnr).double().mean().item(),
            "ssim": torch.cat(self._ssim).double().mean().item() if self._ssim else None,
        }


def psnr(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of each picture, 10·log₁₀(1/MSE), at most 100 dB.

    Args:
        images: (B, C, H, W) in [0, 1].
        reconstructions: The same shape.

    Returns:
        (B,) dB.
    """
    error = (images - reconstructions).square().flatten(1).mean(1)
    return -10 * error.clamp_min(_LEAST_ERROR).log10()


def ssim(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Returns the structural similarity of each picture (Wang et al. 2004), averaged over places and channels.

    The window is a Gaussian of 11 × 11 px with σ 1.5, K₁ is 0.01 and K₂ 0.03, and only places count where the window
    lies inside of the picture, as in the authors' program. Channels are compared each for itself.

    Args:
        images: (B, C, H, W) in [0, 1], H and W at least 11.
        reconstructions: The same shape.

    Returns:
        (B,), at most 1.
    """
    size, channels = len(images), images.shape[1]
    stacked = torch.cat([images, reconstructions, images**2, reconstructions**2, images * reconstructions])
    means = _smoothed(stacked).view(5, size, channels, -1)
    x, y, xx, yy, xy = means
    luminance = (2 * x * y + _C1) / (x**2 + y**2 + _C1)
    structure = (2 * (xy - x * y) + _C2) / (xx - x**2 + yy - y**2 + _C2)
    similarity: Tensor = (luminance * structure).mean((1, 2))
    return similarity


def _smoothed(images: Tensor) -> Tensor:
    """Returns (B, C, H − 10, W − 10), the means under the window."""
    places = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, -1)
    rows = functional.conv2d(images, weights[:, :, :, None], groups=images.shape[1])
    columns: Tensor = functional.conv2d(rows, weights[:, :, None, :], groups=images.shape[1])
    return columns
