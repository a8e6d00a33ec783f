"""Base classes of all objectives: the settings, and the penalty that computes the loss during a run.

Each objective is one file in this folder: a frozen group of settings (`Objective`) whose methods are pure functions of
the settings, and, where it keeps state during a run, a `Penalty`. The training loop names no objective. This module and
the settings are free of torch; only the methods of a penalty import it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import Config, ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from models.posteriors import Posterior
    from training.data.packs import Pack

DrawNoise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float32]]
"""A function that draws noise of a shape."""


DrawGroups = Callable[[np.random.Generator, int], NDArray[np.int64]]
"""A function that draws so many groups of images, and returns their indices, (n, group_size)."""


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns N(0, 1) noise of a shape."""
    return rng.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts about a run that its objective may use.

    Attributes:
        num_training_images: Number of images in the training split.
        batch_size: Images per step.
        latent_dim: Number D of latent dimensions.
        num_steps: Length of the run, in steps.
        seed: The run's seed.
        device: The torch device of the network.
    """

    num_training_images: int
    batch_size: int
    latent_dim: int
    num_steps: int
    seed: int
    device: Any


@dataclass(frozen=True, kw_only=True)
class StepLosses:
    """The results of a step's forward pass; gradients flow through all of them except `noise`.

    Attributes:
        step: The step, counted from 0.
        reconstruction: Reconstruction loss, scalar, nats per image.
        posterior: The posterior of the batch.
        noise: The noise that drew the latents, as Objective.draw_noise returns it: (B, D) for Gaussian latents.
        kl_per_dimension: KL to the prior per dimension, (D,), nats.
        kl: Sum of the KL over the dimensions, scalar, nats.
    """

    step: int
    reconstruction: "Tensor"
    posterior: "Posterior"
    noise: "Tensor"
    kl_per_dimension: "Tensor"
    kl: "Tensor"

    @property
    def mean(self) -> "Tensor":
        """Posterior means, (B, D)."""
        return self.posterior.mean

    @property
    def log_variance(self) -> "Tensor":
        """Posterior log-variances, (B, D)."""
        return self.posterior.log_variance

    @property
    def latents(self) -> "Tensor":
        """The latents that the decoder received, (B, D)."""
        return self.posterior.draw(self.noise)


class Penalty:
    """An objective in one run: its addition to the reconstruction loss, and its state."""

    steered_beta: float | None = None
    """β of the next step, where the objective steers β; else None."""

    def __init__(self, objective: "Objective", facts: RunFacts) -> None:
        self.objective, self.facts = objective, facts

    def loss(self, losses: StepLosses) -> "Tensor":
        """Returns the addition to the reconstruction loss, which is β·KL unless an objective overrides this method.

        Args:
            losses: The step's losses.

        Returns:
            Scalar, nats per image.
        """
        beta = self.objective.beta_at(losses.step)
        assert beta is not None
        return beta * losses.kl

    def after_step(self, losses: StepLosses, kl: float, other_latents: Callable[[], "Tensor"]) -> None:
        """Updates the penalty's state after the optimizer's update.

        Args:
            losses: The step's losses.
            kl: The step's KL, nats.
            other_latents: Function that draws the latents of another batch, (B, D), with the updated encoder and
                without gradients.
        """

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the values at a step that a record holds beside the losses, such as `beta` and `capacity`."""
        beta = self.objective.beta_at(step)
        return {} if beta is None else {"beta": beta}

    def begin_from_model(self, kl: float) -> None:
        """Adapts the state to a run that starts from a trained model's weights.

        Args:
            kl: The model's KL, nats.
        """

    def is_final(self, step: int) -> bool:
        """Returns whether the validation loss at a step measures the network's progress.

        While C moves, a validation loss with the final C mainly measures the distance from C.
        """
        return True

    def capacity_at(self, step: int) -> float | None:
        """Returns C at a step in nats; None for an objective without a capacity."""
        return None

    def state(self) -> dict[str, Any]:
        """Returns the numbers that a checkpoint stores."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the output of `state`; checkpoints of earlier versions may lack parts of it."""

    def networks(self) -> "dict[str, nn.Module]":
        """Returns the penalty's own networks by name; a checkpoint stores their weights."""
        return {}

    def optimizers(self) -> "dict[str, torch.optim.Optimizer]":
        """Returns the optimizers of the penalty's own networks, by name."""
        return {}


class Objective(Config):
    """Base of all objectives: the settings of one objective, and pure functions of them."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """The loss and its source, as in the description of the setting `objective`."""
    penalty_class: ClassVar[type[Penalty]] = Penalty
    use_of_batch: ClassVar[str] = ""
    """What the objective does with several images at once, for which it needs at least two; empty if it needs one."""
    group_size: ClassVar[int] = 1
    """Number of images that belong together; those of a group follow each other in a batch."""
    settled_by_run: ClassVar[tuple[str, ...]] = ()
    """Settings that keep, if unset, the value that they had when the run began, even where the default changes."""

    @property
    def latents(self) -> dict[str, Any]:
        """Settings of the network's latents (NetworkConfig); empty for Gaussian ones."""
        return {}

    def draw_noise(self, step: int) -> DrawNoise:
        """Returns the function that draws the noise of a step's latents; lengths must already be in steps."""
        return standard_normal

    def joined(self, posterior: "Posterior") -> "Posterior":
        """Returns the posterior that draws the latents of a batch, given that of the encoder; both of whole groups."""
        return posterior

    def draw_groups(self, pack: "Pack", indices: NDArray[np.int64]) -> DrawGroups | None:
        """Returns the function that draws the groups of a step; None where every image stands for itself.

        Args:
            pack: The set.
            indices: Indices of its training images.

        Raises:
            ConfigError: The set has no such groups.
        """
        return None

    def for_calibration(self) -> Self:
        """Returns the objective for a measurement of speed, whose images of noise are one sequence without factors."""
        return self

    def begin(self, facts: RunFacts) -> Penalty:
        """Returns the penalty of a run at step 0."""
        return self.penalty_class(self, facts)

    def beta_at(self, step: int) -> float | None:
        """Returns β at a step; None where β is not a function of the step."""
        return None

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns the loss of a whole split with the final β and C, in nats per image.

        Args:
            reconstruction: Mean reconstruction loss, nats per image.
            kl: Mean KL, nats.
        """
        raise NotImplementedError

    def in_steps(self, num_steps: int, steps_per_epoch: int) -> Self:
        """Returns the objective with all lengths in steps, including those that were unset or given in epochs.

        Args:
            num_steps: Length of the run, in steps.
            steps_per_epoch: Number of batches in one pass over the training split.
        """
        return self

    def for_pictures(self, num_channels: int, latent_dim: int) -> Self:
        """Returns the objective with the settings that depend on the pictures; lengths must already be in steps.

        Args:
            num_channels: 1 for grey images, 3 for RGB.
            latent_dim: Number D of latent dimensions.
        """
        return self

    def for_trained_weights(self, given: Mapping[str, Any]) -> Self:
        """Returns the objective for a run that starts from a model's weights and must not destroy them.

        Args:
            given: The settings that the run's request names; these are kept.
        """
        return self

    def with_ramp_of(self, share: float, num_steps: int, num_epochs: float | None) -> Self:
        """Returns the objective with a ramp of C over a share of the run; itself where it has no ramp.

        Args:
            share: Share of the run.
            num_steps: Length of the run, in steps.
            num_epochs: Length of the run in epochs, where it is given so; else None.
        """
        return self

    def check_run(self, batch_size: int, latent_dim: int) -> None:
        """Checks the settings against those of the run.

        Args:
            batch_size: Images per step.
            latent_dim: Number D of latent dimensions.

        Raises:
            ConfigError: The settings contradict each other; the error names the setting.
        """
        if self.use_of_batch and batch_size < 2:
            raise ConfigError("batch_size", f"must be at least 2 for {self.name}, which {self.use_of_batch}")

    def check_images(self, num_training_images: int) -> None:
        """Checks that the training split has enough images for the objective.

        Raises:
            ConfigError: The split has too few images.
        """
        if self.use_of_batch and num_training_images < 2:
            raise ConfigError("objective", f"{self.name} {self.use_of_batch}, and there is one image for training")

    def check_labels(self, factor_sizes: Sequence[int], has_sequences: bool) -> None:
        """Checks that a set has the labels that the objective needs.

        Args:
            factor_sizes: Number of values of each factor; empty without factors.
            has_sequences: Whether the set has frames of videos or other sequences.

        Raises:
            ConfigError: The set lacks the labels.
        """

    @property
    def restart_at(self) -> int | None:
        """Step at which the network is drawn anew, or None; lengths must already be in steps."""
        return None

    def warnings(self, record: "Record") -> dict[str, str]:
        """Returns warnings about a run, by a key for each kind of warning."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record of a run, from which an objective derives warnings.

    Attributes:
        step: Number of steps that are done.
        num_steps: Length of the run, in steps.
        metrics: The record's numbers: loss, reconstruction_loss, kl, and those of `Penalty.metrics`.
        final_capacity: C at the last step, nats; None without a capacity.
    """

    step: int
    num_steps: int
    metrics: Mapping[str, Any]
    final_capacity: float | None
