"""Computes means, speed and warnings of a running training, and reports them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.config import normalised_beta
from models.info import active_dimensions
from training.config import TrainingConfig
from training.inputs import evenly_spaced
from training.objectives.base import Record
from training.recorder import Recorder
from training.run import Run, Step
from training.summary import SUMMARY_IMAGES, floor_of

_FEW_IMAGES = 200
_LITTLE_EXPLAINED = 0.75
"""Share of the variance below which the pictures may have too little in common. Models of faces, chairs and sprites
explain .81 to .95; of 1 500 unrelated pictures, ten principal components explain .72."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run.

    Attributes:
        step: Number of steps that are done.
        num_steps: Length of the run, in steps.
        images_per_second: Speed without validation, previews and checkpoints.
        eta_seconds: Time to the end of the run.
        metrics: Losses as means over the steps since the last record, and the newest weights (β, C, learning rate).
        warnings: New warnings.
    """

    step: int
    num_steps: int
    images_per_second: float | None
    eta_seconds: float | None
    metrics: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


class Window:
    """Means since the last record, and the duration of the steps without validation and checkpoints."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._reconstruction_losses: list[float] = []
        self._kls: list[Tensor] = []
        self._num_images = 0
        self._started = time.perf_counter()
        self._pauses = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the duration of a block from the speed."""
        started = time.perf_counter()
        yield
        self._pauses += time.perf_counter() - started

    def add(self, loss: float, reconstruction: float, kls: Tensor, num_images: int) -> None:
        """Adds one step to the means.

        Args:
            loss: The step's loss, nats per image.
            reconstruction: The step's reconstruction loss, nats per image.
            kls: KL per dimension, (D,), nats.
            num_images: Number of images in the step.
        """
        self._losses.append(loss)
        self._reconstruction_losses.append(reconstruction)
        self._kls.append(kls)
        self._num_images += num_images

    def metrics(self) -> dict[str, Any]:
        """Returns the means since the window was opened, and the speed in images per second."""
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
    """Writes each warning about a run once."""

    def __init__(
        self,
        config: TrainingConfig,
        *,
        num_validation_images: int,
        num_images: int | None = None,
        final_capacity: float | None = None,
    ) -> None:
        """Prepares the warnings of one run.

        Args:
            config: The run's config, with lengths in steps.
            num_validation_images: Number of images in the validation split.
            num_images: Number of images of the set; None says nothing about it.
            final_capacity: C of the last step, nats, where the objective has one.
        """
        self._config, self._num_validation_images = config, num_validation_images
        self._num_images, self._final_capacity = num_images, final_capacity
        self._said: set[str] = set()

    def look(self, step: int, metrics: dict[str, Any]) -> list[str]:
        """Returns the warnings about a record that were not returned before.

        Args:
            step: Number of steps that are done.
            metrics: The record's numbers, with those of the last validation.
        """
        config = self._config
        record = Record(step=step, num_steps=config.num_steps, metrics=metrics, final_capacity=self._final_capacity)
        found = config.objective.warnings(record) | self._about_the_set(step, metrics)
        if config.optimizer == "adadelta" and config.learning_rate < 0.05:
            found["slow"] = (
                f"adadelta scales its own step sizes by learning_rate: at {config.learning_rate:g} it hardly learns; "
                "the usual value is 1"
            )
        if config.learning_rate_schedule == "plateau" and not self._num_validation_images:
            found["no plateau"] = "the plateau schedule of the learning rate has no effect without validation images"
        target = metrics.get("capacity", 1.0)
        if (
            step > min(2_000, config.num_steps // 2)
            and target > 0.5
            and not active_dimensions(metrics["kl_per_dimension"])
        ):
            found["collapsed"] = "the posterior has collapsed: no latent dimension carries information"
        new = [text for key, text in found.items() if key not in self._said]
        self._said |= found.keys()
        return new

    def _about_the_set(self, step: int, metrics: dict[str, Any]) -> dict[str, str]:
        """Returns warnings about a set that does not suit a VAE."""
        found = {}
        if self._num_images is not None and self._num_images < _FEW_IMAGES:
            found["few images"] = (
                f"the set has only {self._num_images} pictures, which the network can learn by heart: its latents need "
                "some hundreds of pictures of one kind, better thousands"
            )
        explained = metrics.get("validation_explained_variance", 1.0)
        if step == self._config.num_steps and explained < _LITTLE_EXPLAINED:
            share = f"only {explained:.0%}" if explained > 0 else "nothing"
            found["unrelated images"] = (
                f"the reconstructions explain {share} of what differs between the pictures: they may have too little "
                "in common, or need more steps or latents; rows of a traversal will be blurred"
            )
        return found


class Monitor:
    """Records the steps of a run, and reports them together with its validations."""

    def __init__(self, run: Run, recorder: Recorder, on_progress: Callable[[Progress], None] | None) -> None:
        self._run, self._recorder, self._on_progress = run, recorder, on_progress
        sample = evenly_spaced(run.train_indices, SUMMARY_IMAGES)
        self._floor = floor_of(run.pack.images, sample, run.config.likelihood)
        self._watch = Watch(
            run.config,
            num_validation_images=len(run.validation_indices),
            num_images=len(run.pack.images),
            final_capacity=run.penalty.capacity_at(run.config.num_steps),
        )
        self._window = Window()
        self._metrics: dict[str, Any] = {}
        self._validation: dict[str, float] = {}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the duration of a block from the speed."""
        with self._window.paused():
            yield

    def preview(self, images: Tensor) -> None:
        """Saves a preview of the images, (N, C, H, W) in [0, 1], of which the first is traversed."""
        run = self._run
        self._recorder.preview(run.step, run.num_steps, run.network, images, run.config.objective.restart_at)

    def stepped(self, step: Step) -> None:
        """Adds a step to the means, and records and reports them when a record is due."""
        run = self._run
        self._window.add(step.loss, step.reconstruction, step.kl_per_dimension, step.num_images)
        if run.step % run.config.log_steps and not run.is_done:
            return
        self._metrics = self._window.metrics() | self._settings()
        self._recorder.record(run.step, self._metrics)
        # The last record is reported together with its validation.
        if not run.is_done or not len(run.validation_indices):
            self._report()
        self._window = Window()

    def validated(self, validation: dict[str, float]) -> None:
        """Adds a validation to the following reports; the last validation is reported at once."""
        self._validation = validation
        if self._run.is_done and self._metrics:
            self._report()

    def _settings(self) -> dict[str, float]:
        """Returns the values of the last step that a record holds beside the losses."""
        run = self._run
        values = run.penalty.metrics(run.scheduled(run.step - 1))
        if "beta" in values:
            values["normalised_beta"] = normalised_beta(values["beta"], run.config.network)
        values["learning_rate"] = run.learning_rate.current
        if self._floor is not None:
            values["bernoulli_floor"] = self._floor
        return values

    def _report(self) -> None:
        if self._on_progress is None:
            return
        run, speed = self._run, self._metrics["images_per_second"]
        progress = Progress(
            step=run.step,
            num_steps=run.num_steps,
            images_per_second=speed,
            eta_seconds=(run.num_steps - run.step) * run.batches.batch_size / speed,
            metrics=self._metrics | self._validation,
            warnings=self._watch.look(run.step, self._metrics | self._validation),
        )
        self._on_progress(progress)
