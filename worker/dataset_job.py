"""The packing of a data set as a job. This module loads no torch.

A training whose data set has no pack makes this job, and claims it itself if no worker holds it. The set is thus packed
once, by the first worker that needs it, while the others wait for the job.
"""

import functools
import logging
import time
from collections.abc import Callable

from models.info import Preprocessing
from training.data.datasets import DatasetError
from training.data.packs import Pack, PackInfo, label_warnings
from worker.input_errors import INPUT_ERRORS, fail_for_input, fail_for_storage
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.counters import PACKING_DEADLINES
from worker.jobs.records import FINISHED, Job, TransitionRefused, UnknownJob
from worker.jobs.store import Admit, JobStore
from worker.runtime import Runtime
from worker.stores.dataset_records import pack_job_id
from worker.stores.packing import PackingDied, PackingLate, pack_in_child

REPORT_SECONDS = 0.5

log = logging.getLogger(__name__)

OnPacked = Callable[[int, int], None]
"""A function that is called with the number of images that are packed and of all images."""


class Stopped(Exception):
    """The packing ended because its job was cancelled, the worker stops, or the claim is lost."""


class Abandoned(Exception):
    """The job that needs the pack has to stop; the packing is requeued."""


def request_pack(
    store: JobStore,
    dataset_id: str,
    preprocessing: Preprocessing,
    *,
    name: str = "",
    admit: Admit | None = None,
    since: int | None = None,
) -> Job:
    """Returns the job that packs a data set with one preprocessing, which is made or run again if it is not under way.

    Args:
        store: The jobs.
        dataset_id: Id of the data set.
        preprocessing: Preprocessing of the pack.
        name: Name of the job for people; empty takes the id of the data set.
        admit: See JobStore.create.
        since: See JobStore.create.

    Raises:
        BeingDeleted: The data set is being deleted.
        JustDeleted: It was deleted after `since`.
    """
    request = {"dataset": dataset_id, "preprocessing": preprocessing.model_dump()}
    job_id = pack_job_id(dataset_id, preprocessing)
    create = functools.partial(
        store.create, "dataset", request, id=job_id, name=name or dataset_id, admit=admit, since=since
    )
    job = create()
    if job.is_finished:
        try:
            if job.status == "succeeded":
                store.delete(job.id)
                return create()
            return store.retry(job.id, admit=admit)
        except (TransitionRefused, UnknownJob):  # Another request did so at the same moment.
            return store.get(job.id)
    return job


def run_dataset_job(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    """Packs the data set of a claimed job and ends the claim."""
    pack_under_claim(services, claim, keeper, lambda done, total: None)


def pack_under_claim(services: Runtime, claim: Claim, keeper: ClaimKeeper, on_packed: OnPacked) -> Pack | None:
    """Packs the data set of a claimed job and ends the claim.

    Args:
        services: The runtime of the worker.
        claim: The claim on the packing.
        keeper: Keeps the claim.
        on_packed: Called while the packing goes on; may raise Abandoned.

    Returns:
        The pack, or None if the packing stopped or failed.

    Raises:
        Abandoned: `on_packed` raised it; the packing is requeued.
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
    except INPUT_ERRORS as error:
        fail_for_input(claim, error)
        return None
    except PackingDied as error:
        if isinstance(error, PackingLate):
            claim.store.count({PACKING_DEADLINES: 1})
        claim.fail("packing_died", str(error))
        return None
    except OSError as error:
        fail_for_storage(claim, error, "The data set could not be stored")
        return None
    if warnings := label_warnings(pack.folder):
        claim.event("warning", {"message": warnings[0]}, warnings=warnings)
    claim.succeed(describe_pack(pack.info))
    return pack


def describe_pack(info: PackInfo) -> dict[str, object]:
    """Returns the result of a packing job."""
    return {"num_images": info.num_images, "num_rejected": info.num_rejected, "digest": info.digest}


class _Watch:
    """The on_progress of a packing, which reports to the job. Both it and `check` raise Stopped to end the packing."""

    def __init__(self, services: Runtime, claim: Claim, keeper: ClaimKeeper, on_packed: OnPacked) -> None:
        self._services, self._claim, self._keeper, self._on_packed = services, claim, keeper, on_packed
        self._started = time.monotonic()
        self._reported = 0.0
        self._counts = (0, 0)

    def check(self) -> None:
        """Returns if the packing may go on.

        Raises:
            Stopped: The packing has to end.
            StorageFull: There is no room for it.
            Abandoned: The job that needs the pack has to stop.
        """
        if reason := self._keeper.stop_reason(self._services.stopping):
            raise Stopped(reason if reason in ("lost", "cancel") else "worker stopping")
        self._services.room.check()
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
        self._claim.post_progress(progress)


def wait_for_pack(
    services: Runtime,
    dataset_id: str,
    preprocessing: Preprocessing,
    on_packed: OnPacked,
    *,
    check_source: bool = False,
) -> Pack:
    """Opens the pack of a data set, makes it, or waits until another worker has made it.

    Args:
        services: The runtime of the worker.
        dataset_id: Id of the data set.
        preprocessing: Preprocessing of the pack.
        on_packed: Called now and then with the number of images that are packed and of all images; may raise Abandoned.
        check_source: See DatasetRegistry.open.

    Raises:
        DatasetError: The data set cannot be packed.
        UnknownDataset: There is no such data set.
        Abandoned: `on_packed` raised it.
    """
    logged = False
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
        elif not logged:
            log.info("job %s: waiting for the worker that packs %s", job.id, dataset_id)
            logged = True
        job = _follow(services.jobs, job.id, on_packed)
        if job.status == "failed" and job.error:
            raise DatasetError(job.error["code"], job.error["message"])
        if job.status == "cancelled":
            raise DatasetError("packing_cancelled", "The packing of the data set was cancelled.")


def _follow(store: JobStore, job_id: str, on_packed: OnPacked) -> Job:
    """Waits until a packing job has finished or is queued."""
    position: str | None = None
    while True:
        job = store.get(job_id)
        on_packed(job.progress.get("step", 0), job.progress.get("num_steps") or 0)
        if job.status in FINISHED or job.status == "queued":
            return job
        for event in store.wait_events(job_id, position, REPORT_SECONDS):
            position = event.id
