"""Latents that carry equally much are turned to independence, and nothing else is turned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from training.independence import rotation_to_independence


@pytest.mark.parametrize("num_latents", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mixed_uniform_latents_come_apart(num_latents: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = rng.uniform(-2, 2, (8192, num_latents))
    mixing = ortho_group.rvs(num_latents, random_state=seed)
    codes = sources @ mixing.T + rng.normal(size=num_latents)
    rotation = rotation_to_independence(codes, np.ones(num_latents))
    assert rotation @ rotation.T == pytest.approx(np.eye(num_latents), abs=1e-12)
    found = np.abs(np.corrcoef(codes @ rotation.T, sources, rowvar=False)[:num_latents, num_latents:])
    assert found.max(0).min() > 0.99
    assert sorted(found.argmax(0)) == list(range(num_latents))


def test_a_turn_of_less_than_45_degrees_leaves_each_latent_in_its_place() -> None:
    sources = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    for degrees in (-40, -10, 10, 40):
        angle = np.deg2rad(degrees)
        mixing = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        rotation = rotation_to_independence(sources @ mixing.T, np.array([3.0, 2.9]))
        assert rotation == pytest.approx(mixing.T, abs=0.04)


def test_latents_that_carry_unequally_much_keep_their_angle() -> None:
    rng = np.random.default_rng(0)
    codes = rng.uniform(-1, 1, (8192, 2)) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert not np.array_equal(rotation_to_independence(codes, np.array([2.0, 1.7])), np.eye(2))
    assert np.array_equal(rotation_to_independence(codes, np.array([2.0, 1.5])), np.eye(2))


@given(
    seed=st.integers(0, 2**32 - 1),
    num_images=st.integers(1, 3000),
    num_latents=st.integers(0, 8),
    kind=st.sampled_from(["normal", "zeros"]),
)
@settings(max_examples=60, deadline=None)
def test_chance_turns_nothing(seed: int, num_images: int, num_latents: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(num_images, num_latents)) if kind == "normal" else np.zeros((num_images, num_latents))
    assert np.array_equal(rotation_to_independence(codes, np.ones(num_latents)), np.eye(num_latents))
