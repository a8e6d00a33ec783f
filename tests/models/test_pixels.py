"""Pixels become a network's input with the right values and axes, from any array."""

import numpy as np
import pytest
import torch

from models.pixels import to_input


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_divided_by_255_with_channels_before_rows(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, channels), dtype=np.uint8)
    found = to_input(images, torch.device("cpu"))
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(found.numpy(), images.transpose(0, 3, 1, 2) / np.float32(255))


def test_read_only_and_strided_arrays_are_taken_without_a_warning() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
    expected = to_input(images.copy(), torch.device("cpu"))
    images.flags.writeable = False  # pytest turns torch's warning into an error
    assert torch.equal(to_input(images, torch.device("cpu")), expected)
    assert torch.equal(to_input(images[::2], torch.device("cpu")), expected[::2])
    assert not images.flags.writeable
