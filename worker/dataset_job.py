"""Packing of a data set as a job; free of torch.

A training whose data set has no pack makes this job and, if nobody has it yet, claims it for itself: so the set is
packed once, by whoever comes first, and the others wait for the record.
"""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from models.info import Preprocessing
from training.data.datasets import DatasetError
from training.data.packs import Pack, PackInfo
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.records import FINISHED, Job, JobStoreUnavailable, StaleClaim, TransitionRefused, UnknownJob
from worker.jobs.store import JobStore
from worker.runtime import Runtime
from worker.stores.datasets import UnknownDataset, pack_job_id
from worker.stores.packing import PackingDied, pack_in_child

REPORT_SECONDS = 0.5

log = logging.getLogger(__name__)

OnPacked = Callable[[int, int], None]
"""Called with (done, total) images."""


class Stopped(Exception):
    """Packing ended because it was asked to, or the claim is lost."""


class Abandoned(Exception):
    """Whoever packs for another job's sake has to stop; the packing goes back to the queue."""


def request_pack(store: JobStore, dataset_id: str, preprocessing: Preprocessing, *, name: str = "") -> Job:
    """The job that packs a data set in one way: a new one, or the one that is under way; a finished one runs again."""
    request = {"dataset": dataset_id, "preprocessing": asdict(preprocessing)}
    job = store.create("dataset", request, id=pack_job_id(dataset_id, preprocessing), name=name or dataset_id)
    if job.is_finished:
        try:
            if job.status == "succeeded":
                store.delete(job.id)
                return store.create("dataset", request, id=job.id, name=name or dataset_id)
            return store.retry(job.id)
        except (TransitionRefused, UnknownJob):  # Another did so in the same moment.
            return store.get(job.id)
    return job


def run_dataset_job(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    """Packs the data set of a claimed job, and ends the claim."""
    pack_under_claim(services, claim, keeper, lambda done, total: None)


def pack_under_claim(services: Runtime, claim: Claim, keeper: ClaimKeeper, on_packed: OnPacked) -> Pack | None:
    """Packs under a claim and ends it; None when it did not come to a pack.

    Args: on_packed, called as the packing goes on; may raise Abandoned.
    """
    request = claim.job.request
    preprocessing = Preprocessing(**request["preprocessing"])
    watch = _Watch(services, claim, keeper, on_packed)
    log.info("job %s: packing %s", claim.id, request["dataset"])
    try:
        packer = functools.partial(pack_in_child, check=watch.check)
        pack = services.datasets.pack(request["dataset"], preprocessing, on_progress=watch, packer=packer)
    except Stopped as stopped:
        if str(stopped) == "cancel":
            claim.cancelled()
        elif str(stopped) != "lost":
            claim.hand_back(str(stopped))
        return None
    except Abandoned:
        claim.hand_back("the training that packed it stopped")
        raise
    except DatasetError as error:
        claim.fail(error.code, error.message)
        return None
    except UnknownDataset as error:
        claim.fail("unknown_dataset", str(error))
        return None
    except PackingDied as error:
        claim.fail("packing_died", str(error))
        return None
    except OSError as error:
        claim.fail("storage_failed", f"The data set could not be stored: {error}")
        return None
    claim.succeed(describe_pack(pack.info))
    return pack


def describe_pack(info: PackInfo) -> dict[str, object]:
    """The result of a packing."""
    return {"num_images": info.num_images, "num_rejected": info.num_rejected, "digest": info.digest}


class _Watch:
    """on_progress of the packing: reports now and then. `check` and it raise Stopped when the packing should end."""

    def __init__(self, services: Runtime, claim: Claim, keeper: ClaimKeeper, on_packed: OnPacked) -> None:
        self._services, self._claim, self._keeper, self._on_packed = services, claim, keeper, on_packed
        self._started = time.monotonic()
        self._reported = 0.0
        self._counts = (0, 0)

    def check(self) -> None:
        """Whether the packing may go on."""
        if reason := self._keeper.stop_reason(self._services.stopping):
            raise Stopped(reason if reason in ("lost", "cancel") else "worker stopping")
        self._on_packed(*self._counts)

    def __call__(self, done: int, total: int) -> None:
        self._counts = (done, total)
        self.check()
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and done < total:
            return
        self._reported = now
        speed = done / max(now - self._started, 1e-6)
        fraction = done / total if total else 1.0
        progress = {
            "step": done,
            "num_steps": total,
            "fraction": fraction,
            "images_per_second": speed,
            "eta_seconds": (total - done) / speed if speed else None,
            "phase": "packing",
            "phase_fraction": fraction,
        }
        try:
            self._claim.progress(progress)
        except JobStoreUnavailable:
            pass  # The keeper has said so; the work goes on.
        except StaleClaim:
            raise Stopped("lost") from None


def wait_for_pack(
    services: Runtime,
    dataset_id: str,
    preprocessing: Preprocessing,
    on_packed: OnPacked,
    *,
    check_source: bool = False,
) -> Pack:
    """The pack of a data set: opened, made here, or made by another while this waits.

    Args: on_packed, called with (done, total) now and then; may raise Abandoned; check_source, as for
    DatasetRegistry.open.
    Raises: DatasetError, UnknownDataset, Abandoned.
    """
    waits_for_a_turn = False
    while True:
        pack = services.datasets.open(dataset_id, preprocessing, check_source=check_source)
        if pack is not None:
            return pack
        job = request_pack(services.jobs, dataset_id, preprocessing)
        claim = services.jobs.claim(job.id, services.name)
        if claim is not None:
            with ClaimKeeper(claim) as keeper:
                pack = pack_under_claim(services, claim, keeper, on_packed)
            if pack is not None:
                return pack
        elif not waits_for_a_turn:
            log.info("job %s: waiting for the worker that packs %s", job.id, dataset_id)
            waits_for_a_turn = True
        job = _follow(services.jobs, job.id, on_packed)
        if job.status == "failed" and job.error:
            raise DatasetError(job.error["code"], job.error["message"])
        if job.status == "cancelled":
            raise DatasetError("packing_cancelled", "The packing of the data set was cancelled.")


def _follow(store: JobStore, job_id: str, on_packed: OnPacked) -> Job:
    """Waits until a packing is finished, or waits in the queue."""
    position: str | None = None
    while True:
        job = store.get(job_id)
        on_packed(job.progress.get("step", 0), job.progress.get("num_steps") or 0)
        if job.status in FINISHED or job.status == "queued":
            return job
        for event in store.wait_events(job_id, position, REPORT_SECONDS):
            position = event.id
