"""The progress of long work as a line of text."""

from typing import Any

import pytest

from worker.progress_text import NUM_REPORTS, RemainingTime, duration_text, losses_text, progress_line, rounded

LOSSES = {"reconstruction_loss": 123.46, "kl": 7.891}


@pytest.mark.parametrize(
    ("more", "speed", "expected"),
    [
        ({}, None, "reconstruction 123.5, KL 7.89"),
        ({"capacity": 25.0}, 1234.5, "reconstruction 123.5, KL 7.89/25.00, 1234 images/s"),
        (
            {"bernoulli_floor": 3.04, "beta": 4.0, "normalised_beta": 0.0123},
            None,
            "reconstruction 123.5 (floor 3.0), KL 7.89, β 4 (normalised 0.012)",
        ),
        (
            {"capacity": 25.0, "validation_reconstruction_loss": 125.04},
            None,
            "reconstruction 123.5 (validation 125.0), KL 7.89/25.00",
        ),
    ],
)
def test_a_line_has_what_the_objective_reports(more: dict[str, Any], speed: float | None, expected: str) -> None:
    assert losses_text({**LOSSES, **more}, speed) == expected


@pytest.mark.parametrize(
    ("done", "total", "seconds_left", "details", "expected"),
    [
        (3, 12, None, "", "25 % (3/12)"),
        (3_600, 30_000, 725.0, "KL 7.89", "12 % (3600/30000), 12 min left, KL 7.89"),
        (29_999, 30_000, 0.2, "", "99 % (29999/30000), 0 s left"),
        (12, 12, 0.0, "KL 7.89", "100 % (12/12), KL 7.89"),
        (7, 0, None, "images", "7, images"),
    ],
)
def test_a_line_begins_with_percent_step_and_time_left(
    done: int, total: int, seconds_left: float | None, details: str, expected: str
) -> None:
    assert progress_line(done, total, seconds_left, details) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "0 s"),
        (89.4, "89 s"),
        (90.0, "2 min"),
        (5_369.0, "89 min"),
        (5_400.0, "1 h 30 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, expected: str) -> None:
    assert duration_text(seconds) == expected


def test_the_time_left_follows_from_the_mean_speed_of_the_last_reports() -> None:
    remaining = RemainingTime()
    assert remaining.seconds(100, 1_000, now=0.0) is None
    assert remaining.seconds(200, 1_000, now=10.0) == pytest.approx(80.0)
    # A report that took three times as long changes the mean of both by half, not threefold.
    assert remaining.seconds(300, 1_000, now=40.0) == pytest.approx(700 * 40 / 200)


def test_the_time_left_forgets_what_is_long_ago() -> None:
    remaining = RemainingTime()
    remaining.seconds(0, 1_000, now=0.0)
    for number in range(1, NUM_REPORTS + 1):
        seconds = remaining.seconds(10 * number, 1_000, now=1_000.0 + number)
    assert seconds == pytest.approx((1_000 - 10 * NUM_REPORTS) / 10)


def test_the_time_left_begins_anew_with_another_piece_of_work() -> None:
    remaining = RemainingTime()
    remaining.seconds(100, 100, now=10.0)
    assert remaining.seconds(0, 50, now=11.0) is None
    assert remaining.seconds(10, 50, now=12.0) == pytest.approx(4.0)


def test_events_have_rounded_numbers() -> None:
    values = {"step": 123_456_789, "loss": 123.456789, "kl": [0.000123456, 7], "phase": "training", "eta": None}
    expected = {"step": 123_456_789, "loss": 123.46, "kl": [0.00012346, 7], "phase": "training", "eta": None}
    assert rounded(values) == expected
