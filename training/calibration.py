"""Measures the speed of this machine for a run, with a few of the run's steps on noise."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import TrainingConfig, with_channels
from training.data.packs import Pack, PackInfo
from training.run import Run

_WARM_UP_STEPS = 3
_IMAGES = 256


def measure_speed(config: TrainingConfig, device: str | torch.device = "cpu", *, seconds: float = 1.0) -> float:
    """Measures how many images per second the steps of a run process, without validation and previews.

    Args:
        config: The run's settings; an open number of channels counts as 3.
        device: The device of the network.
        seconds: Duration of the measurement, after three warm-up steps.

    Returns:
        Images per second.
    """
    config = with_channels(config, 3)
    shape = (max(_IMAGES, config.batch_size), config.image_size, config.image_size, config.num_channels or 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    config = config.replace(objective=config.objective.for_calibration(), validation_fraction=0.0)
    run = Run(config, _pack_of(images, config), torch.device(device))
    with run.parts() as parts:
        for _ in range(_WARM_UP_STEPS):
            run.take_step(parts)
        began, num_images = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds or not num_images:
            num_images += run.take_step(parts).num_images
    return num_images / elapsed


def _pack_of(images: NDArray[np.uint8], config: TrainingConfig) -> Pack:
    info = PackInfo(
        id="calibration",
        name="calibration",
        kind="array",
        source="noise",
        num_images=len(images),
        preprocessing=config.preprocessing,
    )
    sequences = np.stack([np.zeros(len(images), np.int32), np.arange(len(images), dtype=np.int32)], axis=1)
    return Pack(Path("calibration"), info, images, None, None, None, sequences=sequences)
