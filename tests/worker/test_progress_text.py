"""The progress of a training in words."""

from typing import Any

import pytest

from worker.progress_text import progress_text

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
    ],
)
def test_a_line_has_what_the_objective_reports(more: dict[str, Any], speed: float | None, expected: str) -> None:
    assert progress_text({**LOSSES, **more}, speed) == expected
