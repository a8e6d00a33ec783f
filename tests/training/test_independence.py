"""Mixed latents are rotated to independence, and other latents are not."""

import numpy as np
import pytest
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
        rotation = rotation_to_independence(sources @ mixing.T, np.ones(2))
        assert rotation == pytest.approx(mixing.T, abs=0.04)


def test_a_latent_is_not_mixed_with_a_much_weaker_one() -> None:
    codes = np.random.default_rng(0).uniform(-1, 1, (8192, 2)) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert not np.array_equal(rotation_to_independence(codes, np.array([2.0, 0.9])), np.eye(2))
    assert np.array_equal(rotation_to_independence(codes, np.array([2.0, 0.7])), np.eye(2))


@pytest.mark.parametrize("kind", ["normal", "laplace", "sparse"])
@pytest.mark.parametrize("deviation", [0.3, 0.5, 1.0])
def test_independent_latents_of_any_width_are_not_turned(kind: str, deviation: float) -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=8192)
    drawn = {
        "normal": normal,
        "laplace": rng.laplace(scale=0.5**0.5, size=8192),
        "sparse": normal * (rng.random(8192) < 0.2) * 5**0.5,
    }
    codes = np.stack([rng.uniform(-(3**0.5), 3**0.5, 8192), deviation * drawn[kind]], axis=1)
    assert rotation_to_independence(codes, np.ones(2)) == pytest.approx(np.eye(2), abs=0.03)


def test_heavy_tails_cause_no_rotation() -> None:
    codes = np.random.default_rng(0).laplace(size=(8192, 2)) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert np.array_equal(rotation_to_independence(codes, np.ones(2)), np.eye(2))


@pytest.mark.parametrize("sign", [-1, 1])
def test_two_equal_latents_stay_as_they_are(sign: int) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 4000)
    rotation = rotation_to_independence(np.stack([values, sign * values], axis=1), np.ones(2))
    assert np.isfinite(rotation).all()
    assert rotation @ rotation.T == pytest.approx(np.eye(2))


@pytest.mark.parametrize("num_images", [1, 2, 1999])
def test_few_images_cause_no_rotation(num_images: int) -> None:
    codes = np.random.default_rng(0).uniform(-1, 1, (num_images, 2)) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert np.array_equal(rotation_to_independence(codes, np.ones(2)), np.eye(2))


@pytest.mark.parametrize("num_images", [2000, 3000, 8192])
@pytest.mark.parametrize("num_latents", [0, 1, 2, 10])
def test_chance_causes_no_rotation(num_images: int, num_latents: int) -> None:
    for seed in range(10):
        codes = np.random.default_rng(seed).normal(size=(num_images, num_latents))
        assert np.array_equal(rotation_to_independence(codes, np.ones(num_latents)), np.eye(num_latents))
    assert np.array_equal(rotation_to_independence(np.zeros_like(codes), np.ones(num_latents)), np.eye(num_latents))
