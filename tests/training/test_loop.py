"""The training loop: resume equals never having stopped, capacity is met, ends are results."""

import errno
import itertools
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from packs_support import write_pack
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from benchmarks.training_speed import PlainVAE
from models.config import ConfigError, NetworkConfig
from models.files import load_model
from models.info import Preprocessing
from models.networks import VAE
from models.pixels import to_input
from training.checkpoints import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from training.config import OBJECTIVES, TrainingConfig, with_lengths_in_steps
from training.data import dsprites
from training.data.packs import Pack, open_pack
from training.inputs import Batches, noise_at, split_indices
from training.loop import Progress, TrainingResult, capacity_at, train
from training.monitor import Watch
from training.objectives.losses import bernoulli_floor
from training.optimizers import LearningRate
from training.restart import Teacher, restart

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


def events_of(path: Path) -> list[tuple[int, str, float]]:
    """Step, tag and value of what a file of TensorBoard's holds, by its published format; a picture's value is 0."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        data = data[12 + length + 4 :]
    return found


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    classes = np.random.default_rng(0).integers(0, dsprites.FACTOR_SIZES, (120, 5))
    folder = tmp_path_factory.mktemp("pack") / "sprites"
    images = dsprites.render(classes, 32)[..., None]
    write_pack(
        folder, [images], name="sprites", kind="array", source="test", preprocessing=Preprocessing(image_size=32)
    )
    return open_pack(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights_of(result: TrainingResult) -> dict[str, torch.Tensor]:
    return result.network.state_dict()


def turned_anyhow(codes: NDArray[np.floating], kl: NDArray[np.floating]) -> NDArray[np.float64]:
    """In place of rotation_to_independence, which turns nothing by so few images as these tests have."""
    count = codes.shape[1]
    rotation, _ = np.linalg.qr(np.random.default_rng(count).normal(size=(count, count)))
    return np.asfortranarray(rotation)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_stopping_and_resuming_changes_no_bit(
    objective: str, optimizer: str, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.restart.rotation_to_independence", turned_anyhow)
    rate = {"adam": 1e-2, "sgd": 1e-6, "rmsprop": 1e-3}[optimizer]
    config = replace(
        SMALL,
        objective=objective,
        beta_start=0.01,  # With an encoder that is alive, latents that a restart can show.
        beta_least=0.0,
        optimizer=optimizer,
        learning_rate=rate,
        learning_rate_schedule="plateau",
        gamma=10.0,
        restart_step=6,
        restart_steps=12,
        restart_components=2,
        restart_axes="independent",
        encoder_start="alive",
    )
    whole = train(config, pack, run_folder=tmp_path / "whole")
    stops = set(np.random.default_rng([len(objective), len(optimizer)]).choice(np.arange(1, 24), 3).tolist())
    stops.add(10)  # In the middle of a restart's lesson.
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
        # A resumed run asks once more at the step at which it was stopped.
        calls, resumed = result.step, 0
    assert parts >= 2
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name


@pytest.mark.parametrize(("axes", "turns"), [("independent", True), ("found", False)])
def test_a_restart_turns_what_it_shows_where_it_is_asked_to(
    axes: str, turns: bool, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.restart.rotation_to_independence", turned_anyhow)
    config = replace(SMALL, objective="annealed", restart_step=4, restart_steps=12, restart_axes=axes)
    config = replace(config, encoder_start="alive", beta_start=0.01, learning_rate=1e-2)
    reasons = iter([*[None] * 6, "shutdown"])
    train(config, pack, run_folder=tmp_path, should_stop=lambda: next(reasons))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert ("teacher_rotation" in checkpoint.tensors) == turns
    if turns:
        num_shown = len(checkpoint.state["teacher_dimensions"])
        assert num_shown >= 2
        expected = turned_anyhow(np.zeros((0, num_shown)), np.ones(num_shown))
        assert np.allclose(checkpoint.tensors["teacher_rotation"].numpy(), expected, atol=1e-6)


def test_a_restart_begins_with_a_fresh_optimizer(pack: Pack, tmp_path: Path) -> None:
    config = replace(SMALL, objective="annealed", restart_step=4, restart_steps=12)
    reasons = iter([*[None] * 6, "shutdown"])
    train(config, pack, run_folder=tmp_path, should_stop=lambda: next(reasons))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    steps = [
        t.item() for name, t in checkpoint.tensors.items() if name.startswith("optimizer.") and name.endswith("step")
    ]
    assert checkpoint.step == 6
    assert steps
    assert set(steps) == {2}  # Of Adam: those since the restart.


def test_resuming_changes_no_bit_where_threads_share_the_batches(pack: Pack, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    config = replace(SMALL, objective="annealed", batch_size=48, restart_step=4, restart_steps=12, num_steps=12)
    whole = train(config, pack, run_folder=tmp_path / "whole")
    for stop in (3, 7):
        reasons = iter([None] * (stop if stop == 3 else stop - 3) + ["shutdown"])
        stopped = train(config, pack, run_folder=tmp_path / "parts", should_stop=lambda: next(reasons))  # noqa: B023
        assert stopped.step == stop
    result = train(config, pack, run_folder=tmp_path / "parts")
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name


def lengthy_lesson() -> TrainingConfig:
    """Of a restart whose lesson goes three times through the set, but for a step."""
    steps_per_epoch = 96 // SMALL.batch_size
    return replace(
        SMALL, objective="annealed", encoder_start="alive", beta_start=0.01, restart_step=4, restart_components=2,
        restart_steps=3 * steps_per_epoch - 1, num_steps=4 + 3 * steps_per_epoch, preview_steps=2,
    )  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of images that a teacher looks at, call by call."""
    counts: list[int] = []
    targets = Teacher.targets

    def counted(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return targets(self, images)

    monkeypatch.setattr(Teacher, "targets", counted)
    return counts


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_teacher_looks_at_an_image_once_where_its_lesson_comes_back_to_it(
    num_threads: int, pack: Pack, tmp_path: Path, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(num_threads)
    once = train(lengthy_lesson(), pack, run_folder=tmp_path / "once")
    assert sum(seen) == 96  # Those of 120 that are trained on.
    monkeypatch.setattr("training.loop._keeps_lessons", lambda *_: False)
    seen.clear()
    anew = train(lengthy_lesson(), pack, run_folder=tmp_path / "anew")
    assert sum(seen) > 2 * 96
    for name, tensor in weights_of(once).items():
        assert (weights_of(anew)[name] - tensor).norm() < 0.01 * tensor.norm(), name


def test_a_run_stopped_while_its_teacher_looks_at_the_set_goes_on_to_the_same_bits(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lengthy_lesson()
    whole = train(config, pack, run_folder=tmp_path / "whole")
    monkeypatch.setattr("training.loop._STOPPABLE", 1)
    asked = 0

    def should_stop() -> str | None:
        nonlocal asked
        asked += 1
        return "shutdown" if asked > config.restart_step + 2 else None  # type: ignore[operator]

    stopped = train(config, pack, run_folder=tmp_path / "parts", should_stop=should_stop)
    assert (stopped.step, stopped.stop_reason) == (config.restart_step, "shutdown")
    checkpoint = newest_checkpoint(tmp_path / "parts" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.state["teacher_dimensions"] is not None
    shown = f"previews/{config.restart_step:08d}.png"  # Of the network before the restart.
    assert (tmp_path / "parts" / shown).read_bytes() == (tmp_path / "whole" / shown).read_bytes()
    result = train(config, pack, run_folder=tmp_path / "parts")
    assert result.resumed_from_step == config.restart_step
    assert (tmp_path / "parts" / shown).read_bytes() == (tmp_path / "whole" / shown).read_bytes()
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(result)[name]), name


@pytest.mark.parametrize(("num_steps", "restart_steps", "looks"), [(28, 24, 96), (27, 24, 23 * 8), (100, 23, 23 * 8)])
def test_a_short_lesson_looks_at_its_batches_alone(
    num_steps: int, restart_steps: int, looks: int, pack: Pack, tmp_path: Path, seen: list[int]
) -> None:
    config = replace(lengthy_lesson(), num_steps=num_steps, restart_steps=restart_steps, preview_steps=0)
    train(config, pack, run_folder=tmp_path)
    assert sum(seen) == looks


def test_a_restart_draws_the_network_anew_and_keeps_the_active_dimensions_in_place(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        network.encoder.mean.weight[1] *= 1000
        before, log_variance = network.encode(images)
    teacher = restart(network, images, seed=5)
    assert 1 in teacher.dimensions.tolist()
    targets = teacher.targets(images)
    after, _ = network.encode(images)
    assert not torch.equal(before, after)
    assert teacher.loss(targets, after, log_variance, 1.0) > 0
    assert teacher.loss(targets, before, log_variance, 1.0) == 0
    assert teacher.loss(targets, after, log_variance, 0.0) == 0


def test_a_restart_holds_no_dimension_that_is_next_to_idle(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        # KLs of 4.1, .1, .4 and 0: the second is active by its nats, and idle beside the first.
        for layer in (network.encoder.mean, network.encoder.log_variance):
            layer.weight.zero_()
        network.encoder.log_variance.bias.zero_()
        network.encoder.mean.bias.copy_(torch.tensor([8.2, 0.2, 0.8, 0.0]).sqrt())
    assert restart(network, images, seed=5).dimensions.tolist() == [0, 2]


def test_after_a_restart_the_idlest_dimensions_learn_what_the_old_network_left(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        network.encoder.mean.weight[2] *= 1000
        network.encoder.mean.weight[1] = -network.encoder.mean.weight[2]  # Both carry as much.
        network.encoder.mean.weight[3] *= 10
        means, log_variance = network.encode(images)
        left = F.avg_pool2d(images - torch.sigmoid(network.decoder(means)), 4).flatten(1).numpy()
    teacher = restart(network, images, seed=5, num_components=2)
    assert sorted(teacher.taught.tolist()) == [0, 3]
    assert teacher.dimensions.tolist() == [1, 2]
    scores, _, _ = np.linalg.svd(left - left.mean(0), full_matrices=False)
    means[:, teacher.taught] = torch.from_numpy(scores[:, :2]) * 8  # Unit variance over 64 images.
    heard = log_variance.clone()
    heard[:, teacher.taught] = -3
    targets = teacher.targets(images)
    distances = []
    for signs in itertools.product((-1.0, 1.0), repeat=2):  # A component's sign is nobody's choice.
        signed = means.clone()
        signed[:, teacher.taught] *= torch.tensor(signs)
        distances.append(teacher.loss(targets, signed, heard, 1.0).item())
    assert min(distances) < 1e-3 < sorted(distances)[1]
    assert teacher.loss(targets, signed, log_variance, 1.0) > distances[-1]


def test_a_restart_teaches_no_more_components_than_its_images_have(pack: Pack) -> None:
    torch.manual_seed(0)
    for count in (1, 2, 3):
        network = VAE(NetworkConfig(image_size=32, latent_dim=8))
        images = to_input(pack.images[np.arange(count)], torch.device("cpu"))
        teacher = restart(network, images, seed=5, num_components=6)
        assert len(teacher.taught) <= count - 1
        assert (teacher.residual is None) == (len(teacher.taught) == 0)
        others = to_input(pack.images[np.arange(20, 40)], torch.device("cpu"))
        with torch.no_grad():
            assert teacher.loss(teacher.targets(others), *network.encode(others), 1.0) < 1e5


def with_sprites_position_at_an_angle(network: VAE) -> None:
    """An encoder whose latents 0 and 2 are the sprite's x and y, turned by 30° against each other; 1 and 3 are idle."""

    class Position(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            weights = images.sum(1) / images.sum((1, 2, 3))[:, None, None]
            along = torch.linspace(-5, 5, images.shape[-1])
            x, y = (weights.sum(1) * along).sum(1), (weights.sum(2) * along).sum(1)
            mean = torch.stack([0.866 * x - 0.5 * y, 0 * x, 0.5 * x + 0.866 * y, 0 * x], 1)
            return mean, torch.zeros_like(mean)

    network.encoder = Position()  # type: ignore[assignment]


def test_a_teacher_shows_its_latents_turned_to_independence() -> None:
    classes = np.random.default_rng(0).integers(0, dsprites.FACTOR_SIZES, (3000, 5))
    sprites = dsprites.render(classes, 32)[..., None]
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    with_sprites_position_at_an_angle(network)
    teacher = Teacher(network, torch.tensor([0, 2]))
    images = to_input(sprites[:500], torch.device("cpu"))
    places = classes[:500, 3:]

    def crosstalk() -> float:
        found = np.abs(np.corrcoef(teacher.targets(images).numpy(), places, rowvar=False)[:2, 2:])
        return float(found.min(1).max())

    assert crosstalk() > 0.4
    teacher.turn(sprites, np.arange(len(sprites)))
    assert crosstalk() < 0.1
    assert teacher.targets(images).shape == (500, 2)


def test_a_teacher_comes_back_from_its_tensors(pack: Pack) -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=4))
    images = to_input(pack.images[np.arange(64)], torch.device("cpu"))
    with torch.no_grad():
        network.encoder.mean.weight[2] *= 1000
        network.encoder.mean.weight[1] = -network.encoder.mean.weight[2]
    teacher = restart(network, images, seed=5, num_components=2)
    assert teacher.dimensions.tolist() == [1, 2]
    teacher.rotation = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    back = Teacher.from_tensors(teacher.tensors(), teacher.dimensions.tolist(), network)
    with torch.no_grad():
        encoded = network.encode(images)
        assert back.loss(back.targets(images), *encoded, 0.5) == teacher.loss(teacher.targets(images), *encoded, 0.5)


def test_a_run_leaves_what_it_promises(pack: Pack, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = train(SMALL, pack, run_folder=tmp_path, name="a model", on_progress=seen.append)
    assert result.outcome == "completed"
    assert [progress.step for progress in seen] == [4, 8, 12, 16, 20, 24]
    assert "validation_loss" in seen[-1].metrics
    assert seen[-1].fraction == 1
    assert seen[-1].eta_seconds == 0
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "kl" in r] == [4, 8, 12, 16, 20, 24]
    assert [r["step"] for r in records if "validation_loss" in r] == [6, 12, 18, 24]
    assert sorted(p.name for p in (tmp_path / "previews").iterdir()) == [f"{step:08d}.png" for step in range(0, 25, 2)]
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 13
    for name in ("training.gif", "capacity.png"):
        Image.open(tmp_path / name).verify()
    # TensorBoard's events say what the lines say.
    events = [event for path in (tmp_path / "tensorboard").iterdir() for event in events_of(path)]
    assert {name for _, name, _ in events} > {"loss", "validation_loss", "kl_per_dimension/03", "preview"}
    for name in ("loss", "capacity", "validation_kl"):
        expected = {r["step"]: r[name] for r in records if name in r}
        assert {step: value for step, tag, value in events if tag == name} == pytest.approx(expected, rel=1e-6)
    loaded = load_model(tmp_path / "model")
    assert loaded.info == result.info
    assert loaded.info.dataset["digest"] == pack.info.digest
    assert loaded.info.preprocessing == replace(SMALL, num_channels=1).preprocessing
    assert len(loaded.info.kl_per_dimension) == 4


def test_a_stop_leaves_all_of_its_records_to_tensorboard(pack: Pack, tmp_path: Path) -> None:
    """As kill -9 does, which gives nobody the time to write what is held back."""
    config = replace(SMALL, preview_steps=0)
    found: list[int] = []

    def note(progress: Progress) -> None:
        (path,) = (tmp_path / "tensorboard").iterdir()
        found.append(max(step for step, _, _ in events_of(path)))

    train(config, pack, run_folder=tmp_path, on_progress=note, should_stop=stop_at(17))
    assert found == [4, 8, 12, 16]
    train(config, pack, run_folder=tmp_path)
    steps = [
        [step for step, name, _ in events_of(path) if name == "loss"]
        for path in sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:]))
    ]
    assert steps == [[4, 8, 12, 16], [20, 24]]


def test_a_full_disk_ends_a_run_and_does_not_hang_it(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.flush", full)
    with pytest.raises(OSError, match="No space left"):
        train(SMALL, pack, run_folder=tmp_path)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_entropy_of_grey_images_stands_beside_a_bernoulli_loss(pack: Pack, tmp_path: Path, likelihood: str) -> None:
    images = np.asarray(pack.images) // 3
    write_pack(
        tmp_path / "grey", [images], name="grey", kind="array", source="test",
        preprocessing=Preprocessing(image_size=32),
    )  # fmt: skip
    grey = open_pack(tmp_path / "grey")
    config = replace(SMALL, likelihood=likelihood, num_steps=4, preview_steps=0)
    info = train(config, grey, run_folder=tmp_path / "run").info
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert info is not None
    logged = [r.get("bernoulli_floor") for r in records if "kl" in r]
    if likelihood == "gaussian":
        assert (logged, info.bernoulli_floor) == ([None], None)
        return
    # Each beside the loss of the same images.
    training, validation = (
        bernoulli_floor(to_input(images[indices], torch.device("cpu"))).item()
        for indices in split_indices(grey, config)
    )
    assert logged == [pytest.approx(training, rel=1e-5)]
    assert info.bernoulli_floor == pytest.approx(validation, rel=1e-5)
    assert 0 < validation <= (info.reconstruction_loss or 0)


def test_records_of_lost_steps_are_dropped_on_resume(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(10))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 12, "kl": -1}) + '\n{"step": 1')
    train(SMALL, pack, run_folder=tmp_path)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [r["step"] for r in records if "kl" in r]
    assert steps == sorted(set(steps))
    assert all(r.get("kl", 0) >= 0 for r in records)


def stop_at(step: int) -> "StopAt":
    return StopAt(step)


class StopAt:
    """A should_stop that answers `cancel` when it is asked for the n-th time, that is before step n."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self) -> str | None:
        self.left -= 1
        return "cancel" if self.left < 0 else None


def test_cancelling_is_a_result_with_a_checkpoint_at_that_step(pack: Pack, tmp_path: Path) -> None:
    result = train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(7))
    assert (result.outcome, result.stop_reason, result.step) == ("stopped", "cancel", 7)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 7
    assert not (tmp_path / "model").exists()


def test_a_diverged_loss_ends_the_run_before_the_optimizer_moves(pack: Pack, tmp_path: Path) -> None:
    config = replace(SMALL, optimizer="sgd", learning_rate=10.0)
    saved: list[Checkpoint] = []
    result = train(config, pack, run_folder=tmp_path, checkpoint_seconds=0, save_checkpoint=saved.append)
    assert result.outcome == "diverged"
    assert "step" in result.message
    for tensor in weights_of(result).values():
        assert tensor.isfinite().all()


def test_nothing_is_kept_of_a_network_that_the_last_update_broke(pack: Pack, tmp_path: Path) -> None:
    config = replace(SMALL, objective="beta", optimizer="sgd", learning_rate=10.0, learning_rate_schedule="constant")
    step = train(config, pack, run_folder=tmp_path / "long").step
    assert 0 < step < config.num_steps
    # The same course, of which the broken network is the end; validated, shown and saved at every step.
    config = replace(config, num_steps=step, validation_steps=1, preview_steps=1, log_steps=1)
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
    config = replace(
        SMALL, objective="annealed", optimizer="sgd", learning_rate=10.0, learning_rate_schedule="constant",
        restart_components=2,
    )  # fmt: skip
    step = train(config, pack, run_folder=tmp_path / "long").step
    assert 0 < step < config.num_steps
    result = train(replace(config, restart_step=step), pack, run_folder=tmp_path / "restarted")
    assert (result.outcome, result.step) == ("diverged", step)


def test_a_folder_whose_clearing_was_killed_is_cleared_by_the_next_run(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(SMALL, pack, run_folder=tmp_path)
    with monkeypatch.context() as context:
        context.setattr("shutil.rmtree", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(replace(SMALL, seed=1), pack, run_folder=tmp_path, resume=False)
    assert train(replace(SMALL, seed=1), pack, run_folder=tmp_path, resume=False).outcome == "completed"
    assert train(replace(SMALL, seed=1), pack, run_folder=tmp_path).resumed_from_step == SMALL.num_steps


def test_a_set_without_images_for_training_is_refused(tmp_path: Path) -> None:
    images = np.zeros((3, 32, 32, 1), np.uint8)
    for split, objective, field in (([2, 2, 1], "beta", "dataset"), ([0, 2, 1], "btcvae", "objective")):
        folder = tmp_path / field
        write_pack(
            folder, [images], name="x", kind="array", source="test", preprocessing=Preprocessing(image_size=32),
            split=np.array(split, np.uint8),
        )  # fmt: skip
        with pytest.raises(ConfigError) as error:
            train(replace(SMALL, objective=objective), open_pack(folder), run_folder=tmp_path / "run")
        assert error.value.field == field


def test_a_restart_begins_with_a_fresh_learning_rate(pack: Pack, tmp_path: Path) -> None:
    """The plateaus that the old network came to say nothing about one that is drawn anew."""
    config = replace(
        SMALL, objective="annealed", learning_rate_schedule="plateau", plateau_patience=1, learning_rate=1e-3,
        num_steps=40, restart_step=20, validation_steps=1, log_steps=1, beta=1.0, beta_start=1000.0, anneal_steps=1000,
    )  # fmt: skip
    rates: dict[int, float] = {}
    train(config, pack, run_folder=tmp_path, on_progress=lambda p: rates.update({p.step: p.metrics["learning_rate"]}))
    assert rates[20] < 1e-3
    assert rates[21] == 1e-3


def test_the_rate_falls_after_as_many_validations_as_said() -> None:
    config = replace(SMALL, learning_rate_schedule="plateau", plateau_patience=3)
    rate = LearningRate(config, torch.optim.SGD([torch.zeros(1)], lr=1.0))
    rate.validated(1.0)
    for expected in (1.0, 1.0, 0.1):
        rate.validated(2.0)
        rate.apply(0)
        assert rate.current == pytest.approx(expected * config.learning_rate)


def test_plateaus_count_once_a_restart_has_ended_the_ramp(pack: Pack, tmp_path: Path) -> None:
    config = replace(
        SMALL, learning_rate_schedule="plateau", plateau_patience=1, num_steps=30, restart_step=4, capacity_steps=29,
        validation_steps=1, log_steps=1, learning_rate=1e-12,
    )  # fmt: skip
    rates: list[float] = []
    train(config, pack, run_folder=tmp_path, on_progress=lambda p: rates.append(p.metrics["learning_rate"]))
    assert rates[4] == 1e-12
    assert rates[20] < 1e-12


def test_the_time_left_counts_the_images_that_a_batch_has(pack: Pack, tmp_path: Path) -> None:
    config = replace(SMALL, batch_size=4096, num_steps=8)
    seen: list[Progress] = []
    train(config, pack, run_folder=tmp_path, on_progress=seen.append)
    first = seen[0]
    assert first.images_per_second is not None
    assert first.eta_seconds == pytest.approx((8 - first.step) * 96 / first.images_per_second)


def test_the_kl_of_the_capacity_objective_sits_at_its_capacity(pack: Pack, tmp_path: Path) -> None:
    config = replace(
        SMALL, objective="capacity", num_steps=500, capacity_steps=200, capacity_max=5.0, gamma=1000.0,
        learning_rate=1e-3, batch_size=32, log_steps=50, preview_steps=0, validation_steps=None,
    )  # fmt: skip
    seen: list[Progress] = []
    result = train(config, pack, run_folder=tmp_path, on_progress=seen.append)
    assert seen[-1].metrics["capacity"] == 5.0
    assert seen[-1].metrics["kl"] == pytest.approx(5.0, rel=0.02)
    # Not the mean over the last steps alone: the weights have come to rest there.
    assert result.info is not None
    assert sum(result.info.kl_per_dimension) == pytest.approx(5.0, rel=0.02)


def test_the_steered_beta_leads_the_kl_to_its_capacity(pack: Pack, tmp_path: Path) -> None:
    config = replace(
        SMALL, restart_fraction=0.0, beta_least=0.0, num_steps=600, capacity_max=5.0, learning_rate=1e-3,
        batch_size=32, log_steps=50, preview_steps=0,
        validation_steps=None, validation_fraction=0.0,
    )  # fmt: skip
    assert config.objective == "controlled"
    seen: list[Progress] = []
    result = train(config, pack, run_folder=tmp_path / "free", on_progress=seen.append)
    assert seen[-1].metrics["kl"] == pytest.approx(5.0, rel=0.05)
    assert seen[-1].metrics["normalised_beta"] == pytest.approx(seen[-1].metrics["beta"] * 4 / 32**2)
    assert result.info is not None
    assert sum(result.info.kl_per_dimension) == pytest.approx(5.0, rel=0.05)
    # With a least β, C is an upper bound: here the images pay for far less.
    bounded = replace(config, beta_least=100.0)
    train(bounded, pack, run_folder=tmp_path / "bounded", on_progress=seen.append)
    assert seen[-1].metrics["beta"] == 100
    assert seen[-1].metrics["kl"] < 2.5
    assert any("the images pay for no more" in text for progress in seen for text in progress.warnings)


def test_c_is_at_its_end_after_a_restart_where_beta_is_steered() -> None:
    config = with_lengths_in_steps(replace(SMALL, num_steps=100, restart_fraction=0.2), 10)
    assert (config.restart_step, config.restart_steps) == (20, 50)
    assert [capacity_at(step, config) for step in (0, 10, 19, 20, 60)] == pytest.approx([0, 0.8, 1.52, 4, 4])
    assert capacity_at(20, replace(config, objective="capacity")) == pytest.approx(1.6)
    assert with_lengths_in_steps(replace(SMALL, restart_fraction=0.0), 10).restart_step is None
    assert with_lengths_in_steps(replace(SMALL, objective="annealed"), 10).restart_step is None


@pytest.mark.parametrize(("objective", "stop"), [("controlled", None), ("controlled", 40), ("capacity", 40)])
def test_a_run_with_a_capacity_from_a_model_keeps_what_it_knows(
    objective: str, stop: int | None, pack: Pack, tmp_path: Path
) -> None:
    config = replace(
        SMALL, num_steps=400, objective="beta", beta=1.0, learning_rate=1e-3, batch_size=32, preview_steps=0,
        validation_steps=None, validation_fraction=0.0,
    )  # fmt: skip
    first = train(config, pack, run_folder=tmp_path / "first").info
    assert first is not None
    known = sum(first.kl_per_dimension)
    assert known > 4
    again = replace(config, objective=objective, restart_fraction=0.0, num_steps=80, capacity_max=known + 5, gamma=10)
    seen: list[Progress] = []
    folder, weights = tmp_path / "again", tmp_path / "first" / "model"
    if stop is not None:
        train(again, pack, run_folder=folder, initial_weights=weights, should_stop=stop_at(stop))
    train(again, pack, run_folder=folder, initial_weights=weights, on_progress=seen.append)
    for progress in seen:
        assert progress.metrics["capacity"] >= known * 0.9
        assert progress.metrics["kl"] > known * 0.5  # A fresh Adam's first steps are long.
    assert seen[-1].metrics["kl"] > known * 0.8


def test_the_last_report_has_the_last_validation(pack: Pack, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(replace(SMALL, validation_fraction=0.2), pack, run_folder=tmp_path, on_progress=seen.append)
    assert seen[-1].step == SMALL.num_steps
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [record["validation_loss"] for record in records if "validation_loss" in record][-1]
    assert seen[-1].metrics["validation_loss"] == last


def test_a_checkpoint_of_another_run_is_refused(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(3))
    with pytest.raises(CheckpointError, match=r"other settings: beta 4\.0 \(now 3\.0\)$"):
        train(replace(SMALL, beta=3.0), pack, run_folder=tmp_path)


def test_a_checkpoint_with_another_rhythm_of_previews_and_records_goes_on(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(3))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    checkpoint.state["config"] |= {"preview_steps": 2_000, "log_steps": 3}
    write_checkpoint(tmp_path / "checkpoints", checkpoint, fence=1)
    assert train(SMALL, pack, run_folder=tmp_path).resumed_from_step == 3


def test_a_run_that_died_before_its_first_checkpoint_leaves_nothing_to_the_next(pack: Pack, tmp_path: Path) -> None:
    def die(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, pack, run_folder=tmp_path, on_progress=die)
    assert list((tmp_path / "previews").iterdir())
    # Pictures of another size, which would not fit into one animation.
    result = train(replace(SMALL, latent_dim=6), pack, run_folder=tmp_path)
    assert result.outcome == "completed"
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 13


def test_previews_of_lost_steps_are_dropped_on_resume(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(10))
    (tmp_path / "previews" / "00000013.png").write_bytes(b"of a worker that died")
    shutil.copy(tmp_path / "previews" / "00000000.png", tmp_path / "previews" / "mine.png")
    train(SMALL, pack, run_folder=tmp_path)
    (tmp_path / "previews" / "mine.png").unlink()
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 13


def test_a_long_runs_animation_has_a_hundred_frames(pack: Pack, tmp_path: Path) -> None:
    train(replace(SMALL, num_steps=150, preview_steps=1), pack, run_folder=tmp_path)
    frames = iio.imread(tmp_path / "training.gif", index=None)
    assert len(frames) == 100
    for frame, step in ((frames[0], 0), (frames[-1], 150)):
        shown = iio.imread(tmp_path / "previews" / f"{step:08d}.png")
        assert np.array_equal(frame, shown)


def test_a_run_whose_records_are_gone_is_known_by_its_checkpoints(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    train(SMALL, pack, run_folder=tmp_path, resume=False, should_stop=stop_at(10))
    assert train(SMALL, pack, run_folder=tmp_path).resumed_from_step == 10


def test_only_the_folder_of_a_run_is_cleared(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "mine.txt").write_text("mine")
    train(replace(SMALL, num_steps=4), pack, run_folder=tmp_path / "run", resume=False)
    assert (tmp_path / "run" / "model" / "mine.txt").exists()
    # A link is removed, what it leads to stays.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("kept")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "metrics.jsonl").touch()
    (tmp_path / "linked" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    train(replace(SMALL, num_steps=4), pack, run_folder=tmp_path / "linked", resume=False)
    assert (tmp_path / "elsewhere" / "kept.txt").exists()


def test_a_model_in_the_folder_of_the_run_is_not_started_from(pack: Pack, tmp_path: Path) -> None:
    train(replace(SMALL, num_steps=4), pack, run_folder=tmp_path)
    with pytest.raises(ValueError, match="initial weights"):
        train(SMALL, pack, run_folder=tmp_path, resume=False, initial_weights=tmp_path / "model")
    assert (tmp_path / "model" / "model.json").exists()


def test_a_checkpoint_from_before_a_setting_was_added_goes_on(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path, should_stop=stop_at(3))
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    del checkpoint.state["config"]["anneal_steps"]
    write_checkpoint(tmp_path / "checkpoints", checkpoint, fence=1)
    assert train(SMALL, pack, run_folder=tmp_path).resumed_from_step == 3


def test_a_run_that_begins_anew_leaves_nothing_of_the_one_before(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    shorter = replace(SMALL, num_steps=10, seed=1)
    train(shorter, pack, run_folder=tmp_path / "run", resume=False, should_stop=stop_at(5))
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["00000005-0.json"]
    assert not (tmp_path / "run" / "model").exists()
    again = train(shorter, pack, run_folder=tmp_path / "run")
    assert again.resumed_from_step == 5
    train(shorter, pack, run_folder=tmp_path / "fresh")
    for name in ("previews", "best"):
        found, expected = (sorted(p.name for p in (tmp_path / run / name).iterdir()) for run in ("run", "fresh"))
        assert found == expected
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_run_is_the_plain_loop_within_rounding(num_threads: int, pack: Pack, tmp_path: Path) -> None:
    config = replace(
        SMALL, objective="capacity", capacity_start=2.0, capacity_max=2.0, num_steps=12, batch_size=32, log_steps=1,
        preview_steps=0, validation_fraction=0.0, learning_rate_schedule="constant", gamma=10.0,
    )  # fmt: skip
    plain = PlainVAE(train(config, pack, run_folder=tmp_path / "begun", should_stop=stop_at(0)).network)
    torch.set_num_threads(num_threads)
    run = train(config, pack, run_folder=tmp_path / "run")

    optimizer = torch.optim.Adam(plain.parameters(), lr=config.learning_rate)
    batches = Batches(pack.images, np.arange(len(pack.images)), config.batch_size, config.seed)
    losses = []
    for step in range(config.num_steps):
        images = torch.from_numpy(batches.at(step)).permute(0, 3, 1, 2) / 255
        logits, mean, log_variance = plain(images, noise_at(step, config.seed, (32, 4), torch.device("cpu")))
        reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(images)
        loss = reconstruction + config.gamma * (kl - 2.0).abs()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["loss"] for record in records] == pytest.approx(losses, rel=1e-5)
    for (name, one), other in zip(run.network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)


def test_starting_from_another_models_weights_is_no_resume(pack: Pack, tmp_path: Path) -> None:
    first = train(SMALL, pack, run_folder=tmp_path / "first")
    again = train(
        SMALL, pack, run_folder=tmp_path / "again", initial_weights=tmp_path / "first" / "model", should_stop=stop_at(0)
    )
    assert (again.step, again.resumed_from_step) == (0, None)
    for name, tensor in weights_of(first).items():
        assert torch.equal(tensor, weights_of(again)[name])
    other = replace(SMALL, latent_dim=5)
    with pytest.raises(ValueError, match="initial weights"):
        train(other, pack, run_folder=tmp_path / "other", initial_weights=tmp_path / "first" / "model")


def test_an_open_number_of_channels_is_the_packs(pack: Pack, tmp_path: Path) -> None:
    assert SMALL.num_channels is None
    run = train(replace(SMALL, num_steps=1), pack, run_folder=tmp_path)
    assert run.info is not None
    assert run.info.network.num_channels == run.info.training["num_channels"] == pack.info.num_channels
    with pytest.raises(ValueError, match="the network takes"):
        train(replace(SMALL, num_channels=4 - pack.info.num_channels), pack, run_folder=tmp_path / "other")


def pack_of_noise(folder: Path, num_channels: int) -> Pack:
    images = np.random.default_rng(0).integers(0, 256, (120, 32, 32, num_channels), dtype=np.uint8)
    preprocessing = Preprocessing(image_size=32, num_channels=num_channels)
    write_pack(folder, [images], name="noise", kind="array", source="test", preprocessing=preprocessing)
    return open_pack(folder)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_the_default_looks_for_what_is_small_in_pictures_with_colours(num_channels: int, tmp_path: Path) -> None:
    pack = pack_of_noise(tmp_path / "pack", num_channels)
    reasons = iter([*[None] * 8, "shutdown"])  # In the restart's lesson.
    config = replace(SMALL, latent_dim=10)
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


@pytest.mark.parametrize("known", [True, False])
def test_a_run_goes_on_with_the_components_that_it_began_with(known: bool, tmp_path: Path) -> None:
    pack = pack_of_noise(tmp_path / "pack", 3)
    reasons = iter([None, None, "shutdown"])
    before = replace(SMALL, restart_components=0)
    train(before, pack, run_folder=tmp_path / "run", should_stop=lambda: next(reasons))
    if not known:  # A checkpoint of before there was such a setting.
        checkpoint = newest_checkpoint(tmp_path / "run" / "checkpoints")
        assert checkpoint is not None
        del checkpoint.state["config"]["restart_components"]
        write_checkpoint(tmp_path / "run" / "checkpoints", checkpoint, fence=1)
    result = train(SMALL, pack, run_folder=tmp_path / "run")
    assert result.resumed_from_step == 2
    assert result.info is not None
    assert result.info.training["restart_components"] == 0


def test_images_of_another_size_are_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset"):
        train(replace(SMALL, image_size=64), pack, run_folder=tmp_path)


def test_every_image_comes_once_an_epoch_and_the_order_depends_on_seed_and_step_alone() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    batches = Batches(images, np.arange(20), 5, seed=3)
    epoch = np.concatenate([batches.at(step).ravel() for step in range(4)])
    assert sorted(epoch.tolist()) == list(range(20))
    later = Batches(images, np.arange(20), 5, seed=3)
    assert np.array_equal(later.at(7), batches.at(7))
    assert not np.array_equal(batches.at(0), batches.at(4))


def test_splits_cover_the_set_and_do_not_meet(pack: Pack) -> None:
    training, validation = split_indices(pack, SMALL)
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(120))
    assert len(validation) == 24


def test_noise_is_a_function_of_seed_and_step() -> None:
    device = torch.device("cpu")
    assert torch.equal(noise_at(5, 1, (4, 3), device), noise_at(5, 1, (4, 3), device))
    assert not torch.equal(noise_at(5, 1, (4, 3), device), noise_at(6, 1, (4, 3), device))
    assert not torch.equal(noise_at(5, 1, (4, 3), device), noise_at(5, 2, (4, 3), device))


def test_damaged_checkpoints_are_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, Checkpoint(step, {"a": torch.full((3,), float(step))}), fence=1)
    newest = list_checkpoints(tmp_path)[-1]
    description = newest.read_bytes()
    for path, torn in ((newest, b"\xff" + description[1:]), (newest.with_suffix(".safetensors"), b"torn")):
        whole = path.read_bytes()
        path.write_bytes(torn)
        with pytest.raises(CheckpointError):
            read_checkpoint(newest)
        path.write_bytes(whole)
    newest.with_suffix(".safetensors").write_bytes(b"torn")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert found.tensors["a"].tolist() == [1, 1, 1]


def test_only_the_newest_checkpoints_are_kept_and_a_higher_fence_is_newer(tmp_path: Path) -> None:
    for step, fence in ((5, 1), (9, 1), (3, 2)):
        write_checkpoint(tmp_path, Checkpoint(step, {}), fence)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000009-1.json", "00000003-2.json"]


def test_the_checkpoint_that_is_written_stays(tmp_path: Path) -> None:
    """The best network of a run that was killed after step 20 and goes on from step 10."""
    for step in (20, 15):
        write_checkpoint(tmp_path, Checkpoint(step, {}), keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000015-0.json"]


def test_warnings_come_once_and_in_words() -> None:
    capacity = replace(SMALL, objective="capacity", num_steps=10_000, capacity_steps=100)
    watch = Watch(capacity, num_validation_images=1)
    metrics = {"loss": 4100.0, "kl": 0.0, "reconstruction_loss": 100.0, "capacity": 4.0, "kl_per_dimension": [0.0] * 4}
    warnings = watch.look(5_000, metrics)
    assert any("far from its capacity" in text for text in warnings)
    assert any("more than half of the reconstruction loss" in text for text in warnings)
    assert any("collapsed" in text for text in warnings)
    assert watch.look(5_001, metrics) == []
    # Swings about C cancel out of the mean KL, not out of the penalty.
    swinging = metrics | {"kl": 4.0, "kl_per_dimension": [1.0] * 4}
    assert Watch(capacity, num_validation_images=1).look(5_000, swinging | {"loss": 149.0}) == []
    assert len(Watch(capacity, num_validation_images=1).look(5_000, swinging | {"loss": 151.0})) == 1
    steered = replace(SMALL, num_steps=10_000, capacity_steps=100, restart_step=200)
    under = metrics | {"kl": 1.0, "kl_per_dimension": [0.25] * 4, "beta": 1.0}
    for components in (0, 2):
        watch = Watch(replace(steered, restart_components=components), num_validation_images=1)
        assert watch.look(9_999, under) == []  # It may still rise.
        (said,) = watch.look(10_000, under)
        assert "pay for no more" in said
        assert ("restart_components" in said) == (components == 0)
    assert "still falling" in Watch(steered, num_validation_images=1).look(10_000, under | {"beta": 3.0})[0]
    # Grey images have a loss that nobody can take from them.
    grey = swinging | {"reconstruction_loss": 1100.0, "loss": 1151.0}
    assert Watch(capacity, num_validation_images=1).look(5_000, grey) == []
    (said,) = Watch(capacity, num_validation_images=1).look(5_000, grey | {"bernoulli_floor": 1000.0})
    assert "above its floor (100)" in said
    ramp = Watch(replace(capacity, capacity_steps=20_000), num_validation_images=1, final_capacity=2.0)
    (said,) = ramp.look(50, swinging | {"loss": 100.0, "capacity": 0.01})
    assert said == "the run ends before C has come to 4 nats: capacity_steps is 20000"
    (said,) = Watch(capacity, num_validation_images=1, unread=["beta"]).look(50, swinging | {"loss": 100.0})
    assert said == "the objective capacity does not read beta"
    short = Watch(
        replace(SMALL, objective="annealed", capacity_steps=0, num_steps=100, anneal_steps=200), num_validation_images=1
    )
    assert "before β has fallen" in short.look(50, swinging)[0]
    flat = replace(SMALL, objective="annealed", capacity_steps=0, num_steps=100, beta_start=4.0, beta=4.0)
    assert not any("has fallen" in said for said in Watch(flat, num_validation_images=1).look(50, swinging))
    late = replace(SMALL, restart_step=24, capacity_steps=1, learning_rate_schedule="plateau")
    warnings = Watch(late, num_validation_images=0).look(4, swinging)
    assert any("before its restart" in text for text in warnings)
    assert any("without images for validation" in text for text in warnings)
    assert Watch(replace(late, restart_step=23), num_validation_images=1).look(4, swinging) == []
    without = replace(
        SMALL, objective="annealed", anneal_steps=1, capacity_steps=1, restart_components=2, restart_axes="independent"
    )
    unread = "without a restart the run does not read restart_components, restart_axes"
    assert unread in Watch(without, num_validation_images=1).look(4, swinging)
    assert unread not in Watch(replace(without, restart_step=5), num_validation_images=1).look(4, swinging)
    slow = replace(SMALL, optimizer="adadelta", capacity_steps=1)
    assert any("hardly learns" in said for said in Watch(slow, num_validation_images=1).look(4, swinging))
    fast = replace(slow, learning_rate=1.0)
    assert not any("hardly learns" in said for said in Watch(fast, num_validation_images=1).look(4, swinging))


def test_every_thread_of_a_run_flushes_denormals(pack: Pack, tmp_path: Path) -> None:
    # In a fresh process: OpenMP's threads keep the state that they were made with. The batch is too small for parts.
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
