"""The one training loop. It knows packed images, a config and a folder; it knows no job, no queue, no HTTP."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import ConfigError, normalised_beta
from models.files import load_model, save_model
from models.info import ModelInfo
from models.networks import VAE, initialise_encoder_alive
from training.checkpoints import (
    Checkpoint,
    CheckpointError,
    below,
    load_optimizer_tensors,
    newest_checkpoint,
    optimizer_tensors,
    write_checkpoint,
)
from training.config import (
    RESTARTING,
    TrainingConfig,
    config_from_json,
    config_to_json,
    unread_settings,
    with_channels,
    with_lengths_in_steps,
    with_restart_components,
)
from training.data.packs import Pack
from training.inputs import Batches, evenly_spaced, noise_at, split_indices, to_input
from training.memory import keep_freed_memory
from training.monitor import Watch, Window
from training.objectives.losses import (
    btcvae_penalty,
    capacity_penalty,
    kl_per_dimension,
)
from training.optimizers import LearningRate, make_optimizer
from training.parts import Parts
from training.recorder import PREVIEW_IMAGES, Recorder, clear_run
from training.restart import Teacher, restart
from training.schedules import geometric_decay, linear_ramp, steered_beta
from training.summary import SUMMARY_IMAGES, floor_of, summarise

_SAMPLE = 512
"""Images that a start and a restart look at."""
_TURNING_SAMPLE = 8192
"""Images by which a restart turns what it has: fourth moments ask for many."""
_STOPPABLE = 32
"""Batches that a teacher looks at, outside of steps, before a run asks whether it should stop: a second or less."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands; losses in `metrics` are means over the steps since the last report, weights the newest."""

    step: int
    num_steps: int
    images_per_second: float | None
    eta_seconds: float | None
    metrics: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        return self.step / self.num_steps


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended: `completed`, `stopped` (should_stop gave stop_reason) or `diverged` (message says how)."""

    outcome: str
    step: int
    resumed_from_step: int | None
    network: VAE
    info: ModelInfo | None = None
    stop_reason: str | None = None
    message: str = ""


@dataclass
class _Run:
    """The state that a checkpoint holds."""

    network: VAE
    optimizer: torch.optim.Optimizer
    learning_rate: LearningRate
    teacher: Teacher | None = None
    origin: str = ""
    """The model whose weights it began with, in words."""
    step: int = 0
    beta: float = 0.0
    """β of the next step, where it is steered."""
    least_capacity: float = 0.0
    """What the model that it began with holds: C begins there, or the KL would be pressed to 0."""
    best_loss: float = float("inf")
    validated_step: int = 0

    def to_checkpoint(self, config: TrainingConfig, digest: str) -> Checkpoint:
        tensors = {f"network.{name}": tensor.clone() for name, tensor in self.network.state_dict().items()}
        tensors |= {name: tensor.clone() for name, tensor in optimizer_tensors(self.optimizer).items()}
        if self.teacher is not None:
            tensors |= {name: tensor.clone() for name, tensor in self.teacher.tensors().items()}
        state = {
            "config": config_to_json(config),
            "dataset_digest": digest,
            "teacher_dimensions": None if self.teacher is None else self.teacher.dimensions.tolist(),
            "learning_rate": self.learning_rate.state(),
            "origin": self.origin,
            "beta": self.beta,
            "least_capacity": self.least_capacity,
            "best_loss": self.best_loss if self.best_loss < float("inf") else None,
            "validated_step": self.validated_step,
        }
        return Checkpoint(self.step, tensors, state)

    def restore(self, checkpoint: Checkpoint, config: TrainingConfig, digest: str) -> None:
        state = checkpoint.state
        # Previews and records decide nothing.
        its = replace(_config_of(checkpoint), preview_steps=config.preview_steps, log_steps=config.log_steps)
        if differing := [f.name for f in fields(its) if getattr(its, f.name) != getattr(config, f.name)]:
            named = ", ".join(f"{name} {getattr(its, name)} (now {getattr(config, name)})" for name in differing)
            raise CheckpointError(f"the checkpoint belongs to a run with other settings: {named}")
        if state["dataset_digest"] != digest:
            raise CheckpointError("the checkpoint belongs to a run on other images")
        self.network.load_state_dict(below("network.", checkpoint.tensors))
        if state["teacher_dimensions"] is not None:
            self.teacher = Teacher.from_tensors(checkpoint.tensors, state["teacher_dimensions"], self.network)
        load_optimizer_tensors(self.optimizer, checkpoint.tensors)
        self.origin = state.get("origin", "")  # Checkpoints had these not always.
        self.beta, self.least_capacity = state.get("beta", self.beta), state.get("least_capacity", 0.0)
        self.step = checkpoint.step
        self.learning_rate.restore(state["learning_rate"])
        self.best_loss = float("inf") if state["best_loss"] is None else state["best_loss"]
        self.validated_step = state["validated_step"]


def _as_it_began(config: TrainingConfig, began: TrainingConfig) -> TrainingConfig:
    """What a run leaves open stays as it was when it began: how it is settled has changed once, and may again."""
    left_open = [name for name in ("restart_components", "validation_steps") if getattr(config, name) is None]
    return replace(config, **{name: getattr(began, name) for name in left_open})


def _config_of(checkpoint: Checkpoint) -> TrainingConfig:
    """Settings that a later version added have their defaults in an older checkpoint, or what stood for them then."""
    return config_from_json({"restart_components": 0} | checkpoint.state["config"])


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers under 1e-38 count as 0. Enter before a thread's first parallel work: OpenMP's threads copy its state."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        # It is a state of the processor, which other code of this thread may not expect.
        torch.set_flush_denormal(False)


@_denormals_flushed()
def train(
    config: TrainingConfig,
    pack: Pack,
    *,
    run_folder: Path,
    name: str = "model",
    device: str | torch.device = "cpu",
    fence: int = 0,
    resume: bool = True,
    initial_weights: Path | None = None,
    checkpoint_seconds: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], str | None] | None = None,
    save_checkpoint: Callable[[Checkpoint], None] | None = None,
) -> TrainingResult:
    """Trains a β-VAE, or goes on with a run that was stopped.

    On a CPU the result is a function of config and pack alone: stopping and resuming changes no bit of it, with the
    same number of threads and the same convolutions (torch's or the compiled ones, models.convolutions.loader).

    Args:
        config: settings; lengths in epochs are turned into steps here, and an open number of channels is the pack's.
        pack: the images; only mapped, never copied whole.
        run_folder: gets checkpoints/, best/, metrics.jsonl, tensorboard/, previews/; at the end training.gif,
            capacity.png and model/.
        fence: part of the checkpoints' names; see training.checkpoints.
        resume: go on from the newest whole checkpoint in run_folder. Without it, or where there is none, what an
            earlier run left in the folder is removed.
        initial_weights: a model's folder whose weights a new run starts from; its optimizer, step and C start afresh,
            so this is no resume. C starts at the KL that the model has, or the run would press it to 0 first.
        checkpoint_seconds: time between checkpoints.
        on_progress: called with every record. should_stop: called before every step, and at times while a teacher
            looks at the set; a reason ends the run after a checkpoint. save_checkpoint: replaces the writing of
            checkpoints into run_folder.
    Returns: the result; cancelling and divergence are results, not exceptions.
    Raises: CheckpointError when the checkpoint belongs to other settings or images; ConfigError when the set leaves
        no images to train on, or one for btcvae; ValueError when the pack or the initial weights do not fit the
        network, or those lie in the run's folder, which is cleared.
    """
    device = torch.device(device)
    keep_freed_memory()
    unread = unread_settings(config)
    config = with_channels(config, pack.info.num_channels)
    expected = (config.image_size, config.image_size, config.num_channels)
    if pack.images.shape[1:] != expected:
        raise ValueError(f"dataset: packed as {pack.images.shape[1:]}, the network takes {expected}")
    train_indices, validation_indices = split_indices(pack, config)
    _check_batches(config, len(train_indices), len(pack.images))
    batches = Batches(pack.images, train_indices, config.batch_size, config.seed)

    checkpoint_folder = run_folder / "checkpoints"
    checkpoint = newest_checkpoint(checkpoint_folder) if resume else None
    if checkpoint is not None:
        config = _as_it_began(config, _config_of(checkpoint))
    config = with_lengths_in_steps(config, batches.steps_per_epoch)
    config = with_restart_components(config)
    assert config.capacity_steps is not None
    assert config.validation_steps is not None
    run = _new_run(config, pack, device, initial_weights if checkpoint is None else None)
    if checkpoint is not None:
        run.restore(checkpoint, config, pack.info.digest)
    else:
        if initial_weights is not None and initial_weights.resolve().is_relative_to(run_folder.resolve()):
            raise ValueError("initial weights: they lie in the folder of the run, which is cleared for a new one")
        clear_run(run_folder)
    resumed_from_step = saved_step = checkpoint.step if checkpoint is not None else None

    def save() -> None:
        nonlocal saved_step
        saved_step = run.step
        state = run.to_checkpoint(config, pack.info.digest)
        if save_checkpoint is not None:
            save_checkpoint(state)
        else:
            write_checkpoint(checkpoint_folder, state, fence)

    recorder = Recorder(run_folder, run.step)
    shown = validation_indices if len(validation_indices) else train_indices
    preview_images = to_input(pack.images[evenly_spaced(shown, PREVIEW_IMAGES)], device)
    floor = floor_of(pack.images, evenly_spaced(train_indices, SUMMARY_IMAGES), config.likelihood)
    window = Window()
    watch = Watch(
        config,
        num_validation_images=len(validation_indices),
        final_capacity=capacity_at(config.num_steps, config, run.least_capacity),
        unread=unread,
    )
    saved_at = time.monotonic()
    metrics: dict[str, Any] = {}
    validation: dict[str, float] = {}
    lessons: Tensor | None = None
    reason: str | None = None
    message = ""

    with closing(recorder), Parts(run.network, config.likelihood, device, batches.batch_size) as parts:
        while True:
            last = run.step == config.num_steps
            due = run.step > run.validated_step and (last or run.step % config.validation_steps == 0)
            validates = due and len(validation_indices)
            restarts = config.objective in RESTARTING and run.step == config.restart_step
            if restarts and run.teacher is not None:  # Stopped while it looked at the set, after the preview.
                restarts = shows = False
            else:
                shows = config.preview_steps > 0 and (last or run.step % config.preview_steps == 0)
            reason = None if last or should_stop is None else should_stop()
            saves = last or reason or time.monotonic() - saved_at >= checkpoint_seconds
            # Nothing is kept of a network that its last update broke, which only the next loss tells.
            if validates or shows or saves or restarts:
                with window.paused():
                    loss_value = _next_loss(run, config, batches, parts, device)
                if not math.isfinite(loss_value):
                    message = _divergence(loss_value, run.step, saved_step)
                    break
            # Evaluate, on the whole validation split and with a C that does not move.
            if validates:
                with window.paused(), parts.paused():
                    validation = _validate(run, config, pack, validation_indices, device)
                    recorder.record(run.step, validation)
                    if validation["validation_loss"] < run.best_loss:
                        run.best_loss = validation["validation_loss"]
                        write_checkpoint(run_folder / "best", _weights_only(run, validation), fence, keep=1)
                    at_its_end = capacity_at(config.num_steps, config, run.least_capacity)
                    if (
                        config.objective != "controlled"
                        or capacity_at(run.step, config, run.least_capacity) == at_its_end
                    ):
                        # While C moves, a loss at its end tells how far C is, not what the network learns.
                        run.learning_rate.validated(validation["validation_loss"])
                    if last and metrics and on_progress is not None:
                        on_progress(_progress(run.step, config, batches.batch_size, metrics | validation, watch))
                run.validated_step = run.step
            # Sample.
            if shows:
                with window.paused(), parts.paused():
                    recorder.preview(run.step, run.network, preview_images)
            # Checkpoint and stop.
            if saves:
                with window.paused():
                    save()
                saved_at = time.monotonic()
            if last or reason:
                break
            # Step.
            if restarts:
                with window.paused():
                    _restart(run, config, pack, train_indices, parts, device)
            if run.teacher is not None and lessons is None and _keeps_lessons(run.teacher, config, batches):
                with window.paused():
                    lessons = _lessons(run.teacher, pack, train_indices, batches.batch_size, parts, should_stop)
                if lessons is None:
                    continue
            run.learning_rate.apply(run.step)
            capacity = capacity_at(run.step, config, run.least_capacity)
            beta = run.beta if config.objective == "controlled" else beta_at(run.step, config)
            chosen = batches.indices_at(run.step)
            images = pack.images[chosen]
            noise = noise_at(run.step, config.seed, (len(images), config.latent_dim), device)
            rec, mean, log_variance = parts.losses(images, noise)
            kls = kl_per_dimension(mean, log_variance)
            kl = kls.sum()
            if config.objective == "capacity":
                loss = rec + capacity_penalty(kl, capacity, config.gamma)
            elif config.objective == "btcvae":
                loss = rec + btcvae_penalty(mean, log_variance, noise, len(train_indices), config.beta)
            else:
                loss = rec + beta * kl
            if run.teacher is not None:
                assert config.restart_step is not None
                assert config.restart_steps is not None
                strength = linear_ramp(run.step - config.restart_step, 1.0, 0.0, config.restart_steps)
                if strength == 0:
                    run.teacher = lessons = None
                else:
                    if lessons is None:
                        targets = parts.apply(run.teacher.targets, images)
                    else:
                        targets = lessons[torch.from_numpy(chosen).to(device)]
                    loss = loss + run.teacher.loss(targets, mean, log_variance, strength)
            # The step's one wait for the device.
            loss_value, rec_value, kl_value = torch.stack([loss, rec, kl]).tolist()
            if not math.isfinite(loss_value):
                message = _divergence(loss_value, run.step, saved_step)
                break
            run.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            run.optimizer.step()
            if config.objective == "controlled":
                run.beta = steered_beta(beta, kl_value, capacity, gain=config.beta_gain, least=config.beta_least)
            run.step += 1
            # Log.
            window.add(loss_value, rec_value, kls.detach(), len(images))
            if run.step % config.log_steps == 0 or run.step == config.num_steps:
                metrics = window.metrics()
                if config.objective in ("controlled", "capacity"):
                    metrics["capacity"] = capacity
                if config.objective != "capacity":
                    metrics["beta"] = beta
                    metrics["normalised_beta"] = normalised_beta(beta, config.network)
                metrics["learning_rate"] = run.learning_rate.current
                if floor is not None:
                    metrics["bernoulli_floor"] = floor
                recorder.record(run.step, metrics)
                # The last record is reported with its validation.
                if on_progress is not None and (run.step < config.num_steps or not len(validation_indices)):
                    on_progress(_progress(run.step, config, batches.batch_size, metrics | validation, watch))
                window = Window()

    if message:
        outcome, info = "diverged", None
    elif reason:
        outcome, info = "stopped", None
    else:
        outcome = "completed"
        info = _finish(run, config, pack, evenly_spaced(shown, SUMMARY_IMAGES), device, name, run_folder / "model")
        recorder.finish(config.restart_step)
    return TrainingResult(
        outcome=outcome,
        step=run.step,
        resumed_from_step=resumed_from_step,
        network=run.network,
        info=info,
        stop_reason=None if message else reason,
        message=message,
    )


def _check_batches(config: TrainingConfig, num_training: int, num_images: int) -> None:
    """Raises ConfigError where the images leave nothing to train on."""
    if num_training == 0:
        raise ConfigError(
            "dataset", f"its own split leaves none of its {num_images} images for training; register it with split none"
        )
    if config.objective == "btcvae" and num_training < 2:
        raise ConfigError("objective", "btcvae compares the images of a batch, and there is one image for training")


def _restart(
    run: _Run,
    config: TrainingConfig,
    pack: Pack,
    train_indices: NDArray[np.int64],
    parts: Parts,
    device: torch.device,
) -> None:
    """Draws the network anew, with an optimizer that begins anew as well; what it was becomes its teacher."""
    assert config.restart_components is not None
    sample = _spread(pack.images, _SAMPLE, device)
    run.teacher = restart(run.network, sample, config.seed + 1, config.restart_components)
    if config.restart_axes == "independent":
        with parts.paused():
            run.teacher.turn(pack.images, _turning_sample(train_indices, config.seed))
    run.optimizer = make_optimizer(config, run.network.parameters())
    run.learning_rate = LearningRate(config, run.optimizer)


def _keeps_lessons(teacher: Teacher, config: TrainingConfig, batches: Batches) -> bool:
    """Whether the steps with a teacher see each image twice or more; a function of the settings, as the bits are."""
    assert config.restart_step is not None
    assert config.restart_steps is not None
    num_steps = min(config.restart_steps, config.num_steps - config.restart_step)
    return teacher.num_targets > 0 and num_steps >= 2 * batches.steps_per_epoch


def _lessons(
    teacher: Teacher,
    pack: Pack,
    indices: NDArray[np.int64],
    batch_size: int,
    parts: Parts,
    should_stop: Callable[[], str | None] | None,
) -> Tensor | None:
    """What a teacher says of each training image, once for all steps, since it does not change.

    Returns: targets (N, K) by an image's place in the set, of which only those at `indices` are filled; None if there
        was a reason to stop.
    """
    lessons = torch.zeros(len(pack.images), teacher.num_targets, device=teacher.dimensions.device)
    for k, rows in enumerate(np.array_split(indices, math.ceil(len(indices) / batch_size)), start=1):
        if k % _STOPPABLE == 0 and should_stop is not None and should_stop():
            return None
        lessons[torch.from_numpy(rows).to(lessons.device)] = parts.apply(teacher.targets, pack.images[rows])
    return lessons


def _next_loss(run: _Run, config: TrainingConfig, batches: Batches, parts: Parts, device: torch.device) -> float:
    """Reconstruction and KL of the batch that comes next, nats; no weight moves."""
    images = batches.at(run.step)
    noise = noise_at(run.step, config.seed, (len(images), config.latent_dim), device)
    with torch.no_grad():
        rec, mean, log_variance = parts.losses(images, noise)
        return (rec + kl_per_dimension(mean, log_variance).sum()).item()


def _divergence(loss: float, step: int, saved_step: int | None) -> str:
    left = "there is no checkpoint yet" if saved_step is None else f"the checkpoint of step {saved_step} is intact"
    return f"the loss became {loss} at step {step}; {left}"


def _finish(
    run: _Run,
    config: TrainingConfig,
    pack: Pack,
    indices: NDArray[np.int64],
    device: torch.device,
    name: str,
    folder: Path,
) -> ModelInfo:
    """Writes the trained model, with what it does on the given images."""
    run.network.eval()
    info = ModelInfo(
        name=name,
        network=config.network,
        preprocessing=config.preprocessing,
        likelihood=config.likelihood,
        dataset={
            "id": pack.info.id,
            "name": pack.info.name,
            "digest": pack.info.digest,
            "num_images": len(pack.images),
        },
        training=config_to_json(config),
        step=run.step,
        steered_beta=run.beta if config.objective == "controlled" else None,
        bernoulli_floor=floor_of(pack.images, indices, config.likelihood),
        source=run.origin,
        **summarise(run.network, pack.images, indices, config.likelihood, device),
    )
    return save_model(folder, run.network, info)


def capacity_at(step: int, config: TrainingConfig, least: float = 0.0) -> float:
    """C of a step, nats: its ramp, but at least `least`.

    Where β is steered the ramp ends at a restart, whose network says at once what it can.
    """
    assert config.capacity_steps is not None
    if config.objective == "controlled" and config.restart_step is not None and step >= config.restart_step:
        return max(config.capacity_max, least)
    return max(linear_ramp(step, config.capacity_start, config.capacity_max, config.capacity_steps), least)


def beta_at(step: int, config: TrainingConfig) -> float:
    """β of a step where nothing steers it: constant, or falling for the annealed objective."""
    if config.objective == "annealed":
        return geometric_decay(step, config.beta_start, config.beta, config.anneal_steps)
    return config.beta


def _spread(images: NDArray[np.uint8], count: int, device: torch.device) -> Tensor:
    """Some images from all over a set, as a network's input."""
    return to_input(images[evenly_spaced(np.arange(len(images)), count)], device)


def _turning_sample(indices: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """By chance: even steps through a grid of factors can pass over some of their values."""
    rng = np.random.default_rng([seed, 0x7E_A0_1E])
    return np.sort(rng.choice(indices, min(_TURNING_SAMPLE, len(indices)), replace=False))


def _new_run(config: TrainingConfig, pack: Pack, device: torch.device, initial_weights: Path | None) -> _Run:
    """A run at step 0: weights drawn on the CPU from the config's seed, a decoder that begins at the mean colour."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = VAE(config.network)
        if config.encoder_start == "alive":
            initialise_encoder_alive(network.encoder)
    mean_colour = _spread(pack.images, _SAMPLE, torch.device("cpu")).mean((0, 2, 3)).clamp(0.01, 0.99)
    network.decoder.output.bias = torch.nn.Parameter(torch.logit(mean_colour))
    origin = ""
    if initial_weights is not None:
        source = load_model(initial_weights)
        if source.info.network != config.network:
            raise ValueError(f"initial weights: {source.info.network} is not the network of this run")
        network.load_state_dict(source.network.state_dict())
        origin = f"Trained from the weights of {source.info.name} (sha256 {source.info.weights_sha256[:16]})."
    network.to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(config, network.parameters())
    run = _Run(network, optimizer, LearningRate(config, optimizer), origin=origin, beta=config.beta_start)
    if initial_weights is not None and config.objective in ("controlled", "capacity"):
        with torch.no_grad():
            kl = kl_per_dimension(*network.encode(_spread(pack.images, _SAMPLE, device))).sum().item()
        run.least_capacity = min(kl, config.capacity_max)
        if config.objective == "controlled":
            run.beta = max(1.0, config.beta_least)
    return run


def _weights_only(run: _Run, validation: dict[str, float]) -> Checkpoint:
    tensors = {f"network.{name}": tensor for name, tensor in run.network.state_dict().items()}
    return Checkpoint(run.step, tensors, dict(validation))


def _validate(
    run: _Run, config: TrainingConfig, pack: Pack, indices: NDArray[np.int64], device: torch.device
) -> dict[str, float]:
    """Losses over a whole split, decoding the posterior mean, with weights that do not move.

    C is at capacity_max and β at its last. Where β is steered, the distance from C counts as if γ were 1: no nat of
    KL is to be bought that is worth less than one of reconstruction.
    """
    run.network.eval()
    summary = summarise(run.network, pack.images, indices, config.likelihood, device)
    run.network.train()
    rec, kl = summary["reconstruction_loss"], sum(summary["kl_per_dimension"])
    if config.objective == "capacity":
        loss = rec + config.gamma * abs(kl - config.capacity_max)
    elif config.objective == "controlled":
        loss = rec + abs(kl - config.capacity_max)
    else:
        # The total correlation is no function of one image; β·KL bounds the btcvae objective from above for β ≥ 1.
        loss = rec + config.beta * kl
    return {"validation_loss": loss, "validation_reconstruction_loss": rec, "validation_kl": kl}


def _progress(step: int, config: TrainingConfig, batch_size: int, metrics: dict[str, Any], watch: Watch) -> Progress:
    speed = metrics["images_per_second"]
    return Progress(
        step=step,
        num_steps=config.num_steps,
        images_per_second=speed,
        eta_seconds=(config.num_steps - step) * batch_size / speed,
        metrics=metrics,
        warnings=watch.look(step, metrics),
    )
