"""Batches, splits and noise: functions of the seed and the step."""

import numpy as np
import torch
from training_support import SMALL

from training.data.packs import Pack
from training.inputs import Batches, noise_at, split_indices


def test_every_image_comes_once_an_epoch_and_the_order_depends_on_seed_and_step_alone() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    batches = Batches(images, np.arange(20), 5, seed=3)
    epoch = np.concatenate([batches.at(step).ravel() for step in range(4)])
    assert sorted(epoch.tolist()) == list(range(20))
    later = Batches(images, np.arange(20), 5, seed=3)
    assert np.array_equal(later.at(7), batches.at(7))
    assert not np.array_equal(batches.at(0), batches.at(4))


def test_splits_cover_the_set_and_do_not_meet(pack: Pack) -> None:
    training, validation = split_indices(pack, SMALL)
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(120))
    assert len(validation) == 24


def test_noise_is_a_function_of_seed_and_step() -> None:
    device = torch.device("cpu")
    assert torch.equal(noise_at(5, 1, (4, 3), device), noise_at(5, 1, (4, 3), device))
    assert not torch.equal(noise_at(5, 1, (4, 3), device), noise_at(6, 1, (4, 3), device))
    assert not torch.equal(noise_at(5, 1, (4, 3), device), noise_at(5, 2, (4, 3), device))
