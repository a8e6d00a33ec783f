"""What every objective shares: its settings' base class, and the penalty that it becomes in a run.

An objective is one file in this folder: a frozen group of settings (`Objective`) whose methods are pure functions of
them, and, where it keeps state during a run, a `Penalty`. The training loop knows no objective by name. This module
and the settings are free of torch; only a penalty at work needs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from models.config import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What an objective may know of the run that it works in.

    Attributes:
        num_training_images: Images in the training split.
        batch_size: Images a step.
        latent_dim: Number D of latent dimensions.
        num_steps: Length of the run.
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
    """What a step's forward pass gives; gradients flow through all of it but `noise`.

    Attributes:
        step: The step, counted from 0.
        reconstruction: Reconstruction loss, scalar, nats an image.
        mean: Posterior means, (B, D).
        log_variance: Posterior log-variances, (B, D).
        noise: The N(0, 1) noise that drew the latents, (B, D).
        kl_per_dimension: KL to the prior per dimension, (D,), nats.
        kl: Its sum, scalar, nats.
    """

    step: int
    reconstruction: "Tensor"
    mean: "Tensor"
    log_variance: "Tensor"
    noise: "Tensor"
    kl_per_dimension: "Tensor"
    kl: "Tensor"

    @property
    def latents(self) -> "Tensor":
        """The latents that the decoder got, (B, D)."""
        latents: Tensor = self.mean + (0.5 * self.log_variance).exp() * self.noise
        return latents


class Penalty:
    """An objective at work in one run: what it adds to the reconstruction loss, and the state that it keeps."""

    steered_beta: float | None = None
    """β of the next step, where the objective steers it."""

    def __init__(self, objective: "Objective", facts: RunFacts) -> None:
        self.objective, self.facts = objective, facts

    def loss(self, losses: StepLosses) -> "Tensor":
        """Returns what is added to the reconstruction loss: β·KL unless an objective says otherwise; scalar, nats."""
        beta = self.objective.beta_at(losses.step)
        assert beta is not None
        return beta * losses.kl

    def after_step(self, losses: StepLosses, kl: float, other_latents: Callable[[], "Tensor"]) -> None:
        """Updates the penalty's own state after the optimizer's update.

        Args:
            losses: The step's losses.
            kl: The step's KL, nats.
            other_latents: Draws the latents of another batch, (B, D), with the updated encoder and no gradient.
        """

    def metrics(self, step: int) -> dict[str, float]:
        """Returns what a record says of the given step beside the losses: `beta`, `capacity` and the like."""
        beta = self.objective.beta_at(step)
        return {} if beta is None else {"beta": beta}

    def begin_from_model(self, kl: float) -> None:
        """Adapts to the weights of a trained model, whose KL is given in nats."""

    def is_final(self, step: int) -> bool:
        """Returns whether the validation loss of the given step tells what the network learns.

        While C moves, a loss at its end tells how far C is.
        """
        return True

    def capacity_at(self, step: int) -> float | None:
        """Returns C of a step in nats; None for an objective without a capacity."""
        return None

    def state(self) -> dict[str, Any]:
        """Returns the numbers that a checkpoint keeps."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave. Checkpoints of earlier versions may lack parts of it."""

    def networks(self) -> "dict[str, nn.Module]":
        """Returns networks of the penalty's own, whose weights a checkpoint keeps, by name."""
        return {}

    def optimizers(self) -> "dict[str, torch.optim.Optimizer]":
        """Returns the optimizers of those networks, by name."""
        return {}


class Objective(Config):
    """Base of all objectives: the settings that one reads, and pure functions of them."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """The loss and its source, as the documentation of `objective` lists it."""
    penalty_class: ClassVar[type[Penalty]] = Penalty
    settled_by_run: ClassVar[tuple[str, ...]] = ()
    """Settings that, left open, keep for the whole run the value that its beginning gave them."""

    def begin(self, facts: RunFacts) -> Penalty:
        """Returns the penalty of a run at step 0."""
        return self.penalty_class(self, facts)

    def beta_at(self, step: int) -> float | None:
        """Returns β of a step, where it is a function of the step."""
        return None

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Returns the loss of a whole split, with β and C at their last values, in nats an image."""
        raise NotImplementedError

    def in_steps(self, num_steps: int, steps_per_epoch: int) -> Self:
        """Returns the objective with every length that was left open, or given in epochs, in steps."""
        return self

    def for_pictures(self, num_channels: int, latent_dim: int) -> Self:
        """Returns the objective, its lengths known, with what was left open until the pictures are known."""
        return self

    def for_trained_weights(self, given: Mapping[str, Any]) -> Self:
        """Returns the objective for a run that starts from a model's weights, which it must not throw away.

        Args:
            given: The settings that the run's request names, which stay.
        """
        return self

    def with_ramp_of(self, share: float, num_steps: int, num_epochs: float | None) -> Self:
        """Returns the objective with a ramp of C over a share of the run; itself where there is no ramp."""
        return self

    def check_run(self, batch_size: int, latent_dim: int) -> None:
        """Checks the settings against those of the run.

        Raises:
            ConfigError: The two contradict each other; it names the setting.
        """

    def check_images(self, num_training_images: int) -> None:
        """Checks that the training split suffices.

        Raises:
            ConfigError: It does not.
        """

    @property
    def restart_at(self) -> int | None:
        """Step at which the network is drawn anew, once lengths are in steps; None: never."""
        return None

    def warnings(self, record: "Record") -> dict[str, str]:
        """Returns what is wrong with a run, by a key for each kind of warning."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record of a run, as an objective looks at it for warnings.

    Attributes:
        step: Steps that are done.
        num_steps: Length of the run.
        metrics: The record's numbers: loss, reconstruction_loss, kl, and those of `Penalty.metrics`.
        final_capacity: C of the last step, nats, where there is one.
    """

    step: int
    num_steps: int
    metrics: Mapping[str, Any]
    final_capacity: float | None
