"""The restart within a run: its time, and the computation of its lessons."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import SMALL, pack_of_noise, rotation_of_any_angle, weights_of

from training.checkpoints import (
    newest_checkpoint,
)
from training.config import TrainingConfig
from training.data.packs import Pack
from training.loop import train
from training.restart import Teacher


@pytest.mark.parametrize(("axes", "turns"), [("independent", True), ("found", False)])
def test_a_restart_with_independent_axes_turns_the_latents_that_it_teaches(
    axes: str, turns: bool, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.restart.rotation_to_independence", rotation_of_any_angle)
    config = SMALL.replace(objective="annealed", restart_step=4, restart_steps=12, restart_axes=axes)
    config = config.replace(encoder_start="alive", beta_start=0.01, learning_rate=1e-2)
    reasons = iter([*[None] * 6, "shutdown"])
    train(config, pack, run_folder=tmp_path, should_stop=lambda: next(reasons))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert ("teacher_rotation" in checkpoint.tensors) == turns
    if turns:
        num_shown = len(checkpoint.state["teacher_dimensions"])
        assert num_shown >= 2
        expected = rotation_of_any_angle(np.zeros((0, num_shown)), np.ones(num_shown))
        assert np.allclose(checkpoint.tensors["teacher_rotation"].numpy(), expected, atol=1e-6)


def test_a_restart_begins_with_a_fresh_optimizer(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(objective="annealed", restart_step=4, restart_steps=12)
    reasons = iter([*[None] * 6, "shutdown"])
    train(config, pack, run_folder=tmp_path, should_stop=lambda: next(reasons))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    steps = [
        t.item() for name, t in checkpoint.tensors.items() if name.startswith("optimizer.") and name.endswith("step")
    ]
    assert checkpoint.step == 6
    assert steps
    assert set(steps) == {2}  # Adam counts the steps since the restart.


RESTART_STEP = 4


def long_teaching() -> TrainingConfig:
    """Returns a config whose steps with a teacher go three times through the set, less one step."""
    steps_per_epoch = 96 // SMALL.batch_size
    return SMALL.replace(
        objective="annealed",
        encoder_start="alive",
        beta_start=0.01,
        restart_step=RESTART_STEP,
        restart_components=2,
        restart_steps=3 * steps_per_epoch - 1,
        num_steps=RESTART_STEP + 3 * steps_per_epoch,
        preview_steps=2,
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images whose targets a teacher computed in each call."""
    counts: list[int] = []
    targets = Teacher.targets

    def counted(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return targets(self, images)

    monkeypatch.setattr(Teacher, "targets", counted)
    return counts


@pytest.mark.parametrize("num_threads", [1, 2])
def test_lessons_that_are_needed_more_than_once_are_computed_once_an_image(
    num_threads: int, pack: Pack, tmp_path: Path, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(num_threads)
    once = train(long_teaching(), pack, run_folder=tmp_path / "once")
    assert sum(seen) == 96  # The training split of the 120 images.
    monkeypatch.setattr("training.teaching.Teaching._keeps_lessons", lambda *_: False)
    seen.clear()
    anew = train(long_teaching(), pack, run_folder=tmp_path / "anew")
    assert sum(seen) > 2 * 96
    for name, tensor in weights_of(once).items():
        assert (weights_of(anew)[name] - tensor).norm() < 0.01 * tensor.norm(), name


def test_a_run_stopped_while_lessons_are_computed_resumes_to_the_same_bits(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = long_teaching()
    whole = train(config, pack, run_folder=tmp_path / "whole")
    monkeypatch.setattr("training.teaching._STOPPABLE", 1)
    asked = 0

    def should_stop() -> str | None:
        nonlocal asked
        asked += 1
        return "shutdown" if asked > RESTART_STEP + 2 else None

    stopped = train(config, pack, run_folder=tmp_path / "parts", should_stop=should_stop)
    assert (stopped.step, stopped.stop_reason) == (RESTART_STEP, "shutdown")
    checkpoint = newest_checkpoint(tmp_path / "parts" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.state["teacher_dimensions"] is not None
    shown = f"previews/{RESTART_STEP:08d}.png"  # It shows the network before the restart.
    assert (tmp_path / "parts" / shown).read_bytes() == (tmp_path / "whole" / shown).read_bytes()
    result = train(config, pack, run_folder=tmp_path / "parts")
    assert result.resumed_from_step == RESTART_STEP
    assert (tmp_path / "parts" / shown).read_bytes() == (tmp_path / "whole" / shown).read_bytes()
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name


@pytest.mark.parametrize(
    ("num_steps", "restart_steps", "num_seen"), [(28, 24, 96), (27, 24, 23 * 8), (100, 23, 23 * 8)]
)
def test_lessons_that_are_needed_once_are_computed_batch_by_batch(
    num_steps: int, restart_steps: int, num_seen: int, pack: Pack, tmp_path: Path, seen: list[int]
) -> None:
    config = long_teaching().replace(num_steps=num_steps, restart_steps=restart_steps, preview_steps=0)
    train(config, pack, run_folder=tmp_path)
    assert sum(seen) == num_seen


def test_a_restart_begins_with_a_fresh_learning_rate(pack: Pack, tmp_path: Path) -> None:
    """Plateaus of the old network say nothing about the new one."""
    config = SMALL.replace(
        objective="annealed",
        learning_rate_schedule="plateau",
        plateau_patience=1,
        learning_rate=1e-3,
        num_steps=40,
        restart_step=20,
        validation_steps=1,
        log_steps=1,
        beta=1.0,
        beta_start=1000.0,
        anneal_steps=1000,
    )
    rates: dict[int, float] = {}
    train(config, pack, run_folder=tmp_path, on_progress=lambda p: rates.update({p.step: p.metrics["learning_rate"]}))
    assert rates[20] < 1e-3
    assert rates[21] == 1e-3


def test_plateaus_count_from_the_restart_that_ends_the_ramp(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(
        learning_rate_schedule="plateau",
        plateau_patience=1,
        num_steps=30,
        restart_step=4,
        capacity_steps=29,
        validation_steps=1,
        log_steps=1,
        learning_rate=1e-12,
    )
    rates: list[float] = []
    train(config, pack, run_folder=tmp_path, on_progress=lambda p: rates.append(p.metrics["learning_rate"]))
    assert rates[4] == 1e-12
    assert rates[20] < 1e-12


@pytest.mark.parametrize("num_channels", [1, 3])
def test_by_default_a_restart_teaches_components_only_of_colour_pictures(num_channels: int, tmp_path: Path) -> None:
    pack = pack_of_noise(tmp_path / "pack", num_channels)
    reasons = iter([*[None] * 8, "shutdown"])  # These steps have a teacher.
    config = SMALL.replace(latent_dim=10)
    train(config, pack, run_folder=tmp_path / "run", should_stop=lambda: next(reasons))
    checkpoint = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 8
    taught = checkpoint.tensors.get("teacher_residual.taught")
    if num_channels == 3:
        assert checkpoint.state["config"]["restart_components"] == 3
        assert taught is not None
        assert len(taught) == 3
    else:
        assert checkpoint.state["config"]["restart_components"] == 0
        assert taught is None
