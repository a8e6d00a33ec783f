"""Schedules of the learning rate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_support import SMALL

from training.optimizers import LearningRate
from training.schedules import cosine_decay


def test_the_rate_falls_after_the_configured_number_of_validations() -> None:
    config = SMALL.replace(learning_rate_schedule="plateau", plateau_patience=3)
    rate = LearningRate(config, torch.optim.SGD([torch.zeros(1)], lr=1.0))
    rate.validated(1.0)
    for expected in (1.0, 1.0, 0.1):
        rate.validated(2.0)
        rate.apply(0)
        assert rate.current == pytest.approx(expected * config.learning_rate)


@given(step=st.integers(0, 10_000), num_steps=st.integers(1, 10_000))
def test_cosine_decay_lies_between_its_floor_and_one(step: int, num_steps: int) -> None:
    assert 0.01 - 1e-9 <= cosine_decay(step, num_steps) <= 1
