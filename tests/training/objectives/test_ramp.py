"""The capacity C: its ramp, and runs that follow it."""

from pathlib import Path

import pytest
from training_support import SMALL, stop_at, with_objective

from training.config import TrainingConfig, with_lengths_in_steps
from training.data.packs import Pack
from training.loop import train
from training.monitor import Progress
from training.objectives.ramp import CapacityRamp
from training.objectives.schedules import linear_ramp


def test_capacity_is_a_straight_line_and_then_stays() -> None:
    assert [linear_ramp(step, 0, 25, 100) for step in (0, 50, 100, 1_000)] == [0, 12.5, 25, 25]
    assert linear_ramp(0, 0, 25, 0) == 25
    assert linear_ramp(50, 20, 10, 100) == 15


def test_a_ramp_without_a_length_takes_half_of_the_run_and_at_most_the_papers_length() -> None:
    for num_steps, capacity_steps in ((1_000, 500), (1_000_000, 100_000)):
        objective = with_lengths_in_steps(TrainingConfig(num_steps=num_steps), 10).objective
        assert isinstance(objective, CapacityRamp)
        assert objective.capacity_steps == capacity_steps


def test_the_kl_of_the_capacity_objective_sits_at_its_capacity(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(
        objective="capacity",
        num_steps=500,
        capacity_steps=200,
        capacity_max=5.0,
        gamma=1000.0,
        learning_rate=1e-3,
        batch_size=32,
        log_steps=50,
        preview_steps=0,
        validation_steps=None,
    )
    seen: list[Progress] = []
    result = train(config, pack, run_folder=tmp_path, on_progress=seen.append)
    assert seen[-1].metrics["capacity"] == 5.0
    assert seen[-1].metrics["kl"] == pytest.approx(5.0, rel=0.02)
    # Both the final weights and the mean over the last steps are there.
    assert result.info is not None
    assert sum(result.info.kl_per_dimension) == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(("objective", "stop"), [("controlled", None), ("controlled", 40), ("capacity", 40)])
def test_c_begins_at_the_kl_of_the_model_that_a_run_starts_from(
    objective: str, stop: int | None, pack: Pack, tmp_path: Path
) -> None:
    config = SMALL.replace(
        num_steps=400,
        objective="beta",
        beta=1.0,
        learning_rate=1e-3,
        batch_size=32,
        preview_steps=0,
        validation_steps=None,
        validation_fraction=0.0,
    )
    first = train(config, pack, run_folder=tmp_path / "first").info
    assert first is not None
    known = sum(first.kl_per_dimension)
    assert known > 4
    again = with_objective(config, objective, restart_fraction=0.0, num_steps=80, capacity_max=known + 5, gamma=10.0)
    seen: list[Progress] = []
    folder, weights = tmp_path / "again", tmp_path / "first" / "model"
    if stop is not None:
        train(again, pack, run_folder=folder, initial_weights=weights, should_stop=stop_at(stop))
    train(again, pack, run_folder=folder, initial_weights=weights, on_progress=seen.append)
    for progress in seen:
        assert progress.metrics["capacity"] >= known * 0.9
        assert progress.metrics["kl"] > known * 0.5  # A fresh Adam's first steps are long.
    assert seen[-1].metrics["kl"] > known * 0.8
