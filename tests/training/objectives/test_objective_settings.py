"""The settings of every objective: only its own are accepted, and each file in the folder is registered."""

import ast
from pathlib import Path

import pytest

import training.objectives
from models.config import ConfigError
from training.config import TrainingConfig, all_settings, config_from_json, config_to_json
from training.objectives.base import Objective
from training.objectives.registry import OBJECTIVES, readers_of

OWN = {
    "beta": {"beta"},
    "btcvae": {"beta"},
    "capacity": {"gamma", "capacity_start", "capacity_max", "capacity_steps", "capacity_epochs"},
    "annealed": {
        "beta",
        "beta_start",
        "anneal_steps",
        "restart_step",
        "restart_steps",
        "restart_components",
        "restart_axes",
    },
    "controlled": {
        "beta_start",
        "beta_least",
        "beta_gain",
        "capacity_start",
        "capacity_max",
        "capacity_steps",
        "capacity_epochs",
        "restart_step",
        "restart_fraction",
        "restart_steps",
        "restart_components",
        "restart_axes",
    },
    "factorvae": {"gamma", "discriminator_width", "discriminator_layers", "discriminator_learning_rate"},
    "categorical": {
        "num_categories",
        "noise_start",
        "noise_end",
        "noise_steps",
        "gamma",
        "discriminator_width",
        "discriminator_layers",
        "discriminator_learning_rate",
    },
    "dipvae1": {"lambda_off_diagonal", "lambda_diagonal"},
    "dipvae2": {"lambda_off_diagonal", "lambda_diagonal"},
}
OWN["adagvae"] = OWN["annealed"] | {"pairs", "num_changed", "max_distance"}
EVERY = sorted(set.union(*OWN.values()))
COMMON = set(TrainingConfig.model_fields)


def a_value_of(setting: str) -> object:
    """Returns a value within the bounds of a setting of some objective."""
    default = OBJECTIVES[readers_of(setting)[0]].model_fields[setting].default
    return 1 if default is None and setting != "capacity_epochs" else 1.0 if default is None else default


@pytest.mark.parametrize("setting", EVERY)
@pytest.mark.parametrize("name", OWN)
def test_an_objective_accepts_only_its_own_settings(name: str, setting: str) -> None:
    value = 1.0 if setting.startswith("lambda") else a_value_of(setting)
    if setting in OWN[name]:
        config = TrainingConfig(objective=name, **{setting: value})
        assert getattr(config.objective, setting) == value
        return
    with pytest.raises(ConfigError, match=f"is not read by the objective {name}, but by") as caught:
        TrainingConfig(objective=name, **{setting: value})
    assert caught.value.field == setting
    for reader in readers_of(setting):
        assert reader in caught.value.message


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_stored_config_has_only_the_settings_of_its_objective(name: str) -> None:
    config = TrainingConfig(objective=name)
    stored = config_to_json(config)
    assert set(stored) == COMMON | OWN[name]
    assert stored["objective"] == name
    assert config_from_json(stored) == config


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    ("wrong", "meant"), [("num_step", "num_steps"), ("learning_rat", "learning_rate"), ("capacity_maximum", None)]
)
def test_an_unknown_setting_suggests_the_nearest(name: str, wrong: str, meant: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(objective=name, **{wrong: 1})
    assert caught.value.field == wrong
    if meant is not None:
        assert caught.value.message == f"is not a setting of a training run; did you mean {meant}?"


@pytest.mark.parametrize("name", OWN)
def test_a_misspelt_setting_of_an_objective_suggests_the_right_one(name: str) -> None:
    for setting in OWN[name]:
        with pytest.raises(ConfigError, match=rf"did you mean {setting}\?"):
            TrainingConfig(objective=name, **{f"{setting}x": 1})


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [
        ("beta", "beta", -1.0, "must be at least 0, not -1"),
        ("capacity", "gamma", 2e6, "must be at most 1000000, not 2000000"),
        ("capacity", "capacity_epochs", 0.0, "must be above 0, not 0"),
        ("annealed", "anneal_steps", 1.5, "must be a whole number, not 1.5"),
        ("controlled", "restart_axes", "own", "must be one of found, independent, not 'own'"),
        ("factorvae", "discriminator_width", 0, "must be at least 1, not 0"),
        ("factorvae", "discriminator_learning_rate", 0.0, "must be above 0, not 0"),
        ("categorical", "num_categories", 65, "must be at most 64, not 65"),
        ("categorical", "noise_steps", -1, "must be at least 0, not -1"),
        ("dipvae1", "lambda_diagonal", -1.0, "must be at least 0, not -1"),
        ("dipvae2", "lambda_off_diagonal", float("inf"), "must be finite"),
        ("adagvae", "pairs", "frames", "must be one of factors, sequence, not 'frames'"),
        ("adagvae", "num_changed", -1, "must be at least 0, not -1"),
        ("adagvae", "max_distance", 0, "must be at least 1, not 0"),
    ],
)
def test_a_value_outside_the_limits_of_an_objective_is_refused(
    name: str, setting: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(objective=name, **{setting: value})
    assert (caught.value.field, caught.value.message) == (setting, message)


@pytest.mark.parametrize("name", ["btcvae", "factorvae", "dipvae1", "dipvae2", "adagvae"])
def test_an_objective_that_compares_images_refuses_batches_and_splits_of_one(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 2") as caught:
        TrainingConfig(objective=name, batch_size=1)
    assert caught.value.field == "batch_size"
    with pytest.raises(ConfigError, match="one image for training") as caught:
        OBJECTIVES[name]().check_images(1)
    assert caught.value.field == "objective"
    OBJECTIVES[name]().check_images(2)


def test_every_setting_of_every_objective_is_in_the_flat_list() -> None:
    flat = all_settings()
    assert set(flat) == COMMON | set(EVERY)
    for name, field in flat.items():
        assert field.description
        for reader in readers_of(name):
            assert reader in field.description


def test_every_objective_in_the_folder_is_registered() -> None:
    named = set()
    for path in Path(training.objectives.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "name" and node.value:
                named.add(ast.literal_eval(node.value))
    assert named == set(OBJECTIVES) == set(OWN)
    for name, objective in OBJECTIVES.items():
        assert issubclass(objective, Objective)
        assert objective.name == name
        assert objective.summary
