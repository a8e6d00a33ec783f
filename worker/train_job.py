"""A training as a job: the data set's pack, the training loop under a claim, and the model that comes of it."""

import logging
import re
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.config import ConfigError
from models.info import ModelInfo, write_info
from training.checkpoints import Checkpoint, CheckpointError, list_checkpoints, newest_checkpoint, write_checkpoint
from training.config import TrainingConfig, check_initial_network, config_from_json, with_channels
from training.data.datasets import DatasetError
from training.data.packs import Pack, keep_pack, kept_pack, release_pack
from training.device import DeviceError, pick_device
from training.loop import Progress, TrainingResult, train
from training.recorder import METRICS_FILE
from worker.dataset_job import Abandoned, wait_for_pack
from worker.evaluations import evaluate_for_job, save_scores
from worker.jobs import files as job_files
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.records import Job, JobStoreUnavailable, StaleClaim
from worker.rendering.labels import label_model
from worker.runtime import Runtime
from worker.stores.dataset_records import UnknownDataset
from worker.stores.models import UnknownModel, slug
from worker.stores.storage import LocalStorage, NotStored

REPORT_SECONDS = 0.5
LOG_SECONDS = 30.0

log = logging.getLogger(__name__)


def run_train_job(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    """Trains what a claimed job asks for, from its newest checkpoint on, and ends the claim."""
    _Training(services, claim, keeper).run()


class _Training:
    """One attempt at a training job."""

    def __init__(self, services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
        self.services, self.claim, self.keeper = services, claim, keeper
        self.folder = self._run_folder()
        self.warnings = list(claim.job.warnings)
        self.progress: dict[str, Any] = claim.job.progress
        self.reported = self.logged = float("-inf")
        self.packed = 0

    def run(self) -> None:
        request = self.claim.job.request
        try:
            config = self._config(request)
            pack = self._pack(config)
            if reason := self._should_stop():
                raise Abandoned(reason)
            result = self._train(config, pack)
        except Abandoned as stopped:
            self._stopped(str(stopped))
        except (ConfigError, DeviceError) as error:
            self.claim.fail("invalid_config", str(error))
        except DatasetError as error:
            self.claim.fail(error.code, error.message)
        except UnknownDataset as error:
            self.claim.fail("unknown_dataset", str(error))
        except UnknownModel as error:
            self.claim.fail("unknown_model", str(error))
        except CheckpointError as error:
            self.claim.fail("checkpoint_mismatch", str(error))
        except JobStoreUnavailable:
            raise
        except OSError as error:
            self.claim.fail("storage_failed", f"The run's files could not be written: {error}")
        else:
            self._finish(result, pack)

    def _config(self, request: dict[str, Any]) -> TrainingConfig:
        """The request's settings, with the pictures' number of channels where it leaves that open."""
        config = config_from_json(request["config"])
        if config.num_channels is not None:
            return config
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        if checkpoint is not None:
            return with_channels(config, checkpoint.state["config"]["num_channels"])
        return with_channels(config, self.services.datasets.num_channels(request["dataset"]))

    def _pack(self, config: TrainingConfig) -> Pack:
        """The images. A run that goes on keeps those that it began with, though the folder may have changed since."""
        dataset = self.claim.job.request["dataset"]
        begins = not list_checkpoints(self.folder / "checkpoints")
        pack = None if begins else kept_pack(self.folder, config.preprocessing)
        if pack is None:
            pack = wait_for_pack(self.services, dataset, config.preprocessing, self._packing, check_source=begins)
        if not begins:
            self._warn_of_change(dataset, pack)
        elif isinstance(self.services.storage, LocalStorage):
            keep_pack(pack, self.folder)
        return pack

    def _warn_of_change(self, dataset: str, pack: Pack) -> None:
        with suppress(UnknownDataset):  # Its pack is all that is left.
            if self.services.datasets.has_changed(dataset, pack):
                self._warn(
                    "the pictures have changed since they were packed; the run goes on with the "
                    f"{pack.info.num_images} that it began with"
                )

    def _train(self, config: TrainingConfig, pack: Pack) -> TrainingResult:
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        if checkpoint is not None:
            log.info("%s resuming from step %d", self.claim.log_prefix, checkpoint.step)
            self.claim.event("resumed", {"step": checkpoint.step}, resumed_from_step=checkpoint.step)
        initial = self._initial_weights(config) if checkpoint is None else None
        del checkpoint
        self._event("", {}, phase="training")
        return train(
            config,
            pack,
            run_folder=self.folder,
            name=self.claim.job.name or self.claim.job.request["dataset"],
            device=pick_device(self.services.settings.device),
            fence=self.claim.fence,
            initial_weights=initial,
            checkpoint_seconds=self.services.settings.checkpoint_seconds,
            on_progress=self._progress,
            should_stop=self._should_stop,
            save_checkpoint=self._save,
        )

    def _initial_weights(self, config: TrainingConfig) -> Path | None:
        """The folder of the model whose weights a run begins with, where the request names one."""
        source = self.claim.job.request.get("from")
        if not source:
            return None
        info, folder = self.services.models.get(source)
        check_initial_network(config, info.network)
        log.info("%s starting from the weights of %s, at step 0", self.claim.log_prefix, source)
        self.claim.event("started_from", {"model": source})
        return folder

    def _should_stop(self) -> str | None:
        return self.keeper.stop_reason(self.services.stopping)

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
        """An event of another phase than training; `data` may say how far it is: `fraction`."""
        self.progress = {**self.progress, "phase": phase, "phase_fraction": data.get("fraction")}
        with suppress(JobStoreUnavailable):  # The keeper has said so; the work goes on.
            self.claim.event(event_type, data, progress=self.progress)

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        last = progress.step == progress.num_steps
        try:
            # An attempt that goes on with a run says again what it sees.
            for text in progress.warnings:
                self._warn(text)
            if last or now - self.reported >= REPORT_SECONDS:
                self.reported = now
                self.progress = _progress_fields(progress)
                self.claim.progress(self.progress, progress.metrics)
        except JobStoreUnavailable:
            pass  # The keeper has said so; training goes on.
        except StaleClaim:
            self.keeper.lost = True
        if last or now - self.logged >= LOG_SECONDS:
            self.logged = now
            log.info("%s %s", self.claim.log_prefix, _line(progress))

    def _warn(self, text: str) -> None:
        """Says a warning, once a job: an attempt that goes on with a run sees the same with other numbers."""
        if _without_numbers(text) not in map(_without_numbers, self.warnings):
            log.warning("%s %s", self.claim.log_prefix, text)
            self.warnings.append(text)
            self.claim.event("warning", {"message": text}, warnings=self.warnings)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, unless the claim is another's; its name carries the fence."""
        if self.keeper.lost:
            return
        num_steps = checkpoint.state["config"]["num_steps"]
        self.progress = {**self.progress, **_place(checkpoint.step, num_steps)}
        try:
            self.claim.event("checkpoint", {"step": checkpoint.step}, progress=self.progress)
        except JobStoreUnavailable:
            pass
        except StaleClaim:
            self.keeper.lost = True
            return
        write_checkpoint(self.folder / "checkpoints", checkpoint, self.claim.fence)
        if not isinstance(self.services.storage, LocalStorage):
            self._upload()

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
        if not isinstance(self.services.storage, LocalStorage):
            self._upload()
        # The id follows from the job alone: an attempt that dies between the two steps leaves nothing double.
        _patiently(self.claim)
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
        # An earlier attempt that was stopped while it evaluated has registered it; names given since stay.
        if not models.exists(model_id) or models.info(model_id).weights_sha256 != info.weights_sha256:
            models.add(self.folder / "model", id=model_id)

    def _scores(self, result: TrainingResult, info: ModelInfo, pack: Pack, model_id: str) -> dict[str, Any]:
        """The evaluation that the request asks for, written into the model too. What fails here is a warning.

        Raises: Abandoned; the model is registered by then.
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
        """The description with what moving each dimension changes. Names are a gift: without them it is a model too."""
        try:
            device = next(result.network.parameters()).device
            return label_model(result.network.eval(), info, pack, device=device)
        except Exception:
            log.exception("%s the dimensions could not be named", self.claim.log_prefix)
            return info

    def _stopped(self, reason: str) -> None:
        if reason == "lost":
            raise StaleClaim(f"job {self.claim.id} has another holder")
        if reason == "cancel":
            self.claim.cancelled()
        elif reason == "pause":
            self.claim.paused()
        else:
            self.claim.hand_back("worker stopping")

    def _run_folder(self) -> Path:
        """The job's own folder in a local storage; else a local one, with what an earlier attempt stored."""
        storage, prefix = self.services.storage, job_files.folder(self.claim.id)
        if isinstance(storage, LocalStorage):
            return storage.path(prefix)
        folder = self.services.settings.cache_folder / "runs" / self.claim.id
        try:
            stored = storage.local_folder(prefix)
        except NotStored:
            return folder
        for path in stored.rglob("*"):
            target = folder / path.relative_to(stored)
            if path.parent == stored:  # The job's own files, but for the run's records: the longer ones know more.
                wanted = path.name == METRICS_FILE and not (
                    target.exists() and target.stat().st_size >= path.stat().st_size
                )
            else:
                wanted = path.is_file() and not path.name.startswith(".") and not target.exists()
            if wanted:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        return folder

    def _upload(self) -> None:
        """Brings the run's files into a remote storage; checkpoints that were removed here go there too."""
        storage, prefix = self.services.storage, job_files.folder(self.claim.id)
        storage.put_folder(prefix, self.folder)
        kept = {path.name for path in (self.folder / "checkpoints").iterdir()}
        for name in storage.list(f"{prefix}/checkpoints"):
            if name not in kept:
                storage.delete(f"{prefix}/checkpoints/{name}")


def _source(job: Job, origin: str) -> str:
    """Where the model comes from, in words; origin, the loop's own, names the model whose weights it began with."""
    start = f", starting from the model {job.request['from']}" if job.request.get("from") else ""
    return f"Trained by job {job.id}{start}. {origin}".strip()


def _patiently(claim: Claim) -> None:
    """Makes sure that the claim holds, however long Redis is away. Raises StaleClaim."""
    while True:
        try:
            claim.renew()
            return
        except JobStoreUnavailable:
            time.sleep(1.0)


def _progress_fields(progress: Progress) -> dict[str, Any]:
    speed = {"images_per_second": progress.images_per_second, "eta_seconds": progress.eta_seconds}
    return _place(progress.step, progress.num_steps) | speed


def _place(step: int, num_steps: int) -> dict[str, Any]:
    """Where a training stands, as fields of its job's progress."""
    fraction = step / num_steps
    return {"step": step, "num_steps": num_steps, "fraction": fraction, "phase": "training", "phase_fraction": fraction}


def _without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.]*", "", text)


def _line(progress: Progress) -> str:
    metrics = progress.metrics
    text = f"step {progress.step}/{progress.num_steps}, reconstruction {metrics['reconstruction_loss']:.1f}"
    if metrics.get("bernoulli_floor", 0) >= 0.05:
        text += f" (floor {metrics['bernoulli_floor']:.1f})"
    text += f", KL {metrics['kl']:.2f}"
    if "capacity" in metrics:
        text += f" (C {metrics['capacity']:.2f})"
    if "beta" in metrics:
        text += f", β {metrics['beta']:.3g} (normalised {metrics['normalised_beta']:.2g})"
    if progress.images_per_second is not None:
        text += f", {progress.images_per_second:.0f} images/s"
    if progress.eta_seconds is not None:
        text += f", {progress.eta_seconds:.0f} s left"
    return text
