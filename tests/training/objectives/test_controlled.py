"""The controlled objective adjusts β so that the KL follows C."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_support import SMALL

from training.config import with_lengths_in_steps
from training.data.packs import Pack
from training.loop import train
from training.monitor import Progress
from training.objectives.controlled import Controlled
from training.objectives.ramp import CapacityRamp
from training.objectives.schedules import LEAST_BETA, steered_beta


@given(beta=st.floats(1e-4, 1e6), kl=st.floats(0, 1e6), capacity=st.floats(0, 1e4), least=st.floats(0, 100))
def test_a_controlled_beta_rises_above_its_capacity_and_falls_below_it(
    beta: float, kl: float, capacity: float, least: float
) -> None:
    found = steered_beta(beta, kl, capacity, gain=0.05, least=least)
    assert max(least, LEAST_BETA) <= found <= 1e6
    if kl >= capacity:
        assert found >= beta * (1 - 1e-12)
    elif beta >= least:
        assert found <= beta * (1 + 1e-12)


def test_the_controlled_beta_brings_the_kl_to_its_capacity(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(
        restart_fraction=0.0,
        beta_least=0.0,
        num_steps=600,
        capacity_max=5.0,
        learning_rate=1e-3,
        batch_size=32,
        log_steps=50,
        preview_steps=0,
        validation_steps=None,
        validation_fraction=0.0,
    )
    assert config.objective.name == "controlled"
    seen: list[Progress] = []
    result = train(config, pack, run_folder=tmp_path / "free", on_progress=seen.append)
    assert seen[-1].metrics["kl"] == pytest.approx(5.0, rel=0.05)
    assert seen[-1].metrics["normalised_beta"] == pytest.approx(seen[-1].metrics["beta"] * 4 / 32**2)
    assert result.info is not None
    assert sum(result.info.kl_per_dimension) == pytest.approx(5.0, rel=0.05)
    # A smallest β makes C an upper bound; these images reach far less.
    bounded = config.replace(beta_least=100.0)
    train(bounded, pack, run_folder=tmp_path / "bounded", on_progress=seen.append)
    assert seen[-1].metrics["beta"] == 100
    assert seen[-1].metrics["kl"] < 2.5
    warnings = [text for progress in seen for text in progress.warnings]
    assert any("more KL would not lower the reconstruction loss enough" in text for text in warnings)


def test_c_is_at_its_end_after_a_restart_with_a_controlled_beta() -> None:
    config = with_lengths_in_steps(SMALL.replace(num_steps=100, restart_fraction=0.2), 10)
    objective, plain = config.objective, config.replace(objective="capacity").objective
    assert isinstance(objective, Controlled)
    assert isinstance(plain, CapacityRamp)
    assert (objective.restart_at, objective.restart_steps) == (20, 50)
    assert [objective.capacity_at(step) for step in (0, 10, 19, 20, 60)] == pytest.approx([0, 0.8, 1.52, 4, 4])
    assert plain.capacity_at(20) == pytest.approx(1.6)
    assert with_lengths_in_steps(SMALL.replace(restart_fraction=0.0), 10).objective.restart_at is None
    assert with_lengths_in_steps(SMALL.replace(objective="annealed"), 10).objective.restart_at is None
