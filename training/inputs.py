"""Turns packed images into a network's input; splits, batches and noise depend on seed and step alone."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import ConfigError
from models.pixels import to_input
from training.config import TrainingConfig
from training.data.packs import Pack
from training.objectives.base import DrawGroups, DrawNoise, standard_normal

TRAIN_SPLIT, VALIDATION_SPLIT = 0, 1
HELD_SHARE = 8
"""A GPU holds a set that takes at most this part (one eighth) of its free memory, since other runs may share it."""
_BLOCK_BYTES = 64 * 1024**2

Images = NDArray[np.uint8] | Tensor
"""Images (N, H, W, C) of uint8: on the host, or on a GPU."""


def images_for(images: NDArray[np.uint8], device: torch.device, num_taken: int) -> Images:
    """Returns a set's images where a run takes its batches from.

    Args:
        images: All images, (N, H, W, C) uint8, mapped from a file.
        device: The run's device.
        num_taken: Number of images that the run takes.

    Returns:
        A copy on a GPU that has room for them, if the run takes at least as many; else the images themselves.
    """
    if device.type != "cuda" or num_taken < len(images):
        return images
    if images.nbytes * HELD_SHARE > torch.cuda.mem_get_info(device)[0]:
        return images
    return held_images(images, device)


def held_images(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Returns a copy of a set's images on a device, (N, H, W, C) uint8; the host copies one block after the other."""
    held = torch.empty(images.shape, dtype=torch.uint8, device=device)
    num_rows = max(1, _BLOCK_BYTES // images[:1].nbytes)
    for begin in range(0, len(images), num_rows):
        held[begin : begin + num_rows] = torch.from_numpy(np.array(images[begin : begin + num_rows]))
    return held


class Batches:
    """Batches of training images in an order that depends on seed and step alone, with a new permutation per epoch.

    The last images of an epoch that do not fill a batch are omitted; a set smaller than a batch is one batch.
    """

    def __init__(self, images: Images, indices: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self.images = images
        """The images of the whole set, (N, H, W, C)."""
        self._indices, self._seed = indices, seed
        self.batch_size = min(batch_size, len(indices))
        self.steps_per_epoch = len(indices) // self.batch_size
        self._epoch = -1
        self._order = indices

    def at(self, step: int) -> Images:
        """Returns the images of the given step, (B, H, W, C) uint8."""
        return self.images[self.indices_at(step)]

    def indices_at(self, step: int) -> NDArray[np.int64]:
        """Returns the sorted indices of the images of the given step, (B,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._indices)
            self._epoch = epoch
        # Sorted indices read a mapped file forwards; within a batch the order changes only which noise an image gets.
        return np.sort(self._order[position * self.batch_size : (position + 1) * self.batch_size])


class GroupBatches(Batches):
    """Batches of groups that an objective draws, which depend on seed and step alone.

    Every batch is drawn anew, so that an epoch is only a length: as many steps as Batches has for one permutation.
    """

    def __init__(
        self,
        images: Images,
        indices: NDArray[np.int64],
        batch_size: int,
        seed: int,
        draw: DrawGroups,
        group_size: int,
    ) -> None:
        super().__init__(images, indices, batch_size, seed)
        self._num_groups, self._draw = self.batch_size // group_size, draw
        self.batch_size = self._num_groups * group_size

    def indices_at(self, step: int) -> NDArray[np.int64]:
        """Returns the indices of the images of the given step, (B,), group by group."""
        return self._draw(np.random.default_rng([self._seed, step, 0x9_A1_25]), self._num_groups).reshape(-1)


def batches_of(pack: Pack, indices: NDArray[np.int64], config: TrainingConfig) -> Batches:
    """Returns the batches of a run.

    Args:
        pack: The set.
        indices: Indices of its training images.
        config: The run's config.

    Raises:
        ConfigError: The set has no groups such as the objective needs.
    """
    draw = config.objective.draw_groups(pack, indices)
    if draw is None:
        return Batches(pack.images, indices, config.batch_size, config.seed)
    return GroupBatches(pack.images, indices, config.batch_size, config.seed, draw, config.objective.group_size)


def sample_input(images: NDArray[np.uint8], device: torch.device, count: int = 512) -> Tensor:
    """Returns evenly spaced images of a set as a network's input.

    Args:
        images: All images, (N, H, W, C) uint8.
        device: The device of the result.
        count: Maximum number of images.

    Returns:
        (M, C, H, W) float32 in [0, 1].
    """
    return to_input(images[evenly_spaced(np.arange(len(images)), count)], device)


def split_indices(pack: Pack, config: TrainingConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits a set into training and validation.

    Args:
        pack: The set, whose own split is used where it has one.
        config: The config, whose seed and validation_fraction otherwise determine a random split.

    Returns:
        Sorted indices for training, and sorted indices for validation.
    """
    if pack.split is not None:
        return np.flatnonzero(pack.split == TRAIN_SPLIT), np.flatnonzero(pack.split == VALIDATION_SPLIT)
    count = len(pack.images)
    order = np.random.default_rng([config.seed, 0x5_91_17]).permutation(count)
    num_validation = min(round(count * config.validation_fraction), count - 1)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])


def check_split(config: TrainingConfig, num_training: int, num_images: int) -> None:
    """Checks that the split has enough training images.

    Raises:
        ConfigError: The split has no training images, or too few for the objective.
    """
    if num_training == 0:
        raise ConfigError(
            "dataset", f"its split has none of its {num_images} images for training; register it with split none"
        )
    config.objective.check_images(num_training)


def evenly_spaced(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Returns at most `count` evenly spaced items of sorted indices; the first images of a set are often all alike."""
    return indices[np.linspace(0, len(indices) - 1, min(len(indices), count)).astype(np.int64)]


def typical_image(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> int:
    """Returns the index of the image that is nearest to the mean image at low resolution.

    In such a picture every factor can move in both directions.

    Args:
        images: All images, (N, H, W, C) uint8.
        indices: Indices of the candidates, (M,).
    """
    side = 8
    chosen = images[indices]
    count, height, width, channels = chosen.shape
    cells = chosen[:, : height // side * side, : width // side * side].reshape(
        count, side, height // side, side, width // side, channels
    )
    coarse = cells.mean((2, 4)).reshape(count, -1)
    return int(indices[np.square(coarse - coarse.mean(0)).sum(1).argmin()])


def noise_at(
    step: int, seed: int, shape: tuple[int, ...], device: torch.device, draw: DrawNoise = standard_normal
) -> Tensor:
    """Returns the noise of a step, which depends on seed and step alone and is equal on every device.

    Args:
        step: The step, counted from 0.
        seed: The run's seed.
        shape: Shape of the noise: (B, D), or (B, D, K) for categorical latents.
        device: The device of the result.
        draw: Function that draws the noise; it is N(0, 1) by default.
    """
    # torch's generator uses only the low 32 bits of a seed on a CPU, so that seed and step would overlap.
    return torch.from_numpy(draw(np.random.default_rng([seed, step]), shape)).to(device)
