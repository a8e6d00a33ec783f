"""A resumed run equals a run that was never stopped."""

import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from training_support import (
    SMALL,
    pack_of_noise,
    records_of,
    rotation_of_any_angle,
    stop_at,
    weights_of,
    with_objective,
)

from training.checkpoints import (
    CheckpointError,
    newest_checkpoint,
    write_checkpoint,
)
from training.config import all_settings
from training.data.packs import Pack
from training.loop import train
from training.objectives.registry import OBJECTIVES


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_stopping_and_resuming_changes_no_bit(
    objective: str, optimizer: str, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.restart.rotation_to_independence", rotation_of_any_angle)
    rate = {"adam": 1e-2, "sgd": 1e-6, "rmsprop": 1e-3}[optimizer]
    config = with_objective(
        SMALL,
        objective,
        beta_start=0.01,  # With this β, the encoder keeps latents that a restart can teach.
        beta_least=0.0,
        optimizer=optimizer,
        learning_rate=rate,
        learning_rate_schedule="plateau",
        preview_steps=12 if optimizer == "adam" else 0,  # Previews know no optimizer, and take half the time.
        gamma=10.0,
        restart_step=6,
        restart_steps=12,
        restart_components=2,
        restart_axes="independent",
        discriminator_width=16,
        encoder_start="alive",
        pairs="sequence",
        max_distance=3,
    )
    whole = train(config, pack, run_folder=tmp_path / "whole")
    stops = set(np.random.default_rng([len(objective), len(optimizer)]).choice(np.arange(1, 24), 3).tolist())
    stops.add(10)  # This step has a teacher.
    calls = 0

    def should_stop() -> str | None:
        nonlocal calls
        calls += 1
        return "shutdown" if calls - 1 - resumed in stops else None

    resumed, parts = 0, 0
    while True:
        result = train(config, pack, run_folder=tmp_path / "parts", should_stop=should_stop, fence=parts)
        parts += 1
        if result.outcome == "completed":
            break
        assert result.stop_reason == "shutdown"
        stops.discard(result.step)
        # A resumed run calls should_stop again at the step at which it was stopped.
        calls, resumed = result.step, 0
    assert parts >= 2
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name


def test_resuming_changes_no_bit_with_two_threads(pack: Pack, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    config = SMALL.replace(objective="annealed", batch_size=48, restart_step=4, restart_steps=12, num_steps=12)
    whole = train(config, pack, run_folder=tmp_path / "whole")
    for stop in (3, 7):
        reasons = iter([None] * (stop if stop == 3 else stop - 3) + ["shutdown"])
        stopped = train(config, pack, run_folder=tmp_path / "parts", should_stop=lambda: next(reasons))  # noqa: B023
        assert stopped.step == stop
    result = train(config, pack, run_folder=tmp_path / "parts")
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_keeps_the_components_that_it_began_with(known: bool, tmp_path: Path) -> None:
    pack = pack_of_noise(tmp_path / "pack", 3)
    reasons = iter([None, None, "shutdown"])
    before = SMALL.replace(restart_components=0)
    train(before, pack, run_folder=tmp_path / "run", should_stop=lambda: next(reasons))
    if not known:  # Old checkpoints lack the setting.
        checkpoint = newest_checkpoint(tmp_path / "run" / "checkpoints")
        assert checkpoint is not None
        del checkpoint.state["config"]["restart_components"]
        write_checkpoint(tmp_path / "run" / "checkpoints", checkpoint, fence=1)
    result = train(SMALL, pack, run_folder=tmp_path / "run")
    assert result.resumed_from_step == 2
    assert result.info is not None
    assert result.info.training["restart_components"] == 0


def test_a_checkpoint_of_another_run_is_refused(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(objective="beta")
    train(config, pack, run_folder=tmp_path, should_stop=stop_at(3))
    with pytest.raises(CheckpointError, match=r"other settings: beta 4\.0 \(now 3\.0\)$"):
        train(config.replace(beta=3.0), pack, run_folder=tmp_path)


def test_a_run_resumes_with_other_intervals_of_previews_and_records(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(3))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    checkpoint.state["config"] |= {"preview_steps": 2_000, "log_steps": 3}
    write_checkpoint(tmp_path / "checkpoints", checkpoint, fence=1)
    assert train(SMALL, pack, run_folder=tmp_path).resumed_from_step == 3


def test_a_checkpoint_that_lacks_a_later_setting_resumes(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(objective="annealed")
    train(config, pack, run_folder=tmp_path, should_stop=stop_at(3))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    del checkpoint.state["config"]["anneal_steps"]
    write_checkpoint(tmp_path / "checkpoints", checkpoint, fence=1)
    assert train(config, pack, run_folder=tmp_path).resumed_from_step == 3


def test_records_of_lost_steps_are_dropped_on_resume(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(10))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 12, "kl": -1}) + '\n{"step": 1')
    train(SMALL, pack, run_folder=tmp_path)
    records = records_of(tmp_path)
    steps = [r["step"] for r in records if "kl" in r]
    assert steps == sorted(set(steps))
    assert all(r.get("kl", 0) >= 0 for r in records)


def test_previews_of_lost_steps_are_dropped_on_resume(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(10))
    (tmp_path / "previews" / "00000013.png").write_bytes(b"of a worker that died")
    shutil.copy(tmp_path / "previews" / "00000000.png", tmp_path / "previews" / "mine.png")
    train(SMALL, pack, run_folder=tmp_path)
    (tmp_path / "previews" / "mine.png").unlink()
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 13


@pytest.mark.parametrize("objective", ["beta", "btcvae", "capacity", "annealed", "controlled"])
def test_a_checkpoint_of_an_earlier_version_resumes_to_the_same_bits(
    objective: str, pack: Pack, tmp_path: Path
) -> None:
    """Earlier versions stored the settings of every objective, and β of every run."""
    settings = {"gamma": 10.0, "restart_step": 6, "restart_steps": 8, "num_steps": 12, "preview_steps": 0}
    config = with_objective(SMALL, objective, **settings)
    whole = train(config, pack, run_folder=tmp_path / "whole")
    train(config, pack, run_folder=tmp_path / "parts", should_stop=stop_at(8))
    checkpoint = newest_checkpoint(tmp_path / "parts" / "checkpoints")
    assert checkpoint is not None
    of_others = {
        name: field.default
        for name, field in all_settings().items()
        if not name.startswith(("discriminator", "lambda"))
    }
    checkpoint.state["config"] = of_others | {"beta": 4.0, "gamma": 1000.0} | checkpoint.state["config"]
    checkpoint.state.update({"beta": checkpoint.state.get("beta", 150.0), "least_capacity": 0.0})
    write_checkpoint(tmp_path / "parts" / "checkpoints", checkpoint, fence=1)
    result = train(config, pack, run_folder=tmp_path / "parts")
    assert result.resumed_from_step == 8
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name
