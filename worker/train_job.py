"""A training as a job: the data set's pack, the training loop under a claim, and the model that it makes."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from models.config import ConfigError
from models.info import ModelInfo, write_info
from training.checkpoints import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    newest_checkpoint,
    planned_steps,
    write_checkpoint,
)
from training.config import TrainingConfig, check_initial_network, config_from_json, with_channels
from training.data.packs import Pack, keep_pack, kept_pack, label_warnings, left_out_text, release_pack
from training.device import DeviceError, pick_device
from training.loop import FINISH, TrainingResult, train
from training.monitor import Progress
from worker.dataset_job import Abandoned, wait_for_pack
from worker.estimates import record_speed, with_settled_length
from worker.evaluations import evaluate_for_job, save_scores
from worker.input_errors import INPUT_ERRORS, fail_for_input
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.records import Job, JobStoreUnavailable, StaleClaim, TransitionRefused
from worker.progress_text import (
    RemainingTime,
    losses_text,
    position_fields,
    progress_fields,
    progress_line,
    rounded,
    without_numbers,
)
from worker.rendering.labels import label_model
from worker.run_folder import RunUpload, begin_from_run, fetch_run_folder
from worker.runtime import Runtime
from worker.stores.dataset_records import UnknownDataset
from worker.stores.ids import slug
from worker.stores.room import StorageFull, is_full
from worker.stores.storage import LocalStorage

FULL = "full"
"""The reason of a training that stops since there is no room on the disk."""
ROOM_SECONDS = 2.0
REPORT_SECONDS = 0.5
LOG_SECONDS = 30.0

log = logging.getLogger(__name__)


def run_train_job(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    """Runs the training of a claimed job from its newest checkpoint, and ends the claim."""
    _Training(services, claim, keeper).run()


class _Training:
    """One attempt at a training job."""

    def __init__(self, services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
        self.services, self.claim, self.keeper = services, claim, keeper
        self.folder = fetch_run_folder(services, claim.id)
        self.upload = RunUpload(services, claim.id, self.folder)
        self.warnings = list(claim.job.warnings)
        self.progress: dict[str, Any] = claim.job.progress
        self.reported = self.logged = float("-inf")
        self.packed = 0
        self.looked = float("-inf")
        self.remaining = RemainingTime()

    @cached_property
    def device(self) -> str:
        """The torch device; reading it raises DeviceError if there is no such device."""
        return str(pick_device(self.services.settings.device))

    def run(self) -> None:
        """Trains, registers the model and ends the claim, whatever happens."""
        request = self.claim.job.request
        try:
            begin_from_run(self.services, self.claim, self.folder)
            config = self._config(request)
            pack = self._pack(config)
            if reason := self._should_stop():
                raise Abandoned(reason)
            result = self._train(self._with_length(config, pack), pack)
        except Abandoned as stopped:
            self._stopped(str(stopped))
        except (ConfigError, DeviceError) as error:
            self.claim.fail("invalid_config", str(error))
        except INPUT_ERRORS as error:
            fail_for_input(self.claim, error)
        except CheckpointError as error:
            self.claim.fail("checkpoint_mismatch", str(error))
        except OSError as error:
            self._storage_failed(error)
        else:
            try:
                self._finish(result, pack)
            except OSError as error:
                self._storage_failed(error)

    def _storage_failed(self, error: OSError) -> None:
        """Ends the claim for an error of the storage; raises it if it is one of Redis."""
        if isinstance(error, JobStoreUnavailable):
            raise error
        if is_full(error):  # The last checkpoint stays, from which the job goes on once there is room.
            self._stopped(FULL)
        else:
            self.claim.fail("storage_failed", f"The run's files could not be written: {error}")

    def _config(self, request: dict[str, Any]) -> TrainingConfig:
        """Returns the settings of the request, with the pictures' number of channels if the request sets none."""
        config = config_from_json(request["config"])
        if config.num_channels is not None:
            return config
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        if checkpoint is not None:
            return with_channels(config, checkpoint.state["config"]["num_channels"])
        return with_channels(config, self.services.datasets.num_channels(request["dataset"]))

    def _pack(self, config: TrainingConfig) -> Pack:
        """Returns the images. A resumed run keeps those that it began with, even if their folder has changed since."""
        dataset = self.claim.job.request["dataset"]
        begins = not list_checkpoints(self.folder / "checkpoints")
        pack = None if begins else kept_pack(self.folder, config.preprocessing)
        if pack is None:
            pack = wait_for_pack(self.services, dataset, config.preprocessing, self._packing, check_source=begins)
        if not begins:
            self._warn_of_change(dataset, pack)
        elif isinstance(self.services.storage, LocalStorage):
            keep_pack(pack, self.folder)
        if begins:
            packed = {"num_images": pack.info.num_images, "left_out": left_out_text(pack.folder)}
            self.claim.event("packed", packed)
        for text in label_warnings(pack.folder):
            self._warn(text)
        return pack

    def _warn_of_change(self, dataset: str, pack: Pack) -> None:
        with suppress(UnknownDataset):  # Only the pack is left of a data set that was deleted.
            if self.services.datasets.has_changed(dataset, pack):
                self._warn(
                    "the pictures have changed since they were packed; the run goes on with the "
                    f"{pack.info.num_images} that it began with"
                )

    def _with_length(self, config: TrainingConfig, pack: Pack) -> TrainingConfig:
        """Returns the config with the length that the run has or gets now."""
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        num_steps = None if checkpoint is None else checkpoint.state["config"]["num_steps"]
        return with_settled_length(self.services, self.claim, config, pack, self.device, num_steps)

    def _train(self, config: TrainingConfig, pack: Pack) -> TrainingResult:
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        if checkpoint is not None:
            log.info("%s resuming from step %d", self.claim.log_prefix, checkpoint.step)
            self.claim.post_event("resumed", {"step": checkpoint.step}, resumed_from_step=checkpoint.step)
        initial = self._initial_weights(config) if checkpoint is None else None
        del checkpoint
        self._event("", {}, phase="training")
        began = time.monotonic()
        result = train(
            config,
            pack,
            run_folder=self.folder,
            name=self.claim.job.name or self.claim.job.request["dataset"],
            device=self.device,
            fence=self.claim.fence,
            extend_to=self.claim.job.request.get("extend_to"),
            initial_weights=initial,
            checkpoint_seconds=self.services.settings.checkpoint_seconds,
            on_progress=self._progress,
            should_stop=self._stop_training,
            save_checkpoint=self._save,
            may_record=self._may_record,
        )
        num_steps = result.step - (result.resumed_from_step or 0)
        record_speed(self.services, config, self.device, num_steps, time.monotonic() - began)
        return result

    def _initial_weights(self, config: TrainingConfig) -> Path | None:
        """Returns the folder of the model whose weights the run begins with, or None if the request names none."""
        source = self.claim.job.request.get("from")
        if not source:
            return None
        info, folder = self.services.models.get(source)
        check_initial_network(config, info.network)
        log.info("%s starting from the weights of %s, at step 0", self.claim.log_prefix, source)
        self.claim.post_event("started_from", {"model": source})
        return folder

    def _pause_for_room(self) -> None:
        """Pauses the job, since the disk is full; a cancellation that came meanwhile cancels it instead."""
        self._warn("the disk is full, so the job was paused; resume it when there is room")
        with suppress(TransitionRefused):  # It is being paused or cancelled already.
            _patiently(lambda: self.services.jobs.pause(self.claim.id))
        self.claim.paused()

    def _should_stop(self) -> str | None:
        return self.keeper.stop_reason(self.services.stopping) or self._shortage()

    def _shortage(self) -> str | None:
        """Returns FULL if there is no room; this is looked at every ROOM_SECONDS."""
        if time.monotonic() - self.looked < ROOM_SECONDS:
            return None
        self.looked = time.monotonic()
        try:
            self.services.room.check()
        except StorageFull:
            return FULL
        return None

    def _may_record(self) -> bool:
        """Returns whether a record belongs to the run; a worker that was frozen may have lost it meanwhile."""
        self.keeper.look()
        return not self.keeper.lost

    def _stop_training(self) -> str | None:
        """Returns why the training has to stop now, or FINISH where it is to cool down and end."""
        reason = self._should_stop()
        return FINISH if reason is None and self.keeper.flags.finish else reason

    def _packing(self, done: int, total: int) -> None:
        reason = self._should_stop()
        if reason is not None:
            raise Abandoned(reason)
        now = time.monotonic()
        if total and done != self.packed and (now - self.reported >= REPORT_SECONDS or done == total):
            self.reported, self.packed = now, done
            fraction = done / total
            self._event("packing", {"done": done, "total": total, "fraction": fraction}, phase="packing")

    def _event(self, event_type: str, data: dict[str, Any], *, phase: str) -> None:
        """Adds an event of another phase than training, whose `data` may contain the `fraction` that is done."""
        self.progress = {**self.progress, "phase": phase, "phase_fraction": data.get("fraction")}
        self.claim.post_event(event_type, rounded(data), progress=self.progress)

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        last = progress.step == progress.num_steps
        # A resumed run reports its warnings again; `_warn` drops those that are known.
        for text in progress.warnings:
            self._warn(text)
        if last or now - self.reported >= REPORT_SECONDS:
            self.reported = now
            self.progress = progress_fields(progress)
            self.claim.post_progress(self.progress, rounded(progress.metrics))
        seconds_left = self.remaining.seconds(progress.step, progress.num_steps, now)
        if last or now - self.logged >= LOG_SECONDS:
            self.logged = now
            details = losses_text(progress.metrics, progress.images_per_second)
            line = progress_line(progress.step, progress.num_steps, seconds_left, details)
            log.info("%s %s", self.claim.log_prefix, line)

    def _warn(self, text: str) -> None:
        """Records a warning once per job; a resumed run may repeat it with other numbers."""
        if without_numbers(text) not in map(without_numbers, self.warnings):
            log.warning("%s %s", self.claim.log_prefix, text)
            self.warnings.append(text)
            self.claim.post_event("warning", {"message": text}, warnings=self.warnings)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, whose name carries the fence, unless the claim is lost."""
        if not self.keeper.holds():
            return
        self.progress = {**self.progress, **position_fields(checkpoint.step, planned_steps(checkpoint))}
        self.claim.post_event("checkpoint", {"step": checkpoint.step}, step=checkpoint.step, progress=self.progress)
        write_checkpoint(self.folder / "checkpoints", checkpoint, self.claim.fence)
        self.upload()

    def _finish(self, result: TrainingResult, pack: Pack) -> None:
        if result.outcome == "stopped":
            self._stopped(result.stop_reason or "")
            return
        if result.outcome == "diverged":
            self.claim.fail("diverged", result.message)
            return
        assert result.info is not None
        job = self.claim.job
        info = replace(
            result.info,
            dataset={**result.info.dataset, "id": job.request["dataset"]},
            source=_source(job, result.info.source),
        )
        self._event("", {}, phase="naming")
        info = self._with_labels(result, info, pack)
        write_info(self.folder / "model", info)
        self.upload()
        # The id follows from the job alone, so an attempt that dies after this registers no second model.
        _patiently(self.claim.renew)
        model_id = f"{slug(info.name)}-{job.id[-6:]}"
        self._register(model_id, info)
        try:
            scores = self._scores(result, info, pack, model_id)
        except Abandoned as stopped:
            self._stopped(str(stopped))
            return
        outcome = {
            **scores,
            "step": info.step,
            "reconstruction_loss": info.reconstruction_loss,
            "kl_per_dimension": info.kl_per_dimension,
            "active_dimensions": info.active_dimensions,
        }
        self.claim.succeed(outcome, model=model_id)
        release_pack(self.folder)

    def _register(self, model_id: str, info: ModelInfo) -> None:
        models = self.services.models
        # An earlier attempt that stopped during its evaluation has registered the model, which may be renamed since.
        if not models.exists(model_id) or models.info(model_id).weights_sha256 != info.weights_sha256:
            models.add(self.folder / "model", id=model_id)

    def _scores(self, result: TrainingResult, info: ModelInfo, pack: Pack, model_id: str) -> dict[str, Any]:
        """Makes the evaluation of the request, if any, and writes it into the model. An error becomes a warning.

        Returns:
            The evaluation as a field of the job's result; empty without one.

        Raises:
            Abandoned: The job has to stop; the model stays registered.
        """
        job = self.claim.job
        metrics = job.request.get("evaluate")
        if not metrics:
            return {}
        self.claim.made(model_id)
        try:
            found = evaluate_for_job(
                result.network.eval(),
                info,
                pack,
                metrics=metrics,
                seed=0,
                should_stop=self._should_stop,
                report=self._evaluating,
            )
            saved = save_scores(self.services.models, model_id, found, job.request["dataset"], info.weights_sha256)
        except (Abandoned, StaleClaim, JobStoreUnavailable):
            raise
        except Exception as error:
            log.exception("%s the model could not be evaluated", self.claim.log_prefix)
            self._warn(f"the model could not be evaluated: {error}"[:500])
            return {}
        return {"evaluation": {**found.to_json(), "saved": saved}}

    def _evaluating(self, progress: dict[str, Any]) -> None:
        self._event("evaluating", progress, phase="evaluating")

    def _with_labels(self, result: TrainingResult, info: ModelInfo, pack: Pack) -> ModelInfo:
        """Returns the description with the effect of each dimension.

        If labelling fails, this is logged and the model stays unlabelled.
        """
        try:
            device = next(result.network.parameters()).device
            return label_model(result.network.eval(), info, pack, device=device)
        except Exception:
            log.exception("%s the dimensions could not be named", self.claim.log_prefix)
            return info

    def _stopped(self, reason: str) -> None:
        """Ends the claim of a training that stopped: for a full disk, or a reason of `ClaimKeeper.stop_reason`."""
        if reason == FULL:
            self._pause_for_room()
        else:
            self.claim.stopped(reason)


def _source(job: Job, origin: str) -> str:
    """Returns the origin of a model in words.

    Args:
        job: The job that trained it.
        origin: The text of the training loop, which names the model whose weights the run began with.
    """
    start = f", starting from the model {job.request['from']}" if job.request.get("from") else ""
    return f"Trained by job {job.id}{start}. {origin}".strip()


def _patiently(call: Callable[[], object]) -> None:
    """Calls a function of the job store, again while Redis is away.

    Raises:
        StaleClaim: Another worker may hold the job.
    """
    while True:
        try:
            call()
            return
        except JobStoreUnavailable:
            time.sleep(1.0)
