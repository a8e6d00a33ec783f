"""Helpers of the training tests: a small run, its images, and readers of its files."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packs_support import write_pack
from tensorboardX.proto.event_pb2 import Event

from models.info import Preprocessing
from models.posteriors import Gaussian
from training.config import TrainingConfig
from training.data import dsprites
from training.data.packs import Pack, open_pack
from training.loop import TrainingResult
from training.objectives.base import RunFacts, StepLosses
from training.objectives.losses import kl_per_dimension
from training.objectives.registry import OBJECTIVES

SMALL = TrainingConfig(
    image_size=32,
    latent_dim=4,
    num_steps=24,
    capacity_max=4.0,
    batch_size=8,
    log_steps=4,
    preview_steps=12,
    validation_steps=6,
    validation_fraction=0.2,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """120 sprites of 32 px, as frames of three sequences."""
    classes = np.random.default_rng(0).integers(0, dsprites.FACTOR_SIZES, (120, 5))
    folder = tmp_path_factory.mktemp("pack") / "sprites"
    images = dsprites.render(classes, 32)[..., None]
    write_pack(
        folder,
        [images],
        name="sprites",
        kind="array",
        source="test",
        preprocessing=Preprocessing(image_size=32),
        sequences=np.stack(np.divmod(np.arange(120, dtype=np.int32), 40), axis=1),
    )
    return open_pack(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Lets torch compute in one thread, and restores the number of threads after each test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_objective(config: TrainingConfig, name: str, **settings: Any) -> TrainingConfig:
    """Returns the config with an objective and with those settings that it or every run has."""
    others = {setting for objective in OBJECTIVES.values() for setting in objective.model_fields}
    others -= set(OBJECTIVES[name].model_fields)
    read = {setting: value for setting, value in settings.items() if setting not in others}
    return config.replace(objective=name, **read)


def run_facts(latent_dim: int, seed: int = 0) -> RunFacts:
    """Returns the facts that an objective gets about a run of 24 steps on 120 images."""
    return RunFacts(
        num_training_images=120,
        batch_size=8,
        latent_dim=latent_dim,
        num_steps=24,
        seed=seed,
        device=torch.device("cpu"),
    )


def step_losses(mean: torch.Tensor, log_variance: torch.Tensor, step: int = 0) -> StepLosses:
    """Returns the losses of a step with these posteriors, each (B, D), and no reconstruction loss."""
    kls = kl_per_dimension(mean, log_variance)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(step))
    return StepLosses(
        step=step,
        reconstruction=torch.zeros(()),
        posterior=Gaussian(mean, log_variance),
        noise=noise,
        kl_per_dimension=kls,
        kl=kls.sum(),
    )


def pack_of_noise(folder: Path, num_channels: int) -> Pack:
    """Writes and opens a pack of 120 images of noise, 32 px."""
    images = np.random.default_rng(0).integers(0, 256, (120, 32, 32, num_channels), dtype=np.uint8)
    preprocessing = Preprocessing(image_size=32, num_channels=num_channels)
    write_pack(folder, [images], name="noise", kind="array", source="test", preprocessing=preprocessing)
    return open_pack(folder)


def rotation_of_any_angle(codes: NDArray[np.floating], kl: NDArray[np.floating]) -> NDArray[np.float64]:
    """Replaces rotation_to_independence, which does not rotate with as few images as these tests have."""
    count = codes.shape[1]
    rotation, _ = np.linalg.qr(np.random.default_rng(count).normal(size=(count, count)))
    return np.asfortranarray(rotation)


def stop_at(step: int) -> Callable[[], str | None]:
    """Returns a should_stop that answers `cancel` before the given step of a run that it sees from step 0."""
    left = step

    def should_stop() -> str | None:
        nonlocal left
        left -= 1
        return "cancel" if left < 0 else None

    return should_stop


def weights_of(result: TrainingResult) -> dict[str, torch.Tensor]:
    """Returns the weights of a run's network by name."""
    return result.network.state_dict()


def records_of(run_folder: Path) -> list[dict[str, Any]]:
    """Returns the records in a run's metrics.jsonl."""
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def events_of(path: Path) -> list[tuple[int, str, float]]:
    """Returns step, tag and value of the events in a TensorBoard file, by its published format; a picture's is 0."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        data = data[12 + length + 4 :]
    return found
