"""The restart within a run, after which the old network teaches the new one for some steps.

The old network is called the teacher, and the targets that it sets for posterior means of the new network are the
lessons (training.restart).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks import VAE
from models.posteriors import Posterior
from training.config import TrainingConfig
from training.data.packs import Pack
from training.inputs import Batches, Images, sample_input
from training.objectives.restarting import Restarting
from training.objectives.schedules import linear_ramp
from training.parts import Parts
from training.restart import Teacher, restart

_TURNING_SAMPLE = 8192
"""Number of images by which a restart rotates its latents; fourth moments need many."""
_STOPPABLE = 32
"""Number of batches of lessons that are computed between two checks for a reason to stop, which is at most a second."""


class Teaching:
    """The restart of one run. `teacher` is None before the restart, and once the teacher's weight has fallen to 0."""

    def __init__(self, config: TrainingConfig, pack: Pack, indices: NDArray[np.int64], batches: Batches) -> None:
        """Prepares the restart of one run.

        Args:
            config: The run's config, with lengths in steps.
            pack: All images.
            indices: Indices of the training split.
            batches: The run's batches.
        """
        self._config, self._pack, self._indices, self._batches = config, pack, indices, batches
        self._settings = config.objective if isinstance(config.objective, Restarting) else None
        self.teacher: Teacher | None = None
        self._lessons: Tensor | None = None

    def is_due(self, step: int) -> bool:
        """Returns whether the network must be drawn anew before this step.

        A run that was stopped while the lessons were computed already has its restart behind it.
        """
        return self._settings is not None and step == self._settings.restart_step and self.teacher is None

    def was_prepared(self, step: int) -> bool:
        """Returns whether the restart of this step has already happened; the step's preview was then already shown."""
        return self._settings is not None and step == self._settings.restart_step and self.teacher is not None

    def restart(self, network: VAE, parts: Parts, device: torch.device) -> None:
        """Draws all weights of the network anew, in place; the old network becomes the teacher.

        Args:
            network: The run's network.
            parts: The run's parts.
            device: The device of the network.
        """
        settings = self._settings
        assert settings is not None
        assert settings.restart_components is not None
        sample = sample_input(self._pack.images, device)
        self.teacher = restart(network, sample, self._config.seed + 1, settings.restart_components)
        if settings.restart_axes == "independent":
            with parts.paused():
                self.teacher.turn(self._pack.images, _turning_sample(self._indices, self._config.seed))

    def prepare(self, parts: Parts, should_stop: Callable[[], str | None]) -> bool:
        """Computes the lessons of all training images once, where the steps with a teacher use each image repeatedly.

        Args:
            parts: The run's parts.
            should_stop: Function that returns a reason to stop, or None.

        Returns:
            False if a reason to stop interrupted the computation.
        """
        if self.teacher is None or self._lessons is not None or not self._keeps_lessons(self.teacher):
            return True
        self._lessons = self._compute(self.teacher, parts, should_stop)
        return self._lessons is not None

    def loss(
        self,
        step: int,
        images: Images,
        chosen: NDArray[np.int64],
        parts: Parts,
        posterior: Posterior,
    ) -> Tensor | None:
        """Returns the teacher's addition to the loss of a step, and discards the teacher once its weight is 0.

        Args:
            step: The step.
            images: The step's images, (B, H, W, C) uint8.
            chosen: Indices of these images in the set, (B,).
            parts: The run's parts.
            posterior: The posterior of the images.

        Returns:
            Scalar, nats per image; None without a teacher.
        """
        if self.teacher is None:
            return None
        begin, num_steps = self._lesson_steps()
        strength = linear_ramp(step - begin, 1.0, 0.0, num_steps)
        if strength == 0:
            self.teacher = self._lessons = None
            return None
        if self._lessons is None:
            targets = parts.apply(self.teacher.targets, images)
        else:
            targets = self._lessons[torch.from_numpy(chosen).to(self._lessons.device)]
        return self.teacher.loss(targets, posterior.mean, posterior.log_variance, strength)

    def _keeps_lessons(self, teacher: Teacher) -> bool:
        """Returns whether the lessons are computed once and kept.

        The answer depends on the settings alone, since the bits of the result depend on the answer.
        """
        begin, num_steps = self._lesson_steps()
        num_steps = min(num_steps, self._config.num_steps - begin)
        return teacher.num_targets > 0 and num_steps >= 2 * self._batches.steps_per_epoch

    def _lesson_steps(self) -> tuple[int, int]:
        """Returns the step of the restart, and the number of steps over which the teacher's weight falls to 0."""
        settings = self._settings
        assert settings is not None
        assert settings.restart_step is not None
        assert settings.restart_steps is not None
        return settings.restart_step, settings.restart_steps

    def _compute(self, teacher: Teacher, parts: Parts, should_stop: Callable[[], str | None]) -> Tensor | None:
        """Returns targets (N, K) by image index, filled in for the training images; None if the run should stop."""
        images, batch_size = self._pack.images, self._batches.batch_size
        lessons = torch.zeros(len(images), teacher.num_targets, device=teacher.dimensions.device)
        chunks = np.array_split(self._indices, math.ceil(len(self._indices) / batch_size))
        for k, rows in enumerate(chunks, start=1):
            if k % _STOPPABLE == 0 and should_stop():
                return None
            lessons[torch.from_numpy(rows).to(lessons.device)] = parts.apply(teacher.targets, images[rows])
        return lessons


def _turning_sample(indices: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Returns a random sample, since even steps through a grid of factors can skip some of their values."""
    rng = np.random.default_rng([seed, 0x7E_A0_1E])
    return np.sort(rng.choice(indices, min(_TURNING_SAMPLE, len(indices)), replace=False))
