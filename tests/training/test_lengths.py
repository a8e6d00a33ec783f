"""The length of a run, and how long it takes, before it starts."""

import pytest
from training_support import SMALL

from models.config import ConfigError
from training.calibration import measure_speed
from training.config import TrainingConfig
from training.lengths import (
    OpenLength,
    duration_text,
    estimate,
    estimate_of,
    num_training_images,
    open_length,
    speed_key,
    steps_within,
    suitable_steps,
)
from training.presets import PRESETS


@pytest.mark.parametrize(
    ("num_images", "images_per_second", "expected"),
    [
        (3_000, None, 11_500),
        (3_000, 2_000.0, 11_500),
        (5, 2_000.0, 6_000),
        (700_000, 2_000.0, 20_000),
        (700_000, 600.0, 8_000),  # 15 minutes at this speed are 8 437 steps.
        (3_000, 10.0, 3_000),  # A slow machine.
    ],
)
def test_a_length_suits_the_set_and_the_machine(
    num_images: int, images_per_second: float | None, expected: int
) -> None:
    assert suitable_steps(num_images, 64, images_per_second) == expected


def test_a_budget_of_time_is_kept() -> None:
    steps = steps_within(300, 64, 1_000.0, least=100)
    assert steps == int(285 * 1_000 / 64)
    assert estimate(steps, 64, 3_000, 1_000.0).seconds == pytest.approx(300, abs=1)


def test_a_budget_too_short_for_one_validation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"minutes: is too short .* it takes about 80 s"):
        steps_within(6, 64, 100.0, least=100)


def test_an_estimate_in_words() -> None:
    assert estimate(12_000, 64, 3_072, 1_500.0).text() == "about 9 min on this machine; 12 000 steps, 250 passes"
    assert estimate(100, 64, 64_000, None).text() == "100 steps, 0.1 passes"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "about 5 s"), (42, "about 40 s"), (540, "about 9 min"), (7_900, "about 2 h 10 min")],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_speed_of_this_machine_is_measured_in_a_moment() -> None:
    assert measure_speed(SMALL, seconds=0.05) > 0


@pytest.mark.parametrize(
    ("given", "has_preset", "minutes", "expected"),
    [
        ({}, False, None, OpenLength(None)),
        ({"seed": 1, "beta": None}, False, 5.0, OpenLength(5.0, ("seed",))),
        ({}, True, 5.0, OpenLength(5.0, (), True)),
        ({}, True, None, None),
        ({"num_steps": 10}, False, None, None),
        ({"num_epochs": 1.0}, True, None, None),
    ],
)
def test_a_length_is_open_where_the_request_has_none(
    given: dict[str, object], has_preset: bool, minutes: float | None, expected: OpenLength | None
) -> None:
    found = open_length(given, has_preset=has_preset, minutes=minutes)
    assert found == expected
    assert OpenLength.from_json(None if found is None else found.to_json()) == expected


def test_what_is_unknown_leaves_a_length_open() -> None:
    config = TrainingConfig()
    assert OpenLength(5.0).num_steps(config, 3_000, None) is None
    assert OpenLength(5.0).num_steps(config, None, 1_000.0) == steps_within(300, 64, 1_000.0, 1)
    assert OpenLength(None).num_steps(config, None, 1_000.0) is None
    assert OpenLength(None).num_steps(config, 3_000, None) == 11_500
    unknown = estimate_of(TrainingConfig(num_epochs=2.0), None, 1_000.0)
    assert (unknown.num_steps, unknown.seconds, unknown.passes) == (None, None, 2.0)
    assert estimate_of(TrainingConfig(num_steps=100), None, 6_400.0).to_json() == {
        "num_steps": 100,
        "seconds": 16,
        "passes": None,
    }


def test_only_the_lengths_of_a_preset_are_scaled() -> None:
    config = PRESETS["box_chairs"].config
    scaled = OpenLength(5.0, ("restart_steps",), has_preset=True).laid_out(config, 6_000)
    assert (scaled.num_steps, scaled.objective.restart_at) == (6_000, 1_250)
    values = dict(scaled.objective)
    assert (values["anneal_steps"], values["restart_steps"]) == (1_500, 4_000)
    assert OpenLength(5.0).laid_out(TrainingConfig(objective="annealed"), 1_000) == TrainingConfig(
        objective="annealed", num_steps=1_000
    )


def test_the_speed_depends_on_the_network_the_batch_and_what_the_objective_does_with_it() -> None:
    plain = [TrainingConfig(objective=name, seed=seed) for name in ("controlled", "annealed") for seed in (0, 1)]
    assert {speed_key(config) for config in plain} == {"burgess-64px-3-64-plain"}
    assert speed_key(TrainingConfig(objective="factorvae", num_channels=1)) == "burgess-64px-1-64-factorvae"


def test_a_set_of_one_image_has_one_for_training() -> None:
    assert [num_training_images(TrainingConfig(), count) for count in (1, 2, 40, 3_000)] == [1, 2, 38, 2_850]
