"""Configs and presets of training runs."""

from typing import Any

import pytest

from models.config import ConfigError, NetworkConfig, normalised_beta
from training.config import (
    TrainingConfig,
    all_settings,
    config_from_json,
    config_to_json,
    for_pictures,
    with_lengths_in_steps,
)
from training.objectives.controlled import Controlled
from training.objectives.factorvae import FactorVAE
from training.objectives.ramp import CapacityRamp
from training.objectives.registry import OBJECTIVES
from training.objectives.restarting import Restarting
from training.presets import PRESETS, resolve


def test_every_config_survives_json() -> None:
    for preset in PRESETS.values():
        assert config_from_json(config_to_json(preset.config)) == preset.config


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"objective": "capacity", "gamma": -1.0}, "gamma"),
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


def test_a_given_length_replaces_the_presets() -> None:
    def lengths(preset: str, overrides: dict[str, object]) -> tuple[int, int | None]:
        config = with_lengths_in_steps(resolve(preset, overrides), 10)
        return config.num_steps, getattr(config.objective, "capacity_steps", None)

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
        ("celeba", {"gamma": 100.0}, "capacity"),
        ("dsprites", {"beta": 2.0}, "annealed"),
        ("dsprites_burgess", {"gamma": 100.0}, "capacity"),
    ],
)
def test_a_given_weight_selects_its_objective(preset: str | None, overrides: dict[str, object], objective: str) -> None:
    assert resolve(preset, overrides).objective.name == objective


@pytest.mark.parametrize(
    ("preset", "overrides", "unread", "readers"),
    [
        ("dsprites", {"gamma": 10.0}, "gamma", "capacity, factorvae and categorical"),
        ("dsprites_burgess", {"beta": 2.0}, "beta", "beta, btcvae, annealed and adagvae"),
        ("dsprites_burgess", {"restart_step": 5}, "restart_step", "controlled, annealed and adagvae"),
        (None, {"beta": 2.0, "anneal_steps": 100}, "anneal_steps", "annealed and adagvae"),
        (None, {"objective": "controlled", "beta": 4.0}, "beta", "beta, btcvae, annealed and adagvae"),
        (None, {"objective": "controlled", "gamma": 4.0}, "gamma", "capacity, factorvae and categorical"),
        (None, {"objective": "beta", "capacity_steps": 5}, "capacity_steps", "controlled and capacity"),
        (None, {"objective": "beta", "restart_steps": 7}, "restart_steps", "controlled, annealed and adagvae"),
        (None, {"objective": "beta", "beta_least": 0.0}, "beta_least", "controlled"),
        (None, {"objective": "annealed", "capacity_epochs": 3.0}, "capacity_epochs", "controlled and capacity"),
        (None, {"objective": "dipvae1", "discriminator_width": 8}, "discriminator_width", "factorvae and categorical"),
        (None, {"lambda_diagonal": 8.0}, "lambda_diagonal", "dipvae1 and dipvae2"),
    ],
)
@pytest.mark.parametrize("from_model", [False, True])
def test_a_setting_that_the_objective_does_not_read_is_refused(
    preset: str | None, overrides: dict[str, object], unread: str, readers: str, from_model: bool
) -> None:
    with pytest.raises(ConfigError, match=rf"is not read by the objective \w+, but by {readers}$") as caught:
        resolve(preset, overrides, from_model=from_model)
    assert caught.value.field == unread


@pytest.mark.parametrize("from_model", [False, True])
def test_every_preset_and_every_objective_makes_a_valid_config(from_model: bool) -> None:
    for preset in PRESETS:
        expected = PRESETS[preset].config.objective.name
        assert resolve(preset, {}, from_model=from_model).objective.name == expected
    for objective in OBJECTIVES:
        assert (
            resolve(None, {"objective": objective, "num_epochs": 3.0}, from_model=from_model).objective.name
            == objective
        )


def test_a_changed_objective_keeps_settings_that_differ_from_their_default() -> None:
    config = TrainingConfig(objective="capacity", capacity_max=7.0, gamma=10.0, learning_rate=1e-3)
    changed = config.replace(objective="controlled")
    assert changed == TrainingConfig(objective="controlled", capacity_max=7.0, learning_rate=1e-3)
    # The default γ of factorvae differs from that of capacity.
    assert config.replace(gamma=1000.0, objective="factorvae").objective == FactorVAE(gamma=1000.0)
    assert config.replace(gamma=1000.0).replace(objective="factorvae").objective == FactorVAE(gamma=40.0)
    # A whole objective keeps nothing of the earlier one.
    assert config.replace(objective=Controlled()).objective == Controlled()


def test_a_stored_config_may_hold_settings_of_other_objectives() -> None:
    """Jobs and checkpoints of earlier versions have all settings at the top level."""
    others = {name: field.default for name, field in all_settings().items()}
    config = TrainingConfig(objective="annealed", beta=2.0, num_steps=7)
    assert config_from_json(others | config_to_json(config)) == config
    assert config_from_json(EARLIER | {"objective": "beta", "beta": 2.0}) == TrainingConfig(objective="beta", beta=2.0)
    with pytest.raises(ConfigError, match="num_step"):
        config_from_json({"num_step": 4})


EARLIER: dict[str, Any] = {
    "architecture": "burgess", "image_size": 64, "num_channels": None, "latent_dim": 10, "crop": "center",
    "crop_size": None, "objective": "controlled", "likelihood": "bernoulli", "beta": 4.0, "beta_start": 150.0,
    "anneal_steps": 3000, "beta_least": 1.0, "beta_gain": 0.05, "gamma": 1000.0, "capacity_start": 0.0,
    "capacity_max": 25.0, "capacity_steps": None, "capacity_epochs": None, "restart_step": None,
    "restart_fraction": 0.25, "restart_steps": None, "restart_components": None, "restart_axes": "found",
    "encoder_start": "quiet", "num_steps": 100_000, "num_epochs": None, "batch_size": 64, "optimizer": "adam",
    "learning_rate": 5e-4, "learning_rate_schedule": "cooldown", "plateau_factor": 0.1, "plateau_patience": 5,
    "weight_decay": 0.0, "seed": 0, "validation_fraction": 0.05, "validation_steps": None, "log_steps": 50,
    "preview_steps": 2000,
}  # fmt: skip
"""The default config as the version before objectives had files of their own stored it."""


def test_the_default_of_earlier_versions_is_the_default() -> None:
    assert config_from_json(EARLIER) == TrainingConfig()


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
        ({"restart_components": 0}, 0),
        ({"num_channels": 1, "restart_components": 5}, 5),
    ],
)
def test_by_default_a_restart_teaches_components_where_pictures_have_colours(
    overrides: dict[str, object], components: int
) -> None:
    config = with_lengths_in_steps(resolve(None, {"num_channels": 3, **overrides}), 10)
    objective = for_pictures(config).objective
    assert isinstance(objective, Restarting)
    assert objective.restart_components == components


@pytest.mark.parametrize(
    ("preset", "overrides", "restart_at"),
    [
        (None, {}, None),
        ("dsprites", {}, None),
        ("dsprites", {"restart_step": 7}, 7),
        (None, {"restart_fraction": 0.5}, 50_000),
    ],
)
def test_a_run_from_a_models_weights_restarts_only_if_requested(
    preset: str | None, overrides: dict[str, object], restart_at: int | None
) -> None:
    config = with_lengths_in_steps(resolve(preset, overrides, from_model=True), 10)
    assert config.objective.restart_at == restart_at


def test_a_default_run_restarts_after_a_quarter() -> None:
    assert with_lengths_in_steps(resolve(None, {}), 10).objective.restart_at == 25_000


def test_a_run_of_few_images_is_validated_two_hundred_times() -> None:
    def steps(num_steps: int, steps_per_epoch: int) -> int | None:
        return with_lengths_in_steps(TrainingConfig(num_steps=num_steps), steps_per_epoch).validation_steps

    assert (steps(1_000, 1), steps(100, 1), steps(1_000, 50)) == (5, 1, 50)


@pytest.mark.parametrize("other", ["gamma", "capacity_max"])
def test_settings_of_two_objectives_without_an_objective_are_refused(other: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, {other: 10.0, "beta": 4.0})
    assert caught.value.field == "objective"


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        (preset, overrides)
        for preset in (None, *PRESETS)
        for overrides in ({}, {"num_epochs": 3.0}, {"num_steps": 7}, {"capacity_epochs": 2.0})
        if "capacity_epochs" not in overrides or isinstance(resolve(preset, {}).objective, CapacityRamp)
    ],
)
def test_the_config_of_a_job_may_be_given_again(preset: str | None, overrides: dict[str, object]) -> None:
    config = resolve(preset, overrides)
    assert resolve(None, config_to_json(config)) == config
    assert resolve(preset, config_to_json(config)) == config


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="preset"):
        resolve("imagenet", {})


def test_lengths_in_epochs_become_steps() -> None:
    config = with_lengths_in_steps(TrainingConfig(num_epochs=200.0, capacity_epochs=150.0), 10)
    assert isinstance(config.objective, CapacityRamp)
    assert (config.num_steps, config.objective.capacity_steps, config.validation_steps) == (2_000, 1_500, 10)


def test_normalised_beta_of_higgins() -> None:
    assert normalised_beta(4.0, NetworkConfig()) == pytest.approx(4 * 10 / 4096)
