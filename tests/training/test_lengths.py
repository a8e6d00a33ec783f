"""The length of a run, and how long it takes, before it starts."""

import pytest
from training_support import SMALL

from models.config import ConfigError
from training.calibration import measure_speed
from training.lengths import duration_text, estimate, steps_within, suitable_steps


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
