"""Animations for tests: smooth frames, a reader, and the error of what was read."""

import io
from typing import Any

import numpy as np
from PIL import Image

from worker.rendering.request import Pixels


def read_frames(data: bytes) -> tuple[Pixels, list[int]]:
    """Reads frames as RGB, and their durations in milliseconds, by Pillow's decoder."""
    image: Any = Image.open(io.BytesIO(data))
    frames, durations = [], []
    for step in range(image.n_frames):
        image.seek(step)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info.get("duration", 0))
    return np.stack(frames), durations


def psnr(frames: Pixels, truth: Pixels) -> float:
    """Returns the peak signal-to-noise ratio in decibels."""
    error = ((frames.astype(float) - truth) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def smooth_frames(num: int, size: int = 32, seed: int = 0, noise: int = 0) -> Pixels:
    """Returns colour frames that drift from one smooth picture to another."""
    generator = np.random.default_rng(seed)
    ends = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((size, size), 3), float
        )
        for _ in range(2)
    ]
    frames = [ends[0] + (ends[1] - ends[0]) * step / max(1, num - 1) for step in range(num)]
    noisy = np.stack(frames) + generator.integers(-noise, noise + 1, (num, size, size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)
