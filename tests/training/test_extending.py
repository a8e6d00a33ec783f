"""A run that has ended goes on: with its optimizer, C where it was, and the learning rate's schedule anew."""

from pathlib import Path

import pytest
import torch
from training_support import SMALL, stop_at, weights_of

from training.checkpoints import CheckpointError, newest_checkpoint, planned_steps
from training.data.packs import Pack
from training.loop import FINISH, train
from training.monitor import Progress

CONFIG = SMALL.replace(log_steps=1, preview_steps=0, restart_fraction=0.0)


def test_an_extended_run_begins_where_it_ended(pack: Pack, tmp_path: Path) -> None:
    first = train(CONFIG, pack, run_folder=tmp_path)
    ended = newest_checkpoint(tmp_path / "checkpoints")
    assert ended is not None
    assert (first.step, planned_steps(ended)) == (24, 24)
    seen: list[Progress] = []
    result = train(CONFIG, pack, run_folder=tmp_path, extend_to=44, on_progress=seen.append)
    assert (result.outcome, result.step, result.resumed_from_step) == ("completed", 44, 24)
    assert result.info is not None
    assert result.info.step == 44
    assert [progress.step for progress in seen] == list(range(25, 45))
    assert {progress.metrics["capacity"] for progress in seen} == {4.0}
    rates = [progress.metrics["learning_rate"] for progress in seen]
    # The cooldown takes the last fifth of the 20 steps.
    assert rates[:16] == [CONFIG.learning_rate] * 16
    assert rates[16:] == pytest.approx([CONFIG.learning_rate * left / 4 for left in (4, 3, 2, 1)])
    extended = newest_checkpoint(tmp_path / "checkpoints")
    assert extended is not None
    # Adam counts its steps, so its state was carried over.
    assert float(extended.tensors["optimizer.0.step"]) == 44
    assert planned_steps(extended) == 44


@pytest.mark.parametrize("schedule", ["cosine", "cooldown"])
def test_stopping_in_the_extension_and_going_on_changes_no_bit(pack: Pack, tmp_path: Path, schedule: str) -> None:
    config = CONFIG.replace(learning_rate_schedule=schedule)
    for name in ("whole", "parts"):
        train(config, pack, run_folder=tmp_path / name)
    whole = train(config, pack, run_folder=tmp_path / "whole", extend_to=40)
    stopped = train(config, pack, run_folder=tmp_path / "parts", extend_to=40, should_stop=stop_at(7))
    assert (stopped.outcome, stopped.step) == ("stopped", 31)
    resumed = train(config, pack, run_folder=tmp_path / "parts")
    assert (resumed.outcome, resumed.step) == ("completed", 40)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole).values(), weights_of(resumed).values(), strict=True))


def test_an_end_that_was_reached_is_not_extended_again(pack: Pack, tmp_path: Path) -> None:
    train(CONFIG, pack, run_folder=tmp_path)
    for _ in range(2):
        assert train(CONFIG, pack, run_folder=tmp_path, extend_to=30).step == 30
    assert train(CONFIG, pack, run_folder=tmp_path, extend_to=36).step == 36


def test_a_run_that_has_not_ended_is_not_extended(pack: Pack, tmp_path: Path) -> None:
    train(CONFIG, pack, run_folder=tmp_path, should_stop=stop_at(10))
    with pytest.raises(CheckpointError, match="the run has not ended: it is at step 10 of 24"):
        train(CONFIG, pack, run_folder=tmp_path, extend_to=40)


def test_a_run_that_finished_early_keeps_its_capacity_and_gets_no_restart(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(num_steps=10_000, restart_step=200, log_steps=1, validation_steps=50, preview_steps=0)
    early = train(config, pack, run_folder=tmp_path, should_stop=lambda: FINISH)
    assert early.step == 100
    seen: list[Progress] = []
    train(config, pack, run_folder=tmp_path, extend_to=220, on_progress=seen.append)
    assert seen[-1].step == 220
    assert {progress.metrics["capacity"] for progress in seen} == {4.0 * 100 / 5_000}
