"""The annealed objective: β falls geometrically."""

import pytest

from training.objectives.annealed import Annealed
from training.objectives.schedules import geometric_decay
from training.presets import resolve


def test_beta_falls_by_the_same_factor_every_step_and_then_stays() -> None:
    assert [geometric_decay(step, 100, 1, 20) for step in (0, 10, 20, 99)] == pytest.approx([100, 10, 1, 1])


def test_beta_begins_at_its_end_where_a_run_starts_from_a_model() -> None:
    for preset, overrides, expected in (
        ("dsprites", {}, 1.2),
        ("dsprites", {"beta": 2.0}, 2.0),
        ("dsprites", {"beta_start": 30.0}, 30.0),
        (None, {"objective": "annealed"}, 4.0),
    ):
        objective = resolve(preset, overrides, from_model=True).objective
        assert isinstance(objective, Annealed)
        assert objective.beta_start == expected
