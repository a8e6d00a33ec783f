"""The training loop. It works on packed images, a config and a folder, and knows no job, no queue and no HTTP."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from models.info import ModelInfo
from models.networks import VAE
from training.checkpoints import Checkpoint, newest_checkpoint, write_checkpoint
from training.config import TrainingConfig
from training.data.packs import Pack
from training.memory import keep_freed_memory
from training.monitor import Monitor, Progress
from training.parts import Parts
from training.recorder import Recorder, clear_run
from training.run import Run

FINISH = "finish"
"""Value that should_stop returns when the run should cool down from here and end as completed."""
FIRST_CHECKPOINT_SECONDS = 3.0
"""Time after which a run, also one that resumes, writes its first checkpoint."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The end of a run.

    Attributes:
        outcome: `completed`, `stopped` (should_stop returned stop_reason) or `diverged` (described in message).
        step: Number of steps that are done.
        resumed_from_step: Step of the checkpoint that the run resumed from, or None.
        network: The trained network.
        info: Description of the saved model; None unless the run completed.
        stop_reason: Reason that should_stop returned, or None.
        message: Description of a divergence.
    """

    outcome: str
    step: int
    resumed_from_step: int | None
    network: VAE
    info: ModelInfo | None = None
    stop_reason: str | None = None
    message: str = ""


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Treats numbers below 1e-38 as 0.

    The context must be entered before a thread's first parallel work, since OpenMP's threads copy this state.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        # The flag belongs to the processor's state, and other code in this thread may rely on denormals.
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
    extend_to: int | None = None,
    initial_weights: Path | None = None,
    checkpoint_seconds: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], str | None] | None = None,
    save_checkpoint: Callable[[Checkpoint], None] | None = None,
    may_record: Callable[[], bool] | None = None,
) -> TrainingResult:
    """Trains a β-VAE, or resumes a run that was stopped.

    On a CPU the result depends on config and pack alone: stopping and resuming changes no bit of it, given the same
    number of threads and the same convolutions (torch's or the compiled ones, models.convolutions.loader).

    Args:
        config: The settings; lengths in epochs are converted to steps, and an unset number of channels is the pack's.
        pack: The images, which are mapped; a GPU with room holds a copy of them (training.inputs.images_for).
        run_folder: Folder that receives checkpoints/, best/, metrics.jsonl, tensorboard/ and previews/, and at the end
            training.gif, capacity.png and model/.
        name: Name of the trained model.
        device: The device of the network.
        fence: Part of the checkpoints' names; see training.checkpoints.
        resume: Whether to resume from the newest intact checkpoint in run_folder. Otherwise, or where there is no
            checkpoint, the files of an earlier run in the folder are removed.
        extend_to: Number of steps to which a run that had ended goes on (Run.extend); None leaves its end.
        initial_weights: Folder of a model whose weights a new run starts from. This is not a resume: optimizer and step
            start anew. C starts at the model's KL, since the run would otherwise press the KL to 0 first.
        checkpoint_seconds: Time between checkpoints; the first one comes after FIRST_CHECKPOINT_SECONDS.
        on_progress: Function that is called with every record.
        should_stop: Function that is called before every step, and sometimes while a restart's lessons are computed. A
            reason ends the run after a checkpoint; FINISH starts a cooldown, after which the run ends as completed.
        save_checkpoint: Function that replaces the writing of checkpoints into run_folder.
        may_record: Function that is asked before each record; False drops it, since another process has the run.

    Returns:
        The result; cancelling and divergence are results, not exceptions.

    Raises:
        CheckpointError: The checkpoint belongs to other settings or images.
        ConfigError: The set has no training images, or too few for the objective.
        ValueError: The pack or the initial weights do not match the network, or the weights lie in the run's folder,
            which is cleared.
    """
    keep_freed_memory()
    checkpoint = newest_checkpoint(run_folder / "checkpoints") if resume else None
    initial = initial_weights if checkpoint is None else None
    run = Run(config, pack, torch.device(device), checkpoint=checkpoint, initial_weights=initial)
    if extend_to is not None:
        run.extend(extend_to)
    if checkpoint is None:
        _clear(run_folder, initial_weights)
    saver = _Saver(run, run_folder, fence, checkpoint, checkpoint_seconds, save_checkpoint)
    with closing(Recorder(run_folder, run.step, may_record)) as recorder:
        monitor = Monitor(run, recorder, on_progress)
        reason, message = _take_steps(run, recorder, monitor, saver, partial(_stop_reason, run, should_stop))
    outcome = "diverged" if message else "stopped" if reason else "completed"
    info = run.save_model(run_folder / "model", name) if outcome == "completed" else None
    if info is not None:
        recorder.finish(run.config.objective.restart_at)
    return TrainingResult(
        outcome=outcome,
        step=run.step,
        resumed_from_step=None if checkpoint is None else checkpoint.step,
        network=run.network,
        info=info,
        stop_reason=None if message else reason,
        message=message,
    )


def _take_steps(
    run: Run, recorder: Recorder, monitor: Monitor, saver: "_Saver", asked: Callable[[], str | None]
) -> tuple[str | None, str]:
    """Takes the run to its end: evaluates, samples, checkpoints, stops, steps and logs, in this order.

    Returns:
        Why the run stopped, None at its end; and how it diverged, empty if it did not.
    """
    with run.parts() as parts:
        while True:
            last = run.is_done
            validates, shows, restarts = _due(run)
            reason = None if last else asked()
            saves = last or bool(reason) or saver.is_due()
            # The last update may have broken the network, which only the next loss shows; it is checked before saving.
            if any((validates, shows, saves, restarts)) and (message := _divergence_ahead(run, monitor, parts, saver)):
                return reason, message
            # Evaluate.
            if validates:
                with monitor.paused(), parts.paused():
                    validation = run.validate()
                    recorder.record(run.step, validation)
                    saver.keep_if_best(validation)
                    monitor.validated(validation)
            # Sample.
            if shows:
                with monitor.paused(), parts.paused():
                    monitor.preview(run.preview_images())
            # Checkpoint and stop.
            if saves:
                with monitor.paused():
                    saver.save()
            if last or reason:
                return reason, ""
            # Step.
            with monitor.paused():
                if restarts:
                    run.restart(parts)
                if not run.teaching.prepare(parts, asked):
                    continue
            step = run.take_step(parts)
            if not math.isfinite(step.loss):
                return reason, saver.divergence(step.loss)
            # Log.
            monitor.stepped(step)


def _divergence_ahead(run: Run, monitor: Monitor, parts: Parts, saver: "_Saver") -> str:
    """Returns how the run has diverged if the loss of the next batch is not finite; else an empty text."""
    with monitor.paused():
        loss = run.next_loss(parts)
    return "" if math.isfinite(loss) else saver.divergence(loss)


def _stop_reason(run: Run, should_stop: Callable[[], str | None] | None) -> str | None:
    """Returns the reason to stop the run now, or None. A request to finish brings the run's end nearer instead."""
    reason = None if should_stop is None else should_stop()
    if reason == FINISH:
        run.finish()
        return None
    return reason


def _due(run: Run) -> tuple[bool, bool, bool]:
    """Returns whether the run should validate, show a preview, and restart the network before its next step."""
    config, step, last = run.config, run.step, run.is_done
    assert config.validation_steps is not None
    due = step > run.validated_step and (last or step % config.validation_steps == 0)
    shows = config.preview_steps > 0 and (last or step % config.preview_steps == 0)
    # A run that was stopped after its restart, while lessons were computed, has already shown this step's preview.
    shows = shows and not run.teaching.was_prepared(step)
    restarts = run.teaching.is_due(step) and run.finishing is None and run.extension is None
    return due and len(run.validation_indices) > 0, shows, restarts


def _clear(run_folder: Path, initial_weights: Path | None) -> None:
    if initial_weights is not None and initial_weights.resolve().is_relative_to(run_folder.resolve()):
        raise ValueError("initial weights: they lie in the run's folder, which is cleared for a new run")
    clear_run(run_folder)


class _Saver:
    """Writes the run's checkpoints, and knows when the next one is due."""

    def __init__(
        self,
        run: Run,
        run_folder: Path,
        fence: int,
        checkpoint: Checkpoint | None,
        seconds: float,
        save_checkpoint: Callable[[Checkpoint], None] | None,
    ) -> None:
        self._run, self._seconds = run, seconds
        self._folder, self._fence, self._save_elsewhere = run_folder, fence, save_checkpoint
        self._saved_step = None if checkpoint is None else checkpoint.step
        self._saved_at = time.monotonic()
        # The first checkpoint comes early, so that a run whose processes die soon after their start goes forward.
        self._wait = min(seconds, FIRST_CHECKPOINT_SECONDS)

    def is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._wait

    def save(self) -> None:
        self._saved_step = self._run.step
        state = self._run.checkpoint()
        if self._save_elsewhere is not None:
            self._save_elsewhere(state)
        else:
            write_checkpoint(self._folder / "checkpoints", state, self._fence)
        self._saved_at, self._wait = time.monotonic(), self._seconds

    def keep_if_best(self, validation: dict[str, float]) -> None:
        """Keeps the weights in best/ if this validation is the best so far."""
        self._run.keep_if_best(validation, self._folder / "best", self._fence)

    def divergence(self, loss: float) -> str:
        """Describes the divergence, and the checkpoint that remains."""
        saved = self._saved_step
        left = "there is no checkpoint yet" if saved is None else f"the checkpoint of step {saved} is intact"
        return f"the loss became {loss} at step {self._run.step}; {left}"
