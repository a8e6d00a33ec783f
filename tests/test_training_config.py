"""Configs, presets and schedules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import ConfigError
from training.config import TrainingConfig, config_from_json, config_to_json, with_lengths_in_steps
from training.presets import PRESETS, resolve
from training.schedules import cosine_decay, geometric_decay, linear_ramp


def test_capacity_is_a_straight_line_and_then_stays() -> None:
    assert [linear_ramp(step, 0, 25, 100) for step in (0, 50, 100, 1_000)] == [0, 12.5, 25, 25]
    assert linear_ramp(0, 0, 25, 0) == 25
    assert linear_ramp(50, 20, 10, 100) == 15


def test_beta_falls_by_the_same_factor_every_step_and_then_stays() -> None:
    assert [geometric_decay(step, 100, 1, 20) for step in (0, 10, 20, 99)] == pytest.approx([100, 10, 1, 1])


@given(step=st.integers(0, 10_000), num_steps=st.integers(1, 10_000))
def test_cosine_decay_lies_between_its_floor_and_one(step: int, num_steps: int) -> None:
    assert 0.01 - 1e-9 <= cosine_decay(step, num_steps) <= 1


def test_every_config_survives_json() -> None:
    for preset in PRESETS.values():
        assert config_from_json(config_to_json(preset.config)) == preset.config


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"image_size": 48}, "image_size"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 1.5}, "num_steps"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"objective": "wgan"}, "objective"),
        ({"gama": 3}, "gama"),
        ({"beta_start": 0.0}, "beta_start"),
        ({"latent_dim": True}, "latent_dim"),
        ({"seed": None}, "seed"),
        ({"latent_dim": 4, "restart_components": 4}, "restart_components"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(overrides: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("dsprites", overrides)
    assert caught.value.field == field


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="preset"):
        resolve("imagenet", {})


def test_lengths_in_epochs_become_steps() -> None:
    config = with_lengths_in_steps(TrainingConfig(num_epochs=200.0, capacity_epochs=150.0), 10)
    assert (config.num_steps, config.capacity_steps, config.validation_steps) == (2_000, 1_500, 10)


def test_an_open_ramp_takes_half_of_the_run_and_at_most_the_papers() -> None:
    assert with_lengths_in_steps(TrainingConfig(num_steps=1_000), 10).capacity_steps == 500
    assert with_lengths_in_steps(TrainingConfig(num_steps=1_000_000), 10).capacity_steps == 100_000


def test_normalised_beta_of_higgins() -> None:
    assert TrainingConfig(beta=4.0).normalised_beta == pytest.approx(4 * 10 / 4096)
