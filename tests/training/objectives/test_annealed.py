"""The annealed objective: β falls geometrically."""

import math

import pytest

from models.config import ConfigError
from training.objectives.adagvae import AdaGVAE
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
        (None, {"objective": "adagvae"}, None),
        (None, {"objective": "adagvae", "beta_start": 9.0}, 9.0),
    ):
        objective = resolve(preset, overrides, from_model=True).objective
        assert isinstance(objective, Annealed)
        assert objective.beta_start == expected


def test_beta_is_constant_without_a_start() -> None:
    for objective in (AdaGVAE(beta=3.0), Annealed(beta=3.0, beta_start=None)):
        assert {objective.beta_at(step) for step in (0, 1, 10_000)} == {3.0}
    assert AdaGVAE(beta=0.0).beta_at(0) == 0.0
    falling = AdaGVAE(beta_start=60.0, anneal_steps=10)
    assert [falling.beta_at(step) for step in (0, 5, 10, 11)] == pytest.approx([60, math.sqrt(60), 1, 1])
    with pytest.raises(ConfigError, match="must be above 0, since β falls to it by the same factor every step"):
        AdaGVAE(beta=0.0, beta_start=60.0)
