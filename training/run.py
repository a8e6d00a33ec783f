"""A training run in memory: its state, and the operations on it."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.files import load_model, save_model
from models.info import ModelInfo
from models.networks import VAE, initialise_encoder_alive
from training.checkpoints import (
    Checkpoint,
    CheckpointError,
    below,
    check_same_run,
    config_of_run,
    load_optimizer_tensors,
    optimizer_tensors,
    write_checkpoint,
)
from training.config import (
    TrainingConfig,
    as_it_began,
    config_to_json,
    for_pictures,
    with_channels,
    with_lengths_in_steps,
)
from training.data.packs import Pack
from training.inputs import (
    Batches,
    Images,
    batches_of,
    check_split,
    evenly_spaced,
    images_for,
    noise_at,
    sample_input,
    split_indices,
)
from training.objectives.base import RunFacts, StepLosses
from training.objectives.losses import with_optimal_variance
from training.optimizers import LearningRate, make_optimizer
from training.parts import Parts
from training.pictures import PreviewImages
from training.restart import Teacher
from training.schedules import Extension, Finishing
from training.summary import FAMILIAR_IMAGES, SUMMARY_IMAGES, familiar, floor_of, summarise
from training.teaching import Teaching


@dataclass(frozen=True)
class Step:
    """The result of a step.

    Attributes:
        loss: The loss, nats per image.
        reconstruction: The reconstruction loss, nats per image.
        kl_per_dimension: KL per dimension, (D,), nats.
        num_images: Number of images in the batch.
    """

    loss: float
    reconstruction: float
    kl_per_dimension: Tensor
    num_images: int


class Run:
    """The state that a checkpoint stores, the images, and the operations that change the state.

    Raises:
        ConfigError: The set has no training images, or too few for the objective.
        ValueError: The pack or the initial weights do not match the network.
        CheckpointError: The checkpoint belongs to other settings or images.
    """

    def __init__(
        self,
        config: TrainingConfig,
        pack: Pack,
        device: torch.device,
        *,
        checkpoint: Checkpoint | None = None,
        initial_weights: Path | None = None,
    ) -> None:
        """Begins a run, or resumes one from its checkpoint.

        Args:
            config: The requested settings; lengths in epochs are converted to steps, and an unset number of channels is
                the pack's.
            pack: The images.
            device: The device of the network.
            checkpoint: The state to resume from.
            initial_weights: Folder of a model whose weights a new run starts from.
        """
        config = with_channels(config, pack.info.num_channels)
        expected = (config.image_size, config.image_size, config.num_channels)
        if pack.images.shape[1:] != expected:
            raise ValueError(f"dataset: packed as {pack.images.shape[1:]}, the network takes {expected}")
        self.pack, self.device = pack, device
        self.train_indices, self.validation_indices = split_indices(pack, config)
        check_split(config, len(self.train_indices), len(pack.images))
        self.batches = batches_of(pack, self.train_indices, config)
        # These batches differ from those of the steps; objectives that compare two batches use them.
        self._other_batches = Batches(pack.images, self.train_indices, config.batch_size, config.seed + 1)
        if checkpoint is not None:
            config = as_it_began(config, config_of_run(checkpoint))
        self.config = config = for_pictures(with_lengths_in_steps(config, self.batches.steps_per_epoch))
        held = images_for(pack.images, device, config.num_steps * self.batches.batch_size)
        self.batches.images = self._other_batches.images = held

        self.network = _new_network(config, pack)
        self.origin = ""
        """Sentence about the model whose weights the run began with; empty without one."""
        if initial_weights is not None:
            self.origin = _load_initial_weights(self.network, initial_weights)
        self.network.to(device).to(memory_format=torch.channels_last).train()
        self.step = 0
        self.validated_step = 0
        self.best_loss = float("inf")
        self.finishing: Finishing | None = None
        """The cooldown of a run that was requested to finish early, or None."""
        self.extension: Extension | None = None
        """More steps of a run that had ended, or None."""
        self.penalty = config.objective.begin(
            RunFacts(
                num_training_images=len(self.train_indices),
                batch_size=self.batches.batch_size,
                latent_dim=config.latent_dim,
                num_steps=config.num_steps,
                seed=config.seed,
                device=device,
            )
        )
        self._new_optimizer()
        self._previews = PreviewImages(pack.images, self.shown_indices)
        self.teaching = Teaching(config, pack, self.train_indices, self.batches)
        if initial_weights is not None:
            self.penalty.begin_from_model(self._sampled_kl())
        if checkpoint is not None:
            self._restore(checkpoint)

    @property
    def num_steps(self) -> int:
        """Number of steps after which the run ends: the config's, unless it finishes early or is extended."""
        ending = self.finishing or self.extension
        return self.config.num_steps if ending is None else ending.end

    @property
    def is_done(self) -> bool:
        """Whether the run has reached its end."""
        return self.step == self.num_steps

    @property
    def shown_indices(self) -> NDArray[np.int64]:
        """Indices of the split that previews and the model's description use: validation, or training without one."""
        return self.validation_indices if len(self.validation_indices) else self.train_indices

    def preview_images(self) -> Tensor:
        """Returns the images of a preview at this step, (N, C, H, W) in [0, 1], of which the first is a typical one."""
        return self._previews.of(self.network, self.device, step=self.step, num_steps=self.num_steps)

    def finish(self) -> None:
        """Brings the run's end nearer, by a cooldown from here over a share of the steps that are done.

        A restart that has not happened yet is cancelled. A second request changes nothing.
        """
        if self.finishing is None:
            self._finish(Finishing.after(self.step, self.num_steps), self.extension)

    def extend(self, num_steps: int) -> None:
        """Lets a run that has ended go on to this number of steps in all, or raises CheckpointError if it has not."""
        if num_steps <= self.num_steps:
            return
        if not self.is_done:
            raise CheckpointError(f"the run has not ended: it is at step {self.step} of {self.num_steps}")
        self._finish(None, Extension(self.step, num_steps))

    def scheduled(self, step: int) -> int:
        """Returns the step whose C and β hold at a step: itself, or the last one before an extension."""
        return step if self.extension is None else min(step, self.extension.begin)

    def parts(self) -> Parts:
        """Returns the passes of the network over batches, a context in which steps are taken."""
        config = self.config
        return Parts(self.network, config.likelihood, self.device, self.batches.batch_size, config.objective)

    def take_step(self, parts: Parts) -> Step:
        """Takes one optimizer step; where the loss is not finite, returns it without changing any state."""
        step = self.step
        self.learning_rate.apply(step)
        chosen = self.batches.indices_at(step)
        images = self.batches.images[chosen]
        losses = self._losses(parts, images)
        loss = losses.reconstruction + self.penalty.loss(losses)
        lesson = self.teaching.loss(step, images, chosen, parts, losses.posterior)
        if lesson is not None:
            loss = loss + lesson
        # Only this line of a step waits for the device.
        loss_value, reconstruction, kl = torch.stack([loss, losses.reconstruction, losses.kl]).tolist()
        if math.isfinite(loss_value):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.penalty.after_step(losses, kl, lambda: self._other_latents(parts, step))
            self.step += 1
        return Step(loss_value, reconstruction, losses.kl_per_dimension.detach(), len(images))

    def next_loss(self, parts: Parts) -> float:
        """Returns reconstruction loss plus KL of the next batch, nats per image; no weight changes."""
        with torch.no_grad():
            losses = self._losses(parts, self.batches.at(self.step))
            return (losses.reconstruction + losses.kl).item()

    def validate(self) -> dict[str, float]:
        """Returns the losses over the validation split, decoding the posterior mean, with the final C and β."""
        self.network.eval()
        summary = summarise(
            self.network, self.pack.images, self.validation_indices, self.config.likelihood, self.device
        )
        self.network.train()
        reconstruction, kl = summary["reconstruction_loss"], sum(summary["kl_per_dimension"])
        loss = self.config.objective.validation_loss(reconstruction, kl)
        self.validated_step = self.step
        found = {"validation_loss": loss, "validation_reconstruction_loss": reconstruction, "validation_kl": kl}
        if summary["explained_variance"] is not None:
            found["validation_explained_variance"] = summary["explained_variance"]
        return found

    def keep_if_best(self, validation: dict[str, float], folder: Path, fence: int) -> None:
        """Keeps the weights of the best validation, and passes the validation loss to the learning rate.

        Args:
            validation: The output of `validate`.
            folder: Folder of the best weights.
            fence: The fence of the job's worker.
        """
        loss = validation["validation_loss"]
        if loss < self.best_loss:
            self.best_loss = loss
            tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
            write_checkpoint(folder, Checkpoint(self.step, tensors, dict(validation)), fence, keep=1)
        if self.penalty.is_final(self.scheduled(self.step)):
            self.learning_rate.validated(loss)

    def restart(self, parts: Parts) -> None:
        """Draws the network's weights anew, and resets the optimizer."""
        self.teaching.restart(self.network, parts, self.device)
        self._new_optimizer()

    def checkpoint(self) -> Checkpoint:
        """Returns a copy of the whole state."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        for name, network in self.penalty.networks().items():
            tensors |= {f"objective.{name}.{key}": tensor for key, tensor in network.state_dict().items()}
        for name, optimizer in self.penalty.optimizers().items():
            own = optimizer_tensors(optimizer)
            tensors |= {f"objective_optimizer.{name}.{key}": tensor for key, tensor in own.items()}
        teacher = self.teaching.teacher
        if teacher is not None:
            tensors |= teacher.tensors()
        state = {
            "config": config_to_json(self.config),
            "dataset_digest": self.pack.info.digest,
            "teacher_dimensions": None if teacher is None else teacher.dimensions.tolist(),
            "learning_rate": self.learning_rate.state(),
            "origin": self.origin,
            "best_loss": self.best_loss if self.best_loss < float("inf") else None,
            "validated_step": self.validated_step,
            "typical_image": self._previews.by_codes,
            "finishing": None if self.finishing is None else [self.finishing.begin, self.finishing.end],
            "extension": None if self.extension is None else [self.extension.begin, self.extension.end],
            **self.penalty.state(),
        }
        return Checkpoint(self.step, {name: tensor.clone() for name, tensor in tensors.items()}, state)

    def save_model(self, folder: Path, name: str) -> ModelInfo:
        """Writes the trained model.

        Args:
            folder: The model's folder.
            name: The model's name.

        Returns:
            The model's description, with its losses on a sample of the images.
        """
        config, images = self.config, self.pack.images
        indices = evenly_spaced(self.shown_indices, SUMMARY_IMAGES)
        self.network.eval()
        info = ModelInfo(
            name=name,
            network=config.network,
            preprocessing=config.preprocessing,
            likelihood=config.likelihood,
            dataset={
                "id": self.pack.info.id,
                "name": self.pack.info.name,
                "digest": self.pack.info.digest,
                "num_images": len(images),
            },
            training=config_to_json(config),
            step=self.step,
            steered_beta=self.penalty.steered_beta,
            bernoulli_floor=floor_of(images, indices, config.likelihood),
            source=self.origin,
            **summarise(self.network, images, indices, config.likelihood, self.device),
            **familiar(
                self.network,
                images,
                evenly_spaced(self.shown_indices, FAMILIAR_IMAGES),
                config.likelihood,
                self.device,
            ),
        )
        return save_model(folder, self.network, info)

    def _restore(self, checkpoint: Checkpoint) -> None:
        check_same_run(checkpoint, self.config, self.pack.info.digest)
        state = checkpoint.state
        tensors = checkpoint.tensors
        self.network.load_state_dict(below("network.", tensors))
        load_optimizer_tensors(self.optimizer, tensors)
        for name, network in self.penalty.networks().items():
            network.load_state_dict(below(f"objective.{name}.", tensors))
        for name, optimizer in self.penalty.optimizers().items():
            load_optimizer_tensors(optimizer, below(f"objective_optimizer.{name}.", tensors))
        if state["teacher_dimensions"] is not None:
            self.teaching.teacher = Teacher.from_tensors(tensors, state["teacher_dimensions"], self.network)
        self.penalty.restore(state)
        self.learning_rate.restore(state["learning_rate"])
        self.origin = state.get("origin", "")  # Checkpoints of the first versions lack it.
        self.step = checkpoint.step
        self.best_loss = float("inf") if state["best_loss"] is None else state["best_loss"]
        self.validated_step = state["validated_step"]
        self._previews.by_codes = state.get("typical_image")
        finishing, extension = state.get("finishing"), state.get("extension")
        self._finish(finishing and Finishing(*finishing), extension and Extension(*extension))

    def _finish(self, finishing: Finishing | None, extension: Extension | None) -> None:
        self.finishing = self.learning_rate.finishing = finishing
        self.extension = self.learning_rate.extension = extension

    def _new_optimizer(self) -> None:
        self.optimizer = make_optimizer(self.config, self.network.parameters())
        self.learning_rate = LearningRate(self.config, self.optimizer)

    def _losses(self, parts: Parts, images: Images) -> StepLosses:
        config = self.config
        noise = self._noise(self.step, config.seed, len(images))
        summed, *parameters = parts.losses(images, noise)
        posterior = self.network.posterior_of(parameters)
        kls = posterior.kl().mean(0)
        return StepLosses(
            step=self.scheduled(self.step),
            reconstruction=with_optimal_variance(summed, config.likelihood, math.prod(images.shape[1:])),
            posterior=posterior,
            noise=noise,
            kl_per_dimension=kls,
            kl=kls.sum(),
        )

    @torch.no_grad()
    def _other_latents(self, parts: Parts, step: int) -> Tensor:
        """Returns latents (B, D) of another batch than the step's, from the encoder as it is now."""
        images = self._other_batches.at(step)
        parameters = parts.apply(lambda pictures: torch.cat(self.network.encoder(pictures), dim=1), images)
        posterior = self.network.posterior_of(torch.split(parameters, self.config.latent_dim, dim=1))
        return posterior.draw(self._noise(step, self.config.seed + 1, len(images)))

    def _noise(self, step: int, seed: int, num_images: int) -> Tensor:
        """Returns the noise that draws the latents of some images, (B, *noise_shape)."""
        draw = self.config.objective.draw_noise(self.scheduled(step))
        return noise_at(step, seed, (num_images, *self.network.noise_shape), self.device, draw)

    @torch.no_grad()
    def _sampled_kl(self) -> float:
        images = sample_input(self.pack.images, self.device)
        return self.network.posterior(images).kl().mean(0).sum().item()


def _new_network(config: TrainingConfig, pack: Pack) -> VAE:
    """Returns a network with weights drawn on the CPU from the config's seed, and an output at the mean colour."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = VAE(config.network)
        if config.encoder_start == "alive":
            initialise_encoder_alive(network.encoder)
    mean_colour = sample_input(pack.images, torch.device("cpu")).mean((0, 2, 3)).clamp(0.01, 0.99)
    network.decoder.output.bias = torch.nn.Parameter(torch.logit(mean_colour))
    return network


def _load_initial_weights(network: VAE, folder: Path) -> str:
    """Loads a model's weights into the network, and returns a sentence about their origin.

    Raises:
        ValueError: The model has another network.
    """
    source = load_model(folder)
    if source.info.network != network.config:
        raise ValueError(f"initial weights: {source.info.network} is not the network of this run")
    network.load_state_dict(source.network.state_dict())
    return f"Trained from the weights of {source.info.name} (sha256 {source.info.weights_sha256[:16]})."
