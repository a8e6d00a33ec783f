"""The training loop: how a run begins, steps and ends."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packs_support import write_pack
from training_support import SMALL, records_of, stop_at, weights_of

from benchmarks.training_speed import PlainVAE
from models.config import ConfigError
from models.info import Preprocessing
from training.checkpoints import Checkpoint, newest_checkpoint, write_checkpoint
from training.data.packs import Pack, open_pack
from training.inputs import Batches, noise_at
from training.loop import train

GAMMA = 10.0


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_run_equals_the_plain_loop_within_rounding(num_threads: int, pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(
        objective="capacity",
        capacity_start=2.0,
        capacity_max=2.0,
        num_steps=12,
        batch_size=32,
        log_steps=1,
        preview_steps=0,
        validation_fraction=0.0,
        learning_rate_schedule="constant",
        gamma=GAMMA,
    )
    plain = PlainVAE(train(config, pack, run_folder=tmp_path / "begun", should_stop=stop_at(0)).network)
    torch.set_num_threads(num_threads)
    run = train(config, pack, run_folder=tmp_path / "run")

    optimizer = torch.optim.Adam(plain.parameters(), lr=config.learning_rate)
    batches = Batches(pack.images, np.arange(len(pack.images)), config.batch_size, config.seed)
    losses = []
    for step in range(config.num_steps):
        images = torch.as_tensor(batches.at(step)).permute(0, 3, 1, 2) / 255
        logits, mean, log_variance = plain(images, noise_at(step, config.seed, (32, 4), torch.device("cpu")))
        reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(images)
        loss = reconstruction + GAMMA * (kl - 2.0).abs()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    records = records_of(tmp_path / "run")
    assert [record["loss"] for record in records] == pytest.approx(losses, rel=1e-5)
    for (name, one), other in zip(run.network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)


def test_cancelling_is_a_result_with_a_checkpoint_at_that_step(pack: Pack, tmp_path: Path) -> None:
    result = train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(7))
    assert (result.outcome, result.stop_reason, result.step) == ("stopped", "cancel", 7)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 7
    assert not (tmp_path / "model").exists()


def test_the_first_checkpoint_of_every_stretch_comes_early(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose processes are killed soon after their start goes forward."""
    monkeypatch.setattr("training.loop.FIRST_CHECKPOINT_SECONDS", 0.0)
    for first, last in ((0, 7), (7, SMALL.num_steps)):
        saved: list[int] = []

        def save(checkpoint: Checkpoint, saved: list[int] = saved) -> None:
            saved.append(checkpoint.step)
            write_checkpoint(tmp_path / "checkpoints", checkpoint)

        stop = stop_at(last)
        train(SMALL, pack, run_folder=tmp_path, should_stop=stop, checkpoint_seconds=3600, save_checkpoint=save)
        assert saved == [first, last]


def test_a_diverged_loss_ends_the_run_before_the_optimizer_moves(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(optimizer="sgd", learning_rate=10.0)
    saved: list[Checkpoint] = []
    result = train(config, pack, run_folder=tmp_path, checkpoint_seconds=0, save_checkpoint=saved.append)
    assert result.outcome == "diverged"
    assert "step" in result.message
    for tensor in weights_of(result).values():
        assert tensor.isfinite().all()


def test_a_network_that_the_last_update_broke_is_not_kept(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(objective="beta", optimizer="sgd", learning_rate=10.0, learning_rate_schedule="constant")
    step = train(config, pack, run_folder=tmp_path / "long").step
    assert 0 < step < config.num_steps
    # This run is the same until the network breaks, and validates, shows and saves at every step.
    config = config.replace(num_steps=step, validation_steps=1, preview_steps=1, log_steps=1)
    result = train(config, pack, run_folder=tmp_path / "short", checkpoint_seconds=0)
    assert (result.outcome, result.step, result.info) == ("diverged", step, None)
    assert not (tmp_path / "short" / "model").exists()
    checkpoint = newest_checkpoint(tmp_path / "short" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == step - 1
    assert f"the checkpoint of step {step - 1} is intact" in result.message
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())
    lines = (tmp_path / "short" / "metrics.jsonl").read_text()
    assert "NaN" not in lines
    assert "Infinity" not in lines


def test_a_network_that_its_last_update_broke_is_not_restarted(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(
        objective="annealed",
        optimizer="sgd",
        learning_rate=10.0,
        learning_rate_schedule="constant",
        restart_components=2,
    )
    step = train(config, pack, run_folder=tmp_path / "long").step
    assert 0 < step < config.num_steps
    result = train(config.replace(restart_step=step), pack, run_folder=tmp_path / "restarted")
    assert (result.outcome, result.step) == ("diverged", step)


def test_a_set_without_images_for_training_is_refused(tmp_path: Path) -> None:
    images = np.zeros((3, 32, 32, 1), np.uint8)
    for split, objective, field in (([2, 2, 1], "beta", "dataset"), ([0, 2, 1], "btcvae", "objective")):
        folder = tmp_path / field
        write_pack(
            folder,
            [images],
            name="x",
            kind="array",
            source="test",
            preprocessing=Preprocessing(image_size=32),
            split=np.array(split, np.uint8),
        )
        with pytest.raises(ConfigError) as error:
            train(SMALL.replace(objective=objective), open_pack(folder), run_folder=tmp_path / "run")
        assert error.value.field == field


def test_images_of_another_size_are_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset"):
        train(SMALL.replace(image_size=64), pack, run_folder=tmp_path)


def test_a_config_without_a_number_of_channels_takes_the_packs(pack: Pack, tmp_path: Path) -> None:
    assert SMALL.num_channels is None
    run = train(SMALL.replace(num_steps=1), pack, run_folder=tmp_path)
    assert run.info is not None
    assert run.info.network.num_channels == run.info.training["num_channels"] == pack.info.num_channels
    with pytest.raises(ValueError, match="the network takes"):
        train(SMALL.replace(num_channels=4 - pack.info.num_channels), pack, run_folder=tmp_path / "other")


def test_a_run_from_the_weights_of_a_model_begins_at_step_0(pack: Pack, tmp_path: Path) -> None:
    first = train(SMALL, pack, run_folder=tmp_path / "first")
    again = train(
        SMALL, pack, run_folder=tmp_path / "again", initial_weights=tmp_path / "first" / "model", should_stop=stop_at(0)
    )
    assert (again.step, again.resumed_from_step) == (0, None)
    for name, tensor in weights_of(first).items():
        assert torch.equal(tensor, weights_of(again)[name])
    other = SMALL.replace(latent_dim=5)
    with pytest.raises(ValueError, match="initial weights"):
        train(other, pack, run_folder=tmp_path / "other", initial_weights=tmp_path / "first" / "model")


def test_every_thread_of_a_run_flushes_denormals(pack: Pack, tmp_path: Path) -> None:
    # The process is new, since OpenMP's threads keep the state that they were made with. The batch is too small for
    # parts.
    script = """
import sys
from pathlib import Path
import torch
from training.config import TrainingConfig
from training.loop import train
from training.data.packs import open_pack

torch.set_num_threads(4)
left = []

def look(progress):
    left.append(int((torch.full((1 << 22,), 1e-30) * 1e-10).count_nonzero()))

config = TrainingConfig(
    image_size=32, batch_size=8, num_steps=2, log_steps=1, preview_steps=0, validation_fraction=0.0
)
train(config, open_pack(Path(sys.argv[1])), run_folder=Path(sys.argv[2]), on_progress=look)
print(left)
"""
    command = [sys.executable, "-c", script, str(pack.folder), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[0,", "0]"]
