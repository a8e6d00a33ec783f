"""Configs, presets and schedules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import ConfigError, NetworkConfig, normalised_beta
from training.config import (
    OBJECTIVES,
    TrainingConfig,
    config_from_json,
    config_to_json,
    unread_settings,
    with_lengths_in_steps,
    with_restart_components,
)
from training.presets import PRESETS, resolve
from training.schedules import LEAST_BETA, cosine_decay, geometric_decay, linear_ramp, steered_beta


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
        ({"objective": "controlled", "beta_least": 200.0}, "beta_start"),
        ({"objective": "annealed", "beta": 0.0}, "beta"),
        ({"num_steps": 10, "num_epochs": 2.0}, "num_epochs"),
        ({"capacity_steps": 10, "capacity_epochs": 2.0}, "capacity_epochs"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(overrides: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("dsprites", overrides)
    assert caught.value.field == field


def test_a_length_of_ones_own_replaces_the_presets() -> None:
    def lengths(preset: str, overrides: dict[str, object]) -> tuple[int, int | None]:
        config = with_lengths_in_steps(resolve(preset, overrides), 10)
        return config.num_steps, config.capacity_steps

    assert lengths("celeba", {"seed": 1}) == (2_000, 1_500)
    assert lengths("celeba", {"num_steps": 1_000}) == (1_000, 750)
    assert lengths("celeba", {"num_epochs": 4.0}) == (40, 30)
    assert lengths("dsprites", {"num_epochs": 4.0})[0] == 40
    assert lengths("celeba", {"num_epochs": None}) == (100_000, 75_000)
    assert lengths("celeba", {"num_epochs": 3.0, "capacity_epochs": 1.0}) == (30, 10)
    assert lengths("celeba", {"capacity_steps": 70}) == (2_000, 70)
    assert lengths("dsprites_burgess", {"num_steps": 150_000}) == (150_000, 100_000)
    assert lengths("dsprites_burgess", {"num_epochs": 3.0}) == (30, 20)


@pytest.mark.parametrize(
    ("preset", "overrides", "objective"),
    [
        (None, {}, "controlled"),
        (None, {"gamma": 10.0}, "capacity"),
        (None, {"beta": 4.0}, "beta"),
        (None, {"beta": 4.0, "objective": "btcvae"}, "btcvae"),
        (None, {"beta": 4.0, "gamma": 3.0, "objective": "controlled"}, "controlled"),
        ("celeba", {"gamma": 100.0}, "capacity"),
        ("dsprites", {"beta": 2.0}, "annealed"),
        ("dsprites_burgess", {"gamma": 100.0}, "capacity"),
    ],
)
def test_the_weight_that_is_given_says_which_objective_is_meant(
    preset: str | None, overrides: dict[str, object], objective: str
) -> None:
    assert resolve(preset, overrides).objective == objective


@pytest.mark.parametrize(
    ("preset", "overrides", "unread"),
    [
        ("dsprites", {"gamma": 10.0}, ["gamma"]),
        ("dsprites_burgess", {"beta": 2.0, "restart_step": 5}, ["beta", "restart_step"]),
        (None, {"beta": 2.0, "beta_start": 30.0, "anneal_steps": 100}, ["beta_start", "anneal_steps"]),
        (None, {"objective": "btcvae", "beta": 6.0}, []),
        (
            None,
            {"objective": "beta", "capacity_steps": 5, "restart_steps": 7, "restart_fraction": 0.0, "beta_least": 0.0},
            ["capacity_steps", "beta_least", "restart_steps"],
        ),
        (None, {"objective": "annealed", "capacity_epochs": 3.0}, ["capacity_epochs"]),
        *((name, {}, []) for name in PRESETS),
        *((None, {"objective": objective}, []) for objective in OBJECTIVES),
    ],
)
def test_settings_that_do_nothing_are_known(
    preset: str | None, overrides: dict[str, object], unread: list[str]
) -> None:
    for from_model in (False, True):
        config = resolve(preset, overrides, from_model=from_model)
        assert unread_settings(config) == unread


@pytest.mark.parametrize(
    ("overrides", "components"),
    [
        ({}, 3),
        ({"latent_dim": 32}, 3),
        ({"latent_dim": 7}, 2),
        ({"latent_dim": 2}, 0),
        ({"num_channels": 1}, 0),
        ({"restart_fraction": 0.0}, 0),
        ({"objective": "annealed", "restart_step": 5}, 0),
        ({"objective": "capacity"}, 0),
        ({"restart_components": 0}, 0),
        ({"num_channels": 1, "restart_components": 5}, 5),
    ],
)
def test_a_restart_looks_for_what_was_passed_over_where_pictures_have_colours(
    overrides: dict[str, object], components: int
) -> None:
    config = with_lengths_in_steps(resolve(None, {"num_channels": 3, **overrides}), 10)
    assert with_restart_components(config).restart_components == components


def test_a_run_from_a_models_weights_restarts_only_where_it_is_asked_to() -> None:
    assert resolve(None, {}).restart_fraction == 0.25
    assert resolve(None, {}, from_model=True).restart_fraction == 0
    assert resolve("dsprites", {}, from_model=True).restart_step is None
    assert resolve("dsprites", {"restart_step": 7}, from_model=True).restart_step == 7
    assert resolve(None, {"restart_fraction": 0.5}, from_model=True).restart_fraction == 0.5


def test_beta_does_not_fall_anew_upon_a_models_weights() -> None:
    for preset, overrides, expected in (
        ("dsprites", {}, 1.2),
        ("dsprites", {"beta": 2.0}, 2.0),
        ("dsprites", {"beta_start": 30.0}, 30.0),
        (None, {"objective": "annealed"}, 4.0),
    ):
        assert resolve(preset, overrides, from_model=True).beta_start == expected


def test_a_run_of_few_images_is_validated_two_hundred_times() -> None:
    def steps(num_steps: int, steps_per_epoch: int) -> int | None:
        return with_lengths_in_steps(TrainingConfig(num_steps=num_steps), steps_per_epoch).validation_steps

    assert (steps(1_000, 1), steps(100, 1), steps(1_000, 50)) == (5, 1, 50)


@pytest.mark.parametrize("other", ["gamma", "capacity_max"])
def test_settings_of_two_objectives_without_an_objective_are_refused(other: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, {other: 10.0, "beta": 4.0})
    assert caught.value.field == "objective"


@pytest.mark.parametrize("overrides", [{}, {"num_epochs": 3.0}, {"num_steps": 7}, {"capacity_epochs": 2.0}])
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_the_config_of_a_job_may_be_given_again(preset: str | None, overrides: dict[str, object]) -> None:
    config = resolve(preset, overrides)
    assert resolve(None, config_to_json(config)) == config
    assert resolve(preset, config_to_json(config)) == config


@given(beta=st.floats(1e-4, 1e6), kl=st.floats(0, 1e6), capacity=st.floats(0, 1e4), least=st.floats(0, 100))
def test_a_steered_beta_rises_above_its_capacity_and_falls_below_it(
    beta: float, kl: float, capacity: float, least: float
) -> None:
    found = steered_beta(beta, kl, capacity, gain=0.05, least=least)
    assert max(least, LEAST_BETA) <= found <= 1e6
    if kl >= capacity:
        assert found >= beta * (1 - 1e-12)
    elif beta >= least:
        assert found <= beta * (1 + 1e-12)


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
    assert normalised_beta(4.0, NetworkConfig()) == pytest.approx(4 * 10 / 4096)
