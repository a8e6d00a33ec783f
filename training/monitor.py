"""Means, speed and warnings of a running training."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.info import active_dimensions
from training.config import RESTARTING, TrainingConfig
from training.schedules import LEAST_BETA


class Window:
    """Means since the last record, and the time that the steps took without validation and checkpoints."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._reconstruction_losses: list[float] = []
        self._kls: list[Tensor] = []
        self._num_images = 0
        self._started = time.perf_counter()
        self._pauses = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of a block out of the speed."""
        started = time.perf_counter()
        yield
        self._pauses += time.perf_counter() - started

    def add(self, loss: float, reconstruction: float, kls: Tensor, num_images: int) -> None:
        """Takes one step's losses (nats) and KL per dimension (D,) into the means."""
        self._losses.append(loss)
        self._reconstruction_losses.append(reconstruction)
        self._kls.append(kls)
        self._num_images += num_images

    def metrics(self) -> dict[str, Any]:
        """The means since the window was opened, and images/s."""
        kls = torch.stack(self._kls).mean(0).tolist()
        seconds = time.perf_counter() - self._started - self._pauses
        return {
            "loss": sum(self._losses) / len(self._losses),
            "reconstruction_loss": sum(self._reconstruction_losses) / len(self._losses),
            "kl": sum(kls),
            "kl_per_dimension": kls,
            "images_per_second": self._num_images / max(seconds, 1e-9),
        }


class Watch:
    """Says in words, once each, what is wrong with a run."""

    def __init__(
        self,
        config: TrainingConfig,
        *,
        num_validation_images: int,
        final_capacity: float | None = None,
        unread: Sequence[str] = (),
    ) -> None:
        """Args: config, its lengths in steps; final_capacity, C of the last step, nats (None: capacity_max); unread,
        settings that the objective does not read."""
        self._config, self._num_validation_images = config, num_validation_images
        self._final_capacity = config.capacity_max if final_capacity is None else final_capacity
        self._unread = unread
        self._said: set[str] = set()

    def look(self, step: int, metrics: dict[str, Any]) -> list[str]:
        """New warnings about a record's metrics."""
        config = self._config
        found: dict[str, str] = {}
        kl, rec = metrics["kl"], metrics["reconstruction_loss"]
        # A steered KL below C may still rise; what it comes to is known at the end.
        settled = config.objective != "controlled" and metrics.get("capacity") == self._final_capacity
        if "capacity" in metrics and (step >= config.num_steps or settled):
            distance = kl - metrics["capacity"]
            if abs(distance) > 0.1 * (1 + metrics["capacity"]):
                found["far"] = f"the KL ({kl:.2f} nats) is far from its capacity ({metrics['capacity']:.2f} nats)"
                if config.objective == "controlled" and distance < 0:
                    found["far"] += f": {_why_below(config, metrics['beta'])}"
        if config.objective == "capacity":
            # The mean of the penalties, which the KL's swings about C do not cancel out of.
            penalty = metrics["loss"] - rec
            error = rec - metrics.get("bernoulli_floor", 0.0)
            if step > 500 and penalty > 0.5 * error:
                found["dwarfed"] = (
                    f"γ·|KL − C| ({penalty:.0f}) is more than half of the reconstruction loss above its floor "
                    f"({error:.0f}): the images may be learnt late; try the controlled objective, or a smaller γ"
                )
        if config.objective in ("controlled", "capacity"):
            short_of = self._final_capacity - config.capacity_max
            if short_of * (config.capacity_start - config.capacity_max) > 0:
                found["short ramp"] = (
                    f"the run ends before C has come to {config.capacity_max:g} nats: capacity_steps is "
                    f"{config.capacity_steps}"
                )
        falls = config.objective == "annealed" and config.beta_start != config.beta
        if falls and config.num_steps < config.anneal_steps:
            found["short"] = (
                f"the run ends before β has fallen to {config.beta:g}: anneal_steps is {config.anneal_steps}"
            )
        if self._unread:
            found["unread"] = f"the objective {config.objective} does not read {', '.join(self._unread)}"
        if config.objective in RESTARTING and (config.restart_step or 0) >= config.num_steps:
            found["no restart"] = f"the run ends before its restart: restart_step is {config.restart_step}"
        if config.objective in RESTARTING and config.restart_step is None:
            names = ("restart_components", "restart_axes")
            if given := [name for name in names if getattr(config, name) not in (None, 0, "found")]:
                found["unread restart"] = f"without a restart the run does not read {', '.join(given)}"
        if config.optimizer == "adadelta" and config.learning_rate < 0.05:
            found["slow"] = (
                f"adadelta sets its steps itself, times learning_rate: at {config.learning_rate:g} it hardly learns; "
                "usual is 1"
            )
        if config.learning_rate_schedule == "plateau" and not self._num_validation_images:
            found["no plateau"] = "without images for validation the learning rate's plateau schedule does nothing"
        wanted = metrics.get("capacity", 1.0)
        if (
            step > min(2_000, config.num_steps // 2)
            and wanted > 0.5
            and not active_dimensions(metrics["kl_per_dimension"])
        ):
            found["collapsed"] = "the posterior has collapsed: no latent dimension carries information"
        new = [text for key, text in found.items() if key not in self._said]
        self._said |= found.keys()
        return new


def _why_below(config: TrainingConfig, beta: float) -> str:
    """Why the KL of a run with a steered β stays below its capacity."""
    if beta > max(config.beta_least, LEAST_BETA):
        return f"β ({beta:.3g}) is still falling; take a longer run or a smaller beta_start"
    why = f"at β {beta:.3g} the images pay for no more"
    if config.restart_step is not None and not config.restart_components:
        why += ", unless something small in them was passed over (restart_components can teach it)"
    return why
