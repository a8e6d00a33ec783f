import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.metrics.image_quality import ImageQuality, psnr, ssim


def pair(channels: int = 1, height: int = 14, width: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, height, width, generator=generator)
    return images, (images + 0.2 * torch.rand(images.shape, generator=generator)).clamp(0, 1)


def second_implementation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The formula of Wang et al. 2004, window by window, on one channel."""
    places = np.arange(11) - 5
    weights = np.exp(-(places[:, None] ** 2 + places[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 0.01**2)
                * (2 * both + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
            )
    return float(np.mean(values))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_a_second_implementation(channels: int) -> None:
    images, others = pair(channels)
    expected = [
        np.mean([second_implementation(x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)])
        for a, b in zip(images, others, strict=True)
    ]
    np.testing.assert_allclose(ssim(images, others), expected, atol=1e-5)


def test_ssim_of_equal_and_of_even_pictures_has_its_closed_form() -> None:
    images, _ = pair(3)
    np.testing.assert_allclose(ssim(images, images), 1, atol=1e-6)
    grey, white = torch.full((1, 1, 11, 11), 0.5), torch.ones(1, 1, 11, 11)
    assert ssim(grey, white).item() == pytest.approx((2 * 0.5 + 1e-4) / (0.25 + 1 + 1e-4), abs=1e-5)
    checks = (torch.arange(11)[:, None] + torch.arange(11)).remainder(2).float()[None, None]
    assert ssim(checks, 1 - checks).item() < -0.9


def test_psnr_has_its_closed_form() -> None:
    images = torch.zeros(3, 1, 4, 4)
    others = images + torch.tensor([0.1, 1.0, 0.0])[:, None, None, None]
    np.testing.assert_allclose(psnr(images, others), [20, 0, 100], atol=1e-4)


def test_means_are_over_pictures_and_not_over_batches() -> None:
    images, others = pair()
    whole, parts = ImageQuality(), ImageQuality()
    whole.add(images, others)
    parts.add(images[:1], others[:1])
    parts.add(images[1:], others[1:])
    assert whole.means() == pytest.approx(parts.means())
    assert whole.means()["psnr"] == pytest.approx(
        np.mean([-10 * math.log10(((a - b) ** 2).mean()) for a, b in zip(images, others, strict=True)]), rel=1e-5
    )


def test_small_pictures_have_no_ssim() -> None:
    quality = ImageQuality()
    quality.add(*pair(height=8, width=8))
    assert quality.means()["ssim"] is None
