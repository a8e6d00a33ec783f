"""Runs on a GPU equal those on the CPU. The code is the same; these tests need a machine with a GPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packs_support import write_pack
from training_support import with_objective

from models.config import NetworkConfig
from models.files import load_model
from models.info import Preprocessing
from models.networks import VAE
from training.config import TrainingConfig
from training.data import dsprites
from training.data.packs import Pack, open_pack
from training.loop import TrainingResult, train
from training.metrics.evaluation import evaluate_model
from training.objectives.registry import OBJECTIVES
from worker.rendering.decoder import FrameDecoder
from worker.rendering.labels import measure_effects
from worker.rendering.traversal import encode_image

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GPU = "cuda:0"
SMALL = TrainingConfig(
    image_size=32,
    num_channels=3,
    latent_dim=6,
    num_steps=24,
    capacity_max=4.0,
    batch_size=16,
    log_steps=4,
    preview_steps=12,
    validation_steps=8,
    validation_fraction=0.2,
    learning_rate=1e-4,
    encoder_start="alive",
)
RESTART = {
    "beta_start": 0.01,
    "beta_least": 0.0,
    "restart_step": 10,
    "restart_steps": 12,
    "restart_components": 2,
    "restart_axes": "independent",
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Sprites in three colours, with their factors."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, dsprites.FACTOR_SIZES, (160, 5))
    colours = rng.integers(0, 3, 160)
    images = dsprites.render(classes, 32)[..., None] * np.eye(3, dtype=np.uint8)[colours][:, None, None]
    folder = tmp_path_factory.mktemp("pack") / "sprites"
    write_pack(
        folder,
        [images],
        name="sprites",
        kind="array",
        source="test",
        preprocessing=Preprocessing(image_size=32, num_channels=3),
        factors=np.column_stack([classes[:, 0], colours]),
        factor_names=("shape", "colour"),
        factor_sizes=(3, 3),
    )
    return open_pack(folder)


def network(num_channels: int = 3) -> VAE:
    """A network whose latents move its pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = VAE(NetworkConfig(image_size=32, num_channels=num_channels, latent_dim=6))
        with torch.no_grad():
            for parameter in made.parameters():
                gain = 2.2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.0
                parameter.copy_(torch.randn(parameter.shape) * gain)
            made.encoder.mean.weight.mul_(0.05)
            made.encoder.log_variance.weight.mul_(0.05)
    return made.eval()


def run(folder: Path, pack: Pack, config: TrainingConfig, device: str, **arguments: Any) -> TrainingResult:
    return train(config, pack, run_folder=folder, device=device, **arguments)


def losses_of(folder: Path) -> dict[int, float]:
    """Returns the losses that a run recorded, by step."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record["loss"] for record in records if "loss" in record}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_has_the_losses_of_the_cpu(objective: str, pack: Pack, tmp_path: Path) -> None:
    """The run has a restart with components, a rotation and lessons if the objective has one."""
    config = with_objective(SMALL, objective, gamma=10.0, **RESTART)
    for device in ("cpu", GPU):
        result = run(tmp_path / device, pack, config, device)
        assert result.outcome == "completed"
    assert next(result.network.parameters()).device == torch.device(GPU)
    expected, found = (losses_of(tmp_path / device) for device in ("cpu", GPU))
    assert found.keys() == expected.keys()
    # Convolutions round to TF32, and the differences grow with each step.
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=2e-3)
    loaded = load_model(tmp_path / GPU / "model").network
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        loaded.encode(images)[0], result.network.encode(images.to(GPU))[0].cpu(), atol=1e-2, rtol=1e-2
    )


@pytest.mark.parametrize(("first", "then"), [(GPU, GPU), ("cpu", GPU), (GPU, "cpu")])
@pytest.mark.parametrize("stop", [7, 16])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_run_goes_on_on_another_device(
    first: str, then: str, stop: int, optimizer: str, pack: Pack, tmp_path: Path
) -> None:
    """The run is stopped before its restart, and again while it has a teacher."""
    config = SMALL.replace(optimizer=optimizer, log_steps=1, **RESTART)
    run(tmp_path / "whole", pack, config, then)
    steps = iter(range(config.num_steps))
    stopped = run(tmp_path / "parts", pack, config, first, should_stop=lambda: "stop" if next(steps) == stop else None)
    assert stopped.outcome == "stopped"
    result = run(tmp_path / "parts", pack, config, then)
    assert (result.outcome, result.resumed_from_step) == ("completed", stopped.step)
    expected, found = losses_of(tmp_path / "whole"), losses_of(tmp_path / "parts")
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=2e-3)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_frames_and_codes_are_those_of_the_cpu(num_channels: int) -> None:
    ours, theirs = network(num_channels), network(num_channels).to(GPU)
    latents = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    expected, found = FrameDecoder(ours).frames(latents), FrameDecoder(theirs).frames(latents)
    assert expected.std() > 20
    difference = np.abs(expected.astype(int) - found)
    assert difference.max() <= 3
    assert difference.mean() < 0.1
    for one, other in zip(encode_image(ours, found[0]), encode_image(theirs, found[0]), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2, rtol=1e-2)


def test_a_set_that_the_gpu_holds_gives_the_losses_of_copied_batches(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_objective(SMALL, "factorvae", gamma=10.0, **RESTART)
    run(tmp_path / "held", pack, config, GPU)
    monkeypatch.setattr("training.inputs.HELD_SHARE", 2**60)
    run(tmp_path / "copied", pack, config, GPU)
    expected, found = losses_of(tmp_path / "copied"), losses_of(tmp_path / "held")
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=2e-3)


def test_scores_and_names_are_those_of_the_cpu(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.metrics.points.NUM_TRAIN", 300)
    monkeypatch.setattr("training.metrics.points.NUM_TEST", 150)
    ours, theirs = network(), network().to(GPU)
    expected, found = (
        evaluate_model(made, pack, device=device, metrics=("mig", "beta_vae", "dci"))
        for made, device in ((ours, "cpu"), (theirs, GPU))
    )
    assert found.reconstruction_loss == pytest.approx(expected.reconstruction_loss, rel=1e-3)
    assert found.kl_per_dimension == pytest.approx(expected.kl_per_dimension, rel=1e-2)
    for name, score in expected.scores.items():
        assert found.scores[name].value == pytest.approx(score.value, abs=0.05)
    starts = torch.zeros(3, 6)
    labels = [[e.label for e in measure_effects(made, s)] for made, s in ((ours, starts), (theirs, starts.to(GPU)))]
    assert labels[0] == labels[1]
