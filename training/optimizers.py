"""Makes the optimizer and the learning rate that a config names."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from training.config import TrainingConfig
from training.schedules import Extension, Finishing, cooldown, cosine_decay


def make_optimizer(config: TrainingConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Returns the optimizer that the config names, in torch's fused implementation for Adam and AdamW."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=0.9)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay)
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay)
    return torch.optim.Adadelta(parameters, lr=rate, weight_decay=decay)


class LearningRate:
    """Sets the optimizer's rate before every step: the config's schedule, times the factor of past plateaus."""

    def __init__(self, config: TrainingConfig, optimizer: torch.optim.Optimizer) -> None:
        self._config, self.optimizer = config, optimizer
        self._factor, self._best, self._waited = 1.0, float("inf"), 0
        self.current = config.learning_rate
        self.finishing: Finishing | None = None
        """The cooldown of a run that ends early, or None."""
        self.extension: Extension | None = None
        """More steps of a run that had ended, over which the schedule begins anew, or None."""

    def apply(self, step: int) -> None:
        """Sets the rate for the given step."""
        if self.finishing is None:
            self.current = self._scheduled(step)
        else:
            self.current = self._scheduled(self.finishing.begin) * self.finishing.factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.current

    def _scheduled(self, step: int) -> float:
        rate, num_steps = self._config.learning_rate * self._factor, self._config.num_steps
        if self.extension is not None:
            step, num_steps = step - self.extension.begin, self.extension.end - self.extension.begin
        if self._config.learning_rate_schedule == "cosine":
            return rate * cosine_decay(step, num_steps)
        if self._config.learning_rate_schedule == "cooldown":
            return rate * cooldown(step, num_steps)
        return rate

    def validated(self, loss: float) -> None:
        """Lowers the rate of the plateau schedule after too many validations without a better loss.

        Args:
            loss: The validation loss, nats per image.
        """
        if self._config.learning_rate_schedule != "plateau":
            return
        if loss < self._best:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited >= self._config.plateau_patience:
            self._factor *= self._config.plateau_factor
            self._waited = 0

    def state(self) -> dict[str, Any]:
        """Returns the state that a checkpoint stores."""
        best = self._best if self._best < float("inf") else None
        return {"factor": self._factor, "best": best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the output of `state`."""
        self._factor, self._waited = state["factor"], state["waited"]
        self._best = float("inf") if state["best"] is None else state["best"]
