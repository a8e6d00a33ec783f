"""Dimensions are named after their visible effect and the factor that they inform about most."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import NetworkConfig
from models.info import MAX_LABEL_LENGTH, PRETRAINED, ModelInfo, Preprocessing, read_info
from models.networks import VAE
from worker.rendering.effects import DimensionEffect
from worker.rendering.labels import best_factors, label_model, told_apart


def test_each_dimension_finds_its_factor() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers([3, 8], size=(2000, 2))
    codes = np.stack([-factors[:, 1] + rng.normal(0, 0.1, 2000), rng.normal(size=2000), factors[:, 0]], axis=1)
    by_position, by_chance, by_shape = best_factors(codes, factors, ["shape", "x"])
    assert by_position is not None and by_shape is not None
    assert by_position["name"] == "x" and by_position["correlation"] > 0.99
    assert by_position["mutual_information"] == pytest.approx(np.log(8), abs=0.05)
    assert by_shape["name"] == "shape" and by_shape["share"] == pytest.approx(1, abs=0.02)
    assert by_chance is None


def test_a_hundred_points_are_enough_to_find_the_factor() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers([3, 6, 40, 32], size=(100, 4))
    codes = np.stack([factors[:, 3] + rng.normal(0, 1, 100), *rng.normal(size=(3, 100))], axis=1)
    first, *others = best_factors(codes, factors, ["shape", "scale", "orientation", "y"])
    assert first is not None and first["name"] == "y"
    assert all(entry is None or entry["correlation"] < 0.4 for entry in others)


def effect_of(label: str, strength: float, *details: str) -> DimensionEffect:
    return DimensionEffect(
        label=label, strength=strength, visible_change=99.0, changes={}, heat_map=[], details=details
    )


def test_equal_labels_are_told_apart() -> None:
    effects = [
        effect_of("shape changes", 0.3, "wider", "most at the top"),
        effect_of("moves left", 0.7, "wider"),
        effect_of("shape changes", 0.5, "wider", "taller"),
        effect_of("shape changes", 0.4, "wider"),
        effect_of("", 0.0),
        effect_of("", 0.0),
    ]
    assert [effect.label for effect in told_apart(effects)] == [
        "shape changes, most at the top",
        "moves left",
        "shape changes, wider",
        "shape changes (no. 2 by strength)",
        "",
        "",
    ]


def test_labels_that_are_told_apart_stay_short() -> None:
    long = "around the centre: dark green → light green, bottom: changes"
    assert len(long) == MAX_LABEL_LENGTH
    labels = [effect.label for effect in told_apart([effect_of(long, 0.5 - k / 100, "wider") for k in range(3)])]
    assert labels == [f"around the centre: dark green → light green (no. {k})" for k in (1, 2, 3)]


def make_info() -> tuple[VAE, ModelInfo]:
    torch.manual_seed(0)
    config = NetworkConfig(image_size=32, latent_dim=3)
    info = ModelInfo(name="m", network=config, preprocessing=Preprocessing(image_size=32))
    return VAE(config).eval(), info


def test_a_model_is_labelled_the_same_each_time_and_its_description_survives() -> None:
    network, info = make_info()
    labelled = label_model(network, info)
    assert labelled == label_model(network, info)
    assert len(labelled.dimension_effects) == len(labelled.dimension_labels) == 3
    assert ModelInfo.from_json(labelled.to_json()) == labelled


def test_a_label_of_a_person_stays_and_a_measured_one_is_replaced() -> None:
    network, info = make_info()
    labelled = label_model(network, info)
    measured = [{**effect, "label": "old"} for effect in labelled.dimension_effects]
    before = replace(labelled, dimension_labels=["smile", "old", "old"], dimension_effects=measured)
    assert label_model(network, before).dimension_labels == ["smile", *labelled.dimension_labels[1:]]


@pytest.mark.parametrize("folder", sorted(PRETRAINED.iterdir()), ids=lambda folder: folder.name)
def test_the_dimensions_of_every_shipped_model_are_named(folder: Path) -> None:
    info = read_info(folder)
    assert len(info.dimension_labels) == len(info.dimension_effects) == info.network.latent_dim
    assert sum(map(bool, info.dimension_labels)) > info.network.latent_dim // 2
    assert info.metrics
